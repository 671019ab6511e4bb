"""What Stripe's errors become: one sentence, without a secret, for good or for now."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.stripe_calls import Calls, CardRefused, key_of
from tests.fakes.stripe_recorder import Recorder, Request, shaped

KEY = "sk_test_" + "x9" * 12


def refusal(status: int, **error: Any) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"type": "invalid_request_error", "message": "It is not so.", **error}}


def ask(answer: Any, **more: Any) -> tuple[Any, list[Request]]:
    """What one read comes to, and the requests it took."""
    with Recorder({"GET /v1/customers/cus_1": answer}) as recorder:
        calls = Calls(recorder.url, KEY, **{"retries": 0, **more})
        try:
            return calls.read("customers.retrieve", "cus_1", noun="customer"), recorder.requests
        except ProviderError as error:
            return error, recorder.requests


@pytest.mark.parametrize(
    ("answer", "code", "permanent"),
    [
        (refusal(400), "stripe_refused", True),
        (refusal(400, code="resource_missing"), "unknown_customer", True),
        (refusal(400, code="resource_already_exists"), "already_exists", True),
        (refusal(401, message=f"Invalid API Key provided: {KEY}"), "stripe_key", True),
        (refusal(403), "stripe_key", True),
        (refusal(404), "unknown_customer", True),
        (refusal(400, type="idempotency_error"), "idempotency_mismatch", True),
        (refusal(409), "stripe_busy", False),
        (refusal(429), "rate_limited", False),
        (refusal(400, code="lock_timeout"), "rate_limited", False),
        (refusal(402, type="card_error", code="card_declined"), "card_declined", True),
        (refusal(500, type="api_error"), "stripe_down", False),
        (refusal(503, type="api_error"), "stripe_down", False),
        ((200, "no object"), "unexpected_answer", False),
        ((200, []), "unexpected_answer", False),
        ((502, "<html>"), "stripe_down", False),
    ],
)
def test_each_trouble_has_its_code(answer: Any, code: str, permanent: bool) -> None:
    error, requests = ask(answer)
    assert isinstance(error, ProviderError)
    assert (error.code, error.permanent, len(requests)) == (code, permanent, 1)
    assert error.message.endswith((".", "'"))
    assert KEY not in f"{error!r} {error.__cause__!r} {error.__context__!r}"
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize(
    "secret", [KEY, "ada@example.com", "whsec_abc", "sk_live_abc", "rk_live_abc", "pi_1_secret_abc", "cs_secret_1"]
)
def test_stripes_words_are_passed_on_without_secrets(secret: str) -> None:
    error, _ = ask(refusal(400, message=f"No such thing: {secret} \n" + "word " * 100))
    assert "No such thing: …" in error.message
    assert secret not in error.message
    assert "\n" not in error.message
    assert len(error.message) < 300


def test_a_declined_card_keeps_its_payment() -> None:
    intent = shaped("payment_intent", id="pi_1")
    error, _ = ask(refusal(402, type="card_error", code="card_declined", payment_intent=intent))
    assert isinstance(error, CardRefused)
    assert error.intent is not None
    assert error.intent["id"] == "pi_1"


def test_what_failed_on_the_way_is_tried_three_times_with_one_key() -> None:
    with Recorder({"POST /v1/customers": refusal(503, type="api_error")}) as recorder:
        calls = Calls(recorder.url, KEY)
        with pytest.raises(ProviderError) as caught:
            calls.write("customers.create", noun="customer", key="ours", params={"email": "ada@example.com"})
        assert not caught.value.permanent
        assert [one.headers["idempotency-key"] for one in recorder.requests] == ["ours"] * 3


def test_a_short_trouble_is_not_noticed() -> None:
    answers = iter([refusal(500, type="api_error"), shaped("customer", id="cus_1")])
    found, requests = ask(lambda _: next(answers), retries=2)
    assert (found["id"], len(requests)) == ("cus_1", 2)


def test_nobody_waits_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        calls = Calls(f"http://127.0.0.1:{silent.getsockname()[1]}", KEY, timeout=(0.3, 0.3), retries=0)
        with pytest.raises(ProviderError, match="cannot be reached") as caught:
            calls.read("customers.retrieve", "cus_1", noun="customer")
    assert (caught.value.code, caught.value.permanent) == ("stripe_down", False)


def test_without_the_library_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stripe", None)
    with pytest.raises(ProviderError, match=r"pip install 'clawhaven\[stripe\]'") as caught:
        Calls("http://127.0.0.1:9", KEY).read("customers.retrieve", "cus_1", noun="customer")
    assert (caught.value.code, caught.value.permanent) == ("not_installed", True)


def test_a_key_is_a_function_of_what_it_is_given() -> None:
    assert key_of("price", {"a": 1, "b": 2}) == key_of("price", {"b": 2, "a": 1})
    assert len({key_of("price", 1), key_of("price", 2), key_of("coupon", 1), key_of("price", 1, None)}) == 4
    assert len(key_of("checkout", "x" * 10_000)) <= 255
