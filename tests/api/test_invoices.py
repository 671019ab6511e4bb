"""Vendors' exports through the operator's door."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from clawhaven.accounts import apikeys, signup
from clawhaven.api.app import MAX_BODY_BYTES
from tests.api.conftest import assert_error
from tests.providers.upstreams.test_exporting import ANTHROPIC_TOKENS, OPENAI_COST_CSV
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


JSON = {"content-type": "application/json"}


@pytest.fixture
def operator(scene: Scene) -> dict[str, str]:
    """Headers of an operator's API key."""
    now = scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        boss = signup.register(db, "op@example.com", now, is_operator=True, verified_at=now)
        _, secret = apikeys.issue(db, boss, "op", ["read", "write", "admin"], now, is_operator=True)
    return {"authorization": f"Bearer {secret}"}


def test_an_export_is_read_and_compared(http: TestClient, scene: Scene, key_of: Keys, operator: dict[str, str]) -> None:
    me = operator
    large = ANTHROPIC_TOKENS + "\n" * MAX_BODY_BYTES
    answer = http.post("/api/admin/usage/anthropic", headers=me, json={"name": "u.csv", "content": large})
    assert answer.status_code == 200, answer.text[:300]
    assert (answer.json()["lines"], answer.json()["since"]) == (2, "2026-11-20")
    (line,) = http.get("/api/admin/usage?since=2026-11-21", headers=me).json()["items"]
    assert (line["model"], line["theirs"]["tokens"], line["ours"]["tokens"], line["is_off"]) == (
        "claude-haiku-4-5",
        52_000,
        0,
        True,
    )
    wrong = {"content": "hello"}
    assert_error(http.post("/api/admin/usage/anthropic", headers=me, json=wrong), 400, "validation_failed", "content")
    assert_error(http.get("/api/admin/usage?since=yesterday", headers=me), 400, "validation_failed")
    customer = key_of(scene.sign_up("ada@example.com"))
    assert_error(http.post("/api/admin/usage/anthropic", headers=customer, json=wrong), 404)


def test_nobody_but_an_operator_has_a_large_body_read(http: TestClient, scene: Scene, key_of: Keys) -> None:
    customer = key_of(scene.sign_up("ada@example.com"))
    strangers: list[tuple[dict[str, str], int]] = [({}, 401), (customer, 404)]
    for headers, status in strangers:
        read: list[int] = []

        def body(read: list[int] = read) -> Iterator[bytes]:
            for number in range(7):
                read.append(number)
                yield b"x" * MAX_BODY_BYTES

        answer = http.post("/api/admin/usage/anthropic", headers={**headers, **JSON}, content=body())
        assert_error(answer, status)
        assert len(read) < 2, "the rest was not asked for"


def test_a_body_that_is_none_is_refused(http: TestClient, operator: dict[str, str]) -> None:
    wrong: list[tuple[bytes, dict[str, str]]] = [(one, JSON) for one in (b"", b"{", b"[1]", b'{"content": 1}', b"\xff")]
    for sent, headers in [*wrong, (b'{"content": "x"}', {})]:
        answer = http.post("/api/admin/usage/anthropic", headers={**operator, **headers}, content=sent)
        assert_error(answer, 400, "validation_failed")


@pytest.mark.parametrize("content", ["a,b\n1," + "x" * 200_000, OPENAI_COST_CSV.replace("2026-11-20", "2026-99-99")])
def test_odd_content_is_a_sentence(http: TestClient, operator: dict[str, str], content: str) -> None:
    answer = http.post("/api/admin/usage/openai", headers=operator, json={"content": content})
    assert_error(answer, 400, "validation_failed", "content")
