"""Bad input at every field: a clear 4xx naming the field, and nothing stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from clawhaven.api.app import MAX_BODY_BYTES
from tests.api.conftest import FORM, assert_error
from tests.workflows.scene import TOKEN, Scene, ScriptedTelegram

JSON = {"content-type": "application/json"}
WRONG_TYPES: list[Any] = [None, 7, 1.5, True, [], {}, ["x"], {"x": "y"}]
NASTY = [
    "../../etc/passwd",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a`id`",
    "\\\\server\\share",
]
"""Texts that a name refuses, and instructions carry as they are."""

EMAILS = ["", " ", "x", "a@", "@b.co", "a b@example.com", "a@b@example.com", "a\r\nBcc: x@example.com", "a\0@b.co"]
EMAILS += ["a@example..com", "<a@example.com>", "a@example.com;b@example.com", "a" * 260 + "@example.com", "ü" * 321]
EMAILS += ["a\u202e@example.com", "😀@exa mple.com", "a@[127.0.0.1]", "a@example.com'--"]


@pytest.fixture
def refuse(http: TestClient, scene: Scene) -> Callable[..., dict[str, Any]]:
    """Sends a request that must be refused, and sees that nothing was stored."""

    def send(status: int, field: str | None, method: str, path: str, code: str | None = None, **sent: Any) -> Any:
        before = scene.counts()
        body = assert_error(http.request(method, path, **sent), status, code, field)
        assert scene.counts() == before, (path, sent)
        return body

    return send


def test_every_field_of_a_sign_up_refuses_every_wrong_type(refuse: Callable[..., Any]) -> None:
    fields = {**FORM, "telegram_bot_token": None, "plan": "personal", "persona": "personal"}
    for field in fields:
        for wrong in WRONG_TYPES:
            if field == "telegram_bot_token" and wrong is None:
                continue
            refuse(400, field, "POST", "/api/signup", json={**fields, field: wrong})
    for field in ("email", "assistant_name"):
        refuse(400, field, "POST", "/api/signup", json={name: FORM[name] for name in FORM if name != field})
    refuse(400, "is_operator", "POST", "/api/signup", json={**FORM, "is_operator": True})


def test_values_that_are_no_values(refuse: Callable[..., Any]) -> None:
    for email in EMAILS:
        refuse(400, "email", "POST", "/api/signup", json={**FORM, "email": email})
        refuse(400, "email", "POST", "/api/waitlist", json={"email": email})
        refuse(400, "email", "POST", "/api/auth/link", json={"email": email})
    for name in ["", "   ", "\0", "\n\t", "\u202e", "\u200b\u200d", "x" * 41, "x" * 10_000, "😀" * 41, *NASTY]:
        refuse(400, "assistant_name", "POST", "/api/signup", json={**FORM, "assistant_name": name})
    for text in ["x" * 5001, "x" * 20_001, "😀" * 5001]:
        refuse(400, "custom_instructions", "POST", "/api/signup", json={**FORM, "custom_instructions": text})
    for word in ["", "nobody", "../dev", "personal\0", "PERSONAL", *NASTY]:
        refuse(400, "plan", "POST", "/api/signup", json={**FORM, "plan": word})
        refuse(400, "persona", "POST", "/api/signup", json={**FORM, "persona": word})
    for token in ["x", "123456789:short", "123456789:" + "A" * 300, "1:" + "\0" * 35, ScriptedTelegram.REFUSED]:
        body = refuse(400, "telegram_bot_token", "POST", "/api/signup", json={**FORM, "telegram_bot_token": token})
        assert token not in json.dumps(body), "a secret is never answered back"
    down = {**FORM, "telegram_bot_token": ScriptedTelegram.DOWN}
    refuse(503, "telegram_bot_token", "POST", "/api/signup", "unavailable", json=down)


def test_bytes_that_are_no_json(refuse: Callable[..., Any]) -> None:
    good = json.dumps(FORM).encode()
    for content in [
        b"",
        b"{",
        b"{'a': 1}",
        b"\xff\xfe",
        b"\0",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"null",
        b'"x"',
        b"[]",
    ]:
        refuse(400, "body", "POST", "/api/signup", content=content, headers=JSON)
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", ""]:
        refuse(400, "body", "POST", "/api/signup", content=good, headers={"content-type": kind})
    for bare in [b"NaN", b"Infinity", b"-Infinity", b"1e999"]:
        content = good.replace(b'"Ada"', bare)
        refuse(400, "assistant_name", "POST", "/api/signup", content=content, headers=JSON)
    for field in FORM:
        lonely = json.dumps({**FORM, field: "MARK"}).replace("MARK", "\\ud800").encode()
        refuse(400, field, "POST", "/api/signup", content=lonely, headers=JSON)
    refuse(400, None, "POST", "/api/signup", content=good[:-1] + b', "\\udfff": 1}', headers=JSON)
    refuse(400, None, "POST", "/api/signup", content=good[:-1] + b', "' + b"k" * 5000 + b'": 1}', headers=JSON)


def test_of_a_field_given_twice_the_last_one_counts(http: TestClient, scene: Scene) -> None:
    twice = json.dumps(FORM)[:-1] + ', "assistant_name": "Second", "email": "second@example.com"}'
    assert http.post("/api/signup", content=twice.encode(), headers=JSON).json()["email"] == "second@example.com"
    assert scene.count("instance", "name = 'Second'") == scene.count("instance") == 1


def test_a_body_beyond_the_bound_is_refused_by_its_length_and_while_it_arrives(refuse: Callable[..., Any]) -> None:
    huge = b'{"email": "' + b"x" * MAX_BODY_BYTES + b'"}'

    def trickle() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 100_000

    for path in ("/api/signup", "/api/auth/link", "/api/webhooks/sandbox", "/api/webhook/sandbox"):
        refuse(413, None, "POST", path, "too_large", content=huge, headers=JSON)
        refuse(413, None, "POST", path, "too_large", content=trickle(), headers=JSON)
        for length in ("x", "-1", "9" * 5000):
            refuse(413, None, "POST", path, "too_large", content=b"{}", headers={**JSON, "content-length": length})


def test_every_other_body(refuse: Callable[..., Any], scene: Scene, key_of: Callable[..., dict[str, str]]) -> None:
    begun = scene.live()
    path, me = f"/api/instances/{begun.instance.id}", key_of(begun, "read", "write", "keys")
    single = {
        "POST /api/auth/link/redeem": ["token"],
        "POST /api/auth/keys": ["name", "scopes"],
        f"POST {path}/chat": ["message", "idempotency_key"],
        f"POST {path}/telegram/connect": ["telegram_bot_token"],
        f"PATCH {path}": ["assistant_name", "custom_instructions", "persona", "model"],
        "POST /api/instances": ["assistant_name", "custom_instructions", "plan", "persona", "telegram_bot_token"],
    }
    valid = {"message": "hello", "assistant_name": "Ada", "token": "x", "telegram_bot_token": TOKEN, "plan": "personal"}
    for call, fields in single.items():
        method, url = call.split()
        for field in fields:
            kept = {name: valid[name] for name in fields if name in valid and name != field}
            for wrong in [7, True, {}, {"x": "y"}, ["", 7]]:
                status_field = refuse(400, None, method, url, json={**kept, field: wrong}, headers=me)["details"][
                    "field"
                ]
                assert status_field.split(".")[0] == field, (call, field, wrong)
            refuse(400, field, method, url, json={**kept, field: "x" * 300_000}, headers=me)
        refuse(
            400,
            "unknown",
            method,
            url,
            json={**{name: valid[name] for name in fields if name in valid}, "unknown": 1},
            headers=me,
        )
    for name in ("", "x" * 101, "a\0b", "a\nb", "\x7f"):
        refuse(400, "name", "POST", "/api/auth/keys", json={"name": name}, headers=me)
    for scopes in ([], ["admin"], ["read", "x"], ["read"] * 9):
        refuse(400, "scopes", "POST", "/api/auth/keys", json={"scopes": scopes}, headers=me)
    for key in ("short", "x" * 65, "with space", "a/../../b", "{{7*7}}{{7*7}}"):
        body = {"message": "hello", "idempotency_key": key}
        refuse(400, "idempotency_key", "POST", f"{path}/chat", json=body, headers=me)
    for message in ("", "   ", "x" * 16_001):
        refuse(400, "message", "POST", f"{path}/chat", json={"message": message}, headers=me)
    for model in ("", "gpt-x", "../model", "sandbox-1\0"):
        refuse(400, "model", "PATCH", path, json={"model": model}, headers=me)
    for name in NASTY:
        refuse(400, "assistant_name", "PATCH", path, json={"assistant_name": name}, headers=me)


def test_queries_and_paths(refuse: Callable[..., Any], scene: Scene, key_of: Callable[..., dict[str, str]]) -> None:
    begun = scene.live()
    path, me = f"/api/instances/{begun.instance.id}", key_of(begun, "read", "write", "keys")
    for field in ("since", "until"):
        for word in ("x", "2026-13-01", "2026-01-31T00:00:00", "0001-01-01T00:00:00%2B14:00", "9" * 400, "NaN"):
            refuse(400, field, "GET", f"/api/billing/usage?{field}={word}", headers=me)
    for query in ("lines=0", "lines=2001", "lines=x", "lines=1e3", "lines=99999999999999999999"):
        refuse(400, "lines", "GET", f"{path}/logs?{query}", headers=me)
    for limit in ("0", "201", "-1", "x", "1.5"):
        refuse(400, "limit", "GET", f"{path}/usage?limit={limit}", headers=me)
        refuse(400, "limit", "GET", f"/api/billing/ledger?limit={limit}", headers=me)
    for cursor in ("x", "%F0%9F%98%80", "-1", "9" * 40, "1;DROP TABLE account", "MDAwMS0wMS0wMVQwMDowMDowMCsxNDowMHx4"):
        refuse(400, None, "GET", f"{path}/usage?cursor={cursor}", headers=me)
        refuse(400, None, "GET", f"/api/billing/ledger?cursor={cursor}", headers=me)
    refuse(400, "query", "GET", f"{path}/usage?cursor=%00", headers=me)
    for word in ("%00", "x%00y", "..%2F..%2Fetc", "%F0%9F%98%80", "x" * 5000, "'%20OR%201=1--", "%E2%80%AE", "{{7*7}}"):
        for call in (f"/api/instances/{word}", f"/api/checkout/{word}", f"/api/status/{word}"):
            refuse(404, None, "GET", call, "not_found", headers=me)
        refuse(404, None, "GET", f"{path}/operations/{word}", "not_found", headers=me)
        refuse(404, None, "DELETE", f"/api/auth/keys/{word}", "not_found", headers=me)
        refuse(404, None, "POST", f"/api/webhooks/{word}", "not_found", content=b"{}")


def test_odd_but_honest_words_arrive_as_they_are(http: TestClient, scene: Scene) -> None:
    names = ["Renée O'Brien", "Robert'); DROP TABLE instance;--", "小助手", "👩‍🚀 Ada", "مساعد", '"quoted" & more']
    texts = [*NASTY, "{{instructions}} {{name}}", "line one\r\nline two\ttabbed", "end\0\x07bell", "😀" * 5000]
    for number, (name, text) in enumerate(zip(names * 2, texts, strict=False)):
        body = {"email": f"odd{number}@example.com", "assistant_name": name, "custom_instructions": text}
        answer = http.post("/api/signup", json=body)
        assert answer.status_code == 201, (name, text, answer.text)
        row = scene.instance(answer.json()["instance_id"])
        assert row.name == name
        assert row.instructions == text.replace("\r\n", "\n").replace("\0", "").replace("\x07", "")
