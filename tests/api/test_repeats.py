"""The same creating call twice, or many times at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from clawhaven.api import repeats
from clawhaven.billing.models import Checkout
from clawhaven.instances.states import State
from clawhaven.workflows import checkout
from tests.api.conftest import FORM, assert_error
from tests.workflows.scene import TOKEN, Scene

Keys = Callable[..., dict[str, str]]
NAMED = {"idempotency-key": "6c6c7f5e-8f3e-4b86-9f43-0d7a0b1f2c3d"}


def test_a_repeated_sign_up_answers_the_same_and_signs_nobody_in(http: TestClient, scene: Scene) -> None:
    body = {**FORM, "telegram_bot_token": TOKEN}
    first = http.post("/api/signup", json=body, headers=NAMED)
    assert (first.status_code, repeats.REPLAYED in first.headers) == (201, False)
    assert "set-cookie" in first.headers
    before = scene.counts()
    again = http.post("/api/signup", json=dict(reversed(body.items())), headers=NAMED)
    assert (again.status_code, again.headers[repeats.REPLAYED]) == (201, "true")
    assert again.json() == first.json()
    assert "set-cookie" not in again.headers
    assert scene.counts() == before
    assert_error(http.post("/api/signup", json={**body, "plan": "other"}, headers=NAMED), 409, "key_of_another")
    assert_error(http.post("/api/signup", json=body), 409, "already_exists")
    assert scene.counts() == before
    assert scene.count("idempotency_key", f"CAST(body AS TEXT) LIKE '%{TOKEN}%' OR request_hash LIKE '%{TOKEN}%'") == 0
    scene.ctx.clock.advance(timedelta(hours=24))
    assert_error(http.post("/api/signup", json=body, headers=NAMED), 409, "already_exists")


def test_a_repeated_assistant_is_one_assistant(http: TestClient, scene: Scene, key_of: Keys) -> None:
    scopes = ("read", "write", "keys")
    ada, eve = (key_of(scene.put_in(State.DELETED, f"{name}@example.com"), *scopes) for name in ("ada", "eve"))
    body = {"assistant_name": "Second"}
    first = http.post("/api/instances", json=body, headers=ada | NAMED)
    assert first.status_code == 201, first.text
    before = scene.counts()
    again = http.post("/api/instances", json=body, headers=ada | NAMED)
    assert (again.status_code, again.json()) == (201, first.json())
    assert scene.counts() == before
    theirs = http.post("/api/instances", json=body, headers=eve | NAMED)
    assert theirs.status_code == 201
    assert theirs.json()["instance_id"] != first.json()["instance_id"]
    assert_error(http.post("/api/auth/keys", json={}, headers=ada | NAMED), 409, "key_of_another")


def test_a_refused_request_may_be_sent_again(http: TestClient, scene: Scene, key_of: Keys) -> None:
    begun = scene.put_in(State.DELETED)
    me = key_of(begun)
    scene.ctx.settings.max_customers = 0
    assert_error(http.post("/api/instances", json={"assistant_name": "B"}, headers=me | NAMED), 503, "at_capacity")
    assert scene.count("idempotency_key") == 0
    scene.ctx.settings.max_customers = 10
    assert http.post("/api/instances", json={"assistant_name": "B"}, headers=me | NAMED).status_code == 201


@contextmanager
def breaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything breaks once the rows are written, as a crash does."""

    def break_down(*_: object) -> None:
        raise LookupError("after the rows were written")

    with monkeypatch.context() as patched:
        patched.setattr(checkout, "page_for", break_down)
        patched.setattr("clawhaven.api.errors.log.error", lambda *_, **__: None)
        yield


@pytest.mark.parametrize("path", ["/api/signup", "/api/instances"])
def test_an_answer_is_kept_with_the_rows_and_leads_on_after_a_crash(
    http: TestClient, scene: Scene, key_of: Keys, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    me = key_of(scene.put_in(State.DELETED)) if path != "/api/signup" else {}
    body = FORM if path == "/api/signup" else {"assistant_name": "B"}
    with breaking(monkeypatch):
        assert_error(http.post(path, json=body, headers=me | NAMED), 500, "internal_error")
    before = scene.counts()
    again = http.post(path, json=body, headers=me | NAMED)
    assert (again.status_code, again.headers[repeats.REPLAYED]) == (201, "true")
    assert scene.counts() == before
    told = again.json()
    with scene.ctx.db.read() as db:
        (opened,) = db.query(Checkout).filter_by(instance_id=told["instance_id"])
    assert told["checkout_url"] == f"{scene.ctx.settings.base_url}/checkout/{opened.id}"


def test_what_broke_half_way_is_never_done_again(
    http: TestClient, scene: Scene, key_of: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    me, body = key_of(scene.put_in(State.DELETED)), {"amount_micros": 25_000_000}
    with breaking(monkeypatch):
        assert_error(http.post("/api/billing/topup", json=body, headers=me | NAMED), 500, "internal_error")
    made = scene.count("checkout")
    assert_error(http.post("/api/billing/topup", json=body, headers=me | NAMED), 409, "in_progress")
    assert scene.count("checkout") == made


def test_a_repeat_that_comes_too_early_is_told_so(
    http: TestClient, scene: Scene, key_of: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = key_of(scene.put_in(State.DELETED))
    arrived, go_on, real = threading.Event(), threading.Event(), checkout.page_for

    def wait(*given: object) -> object:
        arrived.set()
        assert go_on.wait(30)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(checkout, "page_for", wait)

    def create() -> object:
        return http.post("/api/billing/topup", json={"amount_micros": 25_000_000}, headers=me | NAMED)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(create)
        try:
            assert arrived.wait(30)
            early = create()
        finally:
            go_on.set()
    assert_error(early, 409, "in_progress")  # type: ignore[arg-type]
    assert first.result().status_code == 201  # type: ignore[attr-defined]


def test_a_key_is_made_once_and_its_secret_kept_nowhere(http: TestClient, scene: Scene, key_of: Keys) -> None:
    me = key_of(scene.sign_up(), "read", "write", "keys")
    assert_error(http.post("/api/auth/keys", json={"scopes": ["admin"]}, headers=me | NAMED), 400, "validation_failed")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: http.post("/api/auth/keys", json={}, headers=me | NAMED), range(4)))
    made = [answer for answer in answers if answer.status_code == 201]
    assert len(made) == 1
    for answer in answers:
        if answer is not made[0]:
            refused = assert_error(answer, 409, "already_used")
            assert refused["details"] == {"key_id": made[0].json()["id"]}
    assert scene.count("api_key") == 2
    assert scene.count("idempotency_key", f"CAST(body AS TEXT) LIKE '%{made[0].json()['key'][4:]}%'") == 0


@pytest.mark.parametrize("name", ["", " ", "x" * 129, "with space", "tab\there", "\xfc"])
def test_a_name_that_is_none_is_refused(http: TestClient, scene: Scene, name: str) -> None:
    answer = http.post("/api/signup", json=FORM, headers={"idempotency-key": name.encode("latin-1")})
    assert_error(answer, 400, "validation_failed", "Idempotency-Key")
    assert scene.count("user_account") == 0
