"""What customers' own programs are told, shown with the vendors' official clients: the exceptions that they raise.

A gateway gets other answers: see test_app.py and test_sdks.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anthropic
import httpx2
import openai
import pytest
import sqlalchemy as sa

from clawhaven import ledger, metering
from clawhaven.instances.models import Instance
from clawhaven.metering import PlanMode, programs
from clawhaven.metering.spending import set_account_limit, set_limit
from clawhaven.providers.upstreams.openai import OpenAI
from tests.proxy.conftest import House, ScriptedVendor, json_script
from tests.proxy.wire import GPT, HELLO, TOOL_RESULT

Way = Callable[[House, str], Any]
MODEL = "sandbox-1"


def claude(house: House, key: str, retries: int = 0) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=key, base_url=house.url, max_retries=retries)


def gpt(house: House, key: str, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{house.url}/v1", max_retries=retries)


def _messages(house: House, key: str) -> Any:
    return claude(house, key).messages.create(model=MODEL, max_tokens=50, messages=HELLO)


def _messages_streamed(house: House, key: str) -> Any:
    with claude(house, key).messages.stream(model=MODEL, max_tokens=50, messages=HELLO) as stream:
        return stream.get_final_message()


def _chat(house: House, key: str) -> Any:
    return gpt(house, key).chat.completions.create(model=MODEL, messages=HELLO, max_tokens=50)


def _chat_streamed(house: House, key: str) -> Any:
    return list(gpt(house, key).chat.completions.create(model=MODEL, messages=HELLO, max_tokens=50, stream=True))


def _responses(house: House, key: str) -> Any:
    return gpt(house, key).responses.create(model=MODEL, input="hello", max_output_tokens=50)


def _responses_streamed(house: House, key: str) -> Any:
    with gpt(house, key).responses.stream(model=MODEL, input="hello", max_output_tokens=50) as stream:
        return stream.get_final_response()


def _embeddings(house: House, key: str) -> Any:
    return gpt(house, key).embeddings.create(model=MODEL, input="hello")


CLAUDE: list[Way] = [_messages, _messages_streamed]
OPENAI: list[Way] = [_chat, _chat_streamed, _responses, _responses_streamed, _embeddings]


@pytest.fixture
def key(house: House) -> str:
    """A program's key of the house's assistant."""
    with house.db.tx() as db:
        return programs.make(db, "ins_1", "acc_1", "Site search", house.clock.now())[1]


def refused(kind: type[Any], way: Way, house: House, key: str) -> Any:
    """The exception that this way to call ends with."""
    with pytest.raises(kind) as caught:
        way(house, key)
    assert type(caught.value) is kind
    return caught.value


def test_a_programs_key_calls_models_in_every_way(house: House, key: str) -> None:
    for way in (*CLAUDE, *OPENAI):
        way(house, key)
        row = house.last_call()
        assert (row.source, row.instance_id, row.http_status) == ("program", "ins_1", 200)
    assert MODEL in [model.id for model in gpt(house, key).models.list()]
    assert claude(house, key).messages.count_tokens(model=MODEL, messages=HELLO).input_tokens > 0
    house.assert_books_balance()


def test_what_it_says_does_not_make_it_another_source(house: House, key: str) -> None:
    beat = [{"role": "user", "content": "Read HEARTBEAT.md if it exists. Otherwise reply HEARTBEAT_OK."}]
    claude(house, key).messages.create(model=MODEL, max_tokens=50, messages=beat)
    assert (house.last_call().source, house.last_call().is_turn) == ("program", True)
    claude(house, key).messages.create(model=MODEL, max_tokens=50, messages=TOOL_RESULT)
    assert (house.last_call().source, house.last_call().is_turn) == ("program", False)


def test_its_use_is_written_down(house: House, key: str) -> None:
    _messages(house, key)
    deadline = time.monotonic() + 15
    while True:
        with house.db.read() as db:
            (row,) = programs.list_keys(db, "ins_1")
        if row.last_used_at is not None:
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert row.last_used_at <= house.clock.now()


def test_an_unknown_or_revoked_key_is_401(house: House, key: str) -> None:
    _messages(house, key)  # it is known for some seconds now
    with house.db.tx() as db:
        (row,) = programs.list_keys(db, "ins_1")
        programs.revoke(db, "ins_1", row.id)
    for wrong in (key, "chp_wrong"):
        for way in CLAUDE:
            assert refused(anthropic.AuthenticationError, way, house, wrong).type == "authentication_error"
        for way in OPENAI:
            assert refused(openai.AuthenticationError, way, house, wrong).code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            gpt(house, wrong).models.list()
        with pytest.raises(anthropic.AuthenticationError):
            claude(house, wrong).messages.count_tokens(model=MODEL, messages=HELLO)


def test_a_key_of_another_assistant_does_not_go_with_this_ones_name(house: House, key: str) -> None:
    headers = {"x-instance-secret": key, "x-instance-id": "ins_2"}
    body = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
    assert httpx2.post(f"{house.url}/v1/messages", json=body, headers=headers).status_code == 401
    assert house.calls() == []


def test_out_of_credit_is_402_at_anthropic_and_insufficient_quota_at_openai(house: House, key: str) -> None:
    with house.db.tx() as db:
        poor = ledger.open_account(db, "wallet", "acc_poor", 0, now=house.clock.now())
    house.grant(PlanMode.METERED, dollars=0, ledger_account_id=poor)
    for way in CLAUDE:
        error = refused(anthropic.PaymentRequiredError, way, house, key)
        assert (error.status_code, error.type) == (402, "billing_error")
        assert "https://haven.example/topup" in str(error)
    for way in OPENAI:
        error = refused(openai.RateLimitError, way, house, key)
        assert (error.type, error.code) == ("insufficient_quota", "credit_balance_exhausted")
        assert "https://haven.example/topup" in str(error)
    # The assistant itself goes on telling its person.
    assert "https://haven.example/topup" in _messages(house, "chk_test_0123456789abcdef").content[0].text
    assert house.calls() == []


def test_no_client_tries_in_vain_again(house: House, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with house.db.tx() as db:
        poor = ledger.open_account(db, "wallet", "acc_poor", 0, now=house.clock.now())
    house.grant(PlanMode.METERED, dollars=0, ledger_account_id=poor)
    asked: list[Any] = []
    send = httpx2.Client.send
    monkeypatch.setattr(httpx2.Client, "send", lambda *given, **named: asked.append(1) or send(*given, **named))
    with suppress(openai.RateLimitError):
        gpt(house, key, retries=3).chat.completions.create(model=MODEL, messages=HELLO)
    with suppress(anthropic.PaymentRequiredError):
        claude(house, key, retries=3).messages.create(model=MODEL, max_tokens=5, messages=HELLO)
    assert len(asked) == 2


def test_over_a_limit_of_money_a_day(house: House, key: str) -> None:
    with house.db.tx() as db:
        set_account_limit(db, "acc_1", 0)
    _see_spend_limit(house, key, "organization")
    with house.db.tx() as db:
        set_limit(db, "ins_1", 0)
    _see_spend_limit(house, key, "project")
    assert house.calls() == []


def _see_spend_limit(house: House, key: str, whose: str) -> None:
    for way in CLAUDE:
        error = refused(anthropic.PaymentRequiredError, way, house, key)
        assert error.type == "billing_error"
        assert "limit" in str(error)
    for way in OPENAI:
        error = refused(openai.RateLimitError, way, house, key)
        assert (error.type, error.code) == ("insufficient_quota", f"{whose}_spend_limit_exceeded")


def test_over_a_limit_of_messages_is_429_with_a_time_to_wait(house: House, key: str) -> None:
    house.grant(messages_per_hour=1)
    _messages(house, key)
    for way in CLAUDE:
        error = refused(anthropic.RateLimitError, way, house, key)
        assert error.type == "rate_limit_error"
        assert 3000 < int(error.response.headers["retry-after"]) <= 3600
    for way in (_chat, _chat_streamed, _responses, _responses_streamed):
        error = refused(openai.RateLimitError, way, house, key)
        assert (error.type, error.code) == ("rate_limit_error", "rate_limit_exceeded")
        assert 3000 < int(error.response.headers["retry-after"]) <= 3600
    _embeddings(house, key)  # no message


def test_an_unknown_model_is_400_as_for_everybody(house: House, key: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match="sandbox-1"):
        claude(house, key).messages.create(model="claude-17", max_tokens=5, messages=HELLO)
    with pytest.raises(openai.BadRequestError) as caught:
        gpt(house, key).responses.create(model="gpt-17", input="hi")
    assert caught.value.code == "unknown_model"


def test_a_paused_assistant_says_why(house: House, key: str) -> None:
    house.grant(is_active=False)
    with house.db.tx() as db:
        db.add(_paused(house))
    for reasons, is_money, place in (
        ("owner", False, "/dashboard"),
        ("balance", True, "/topup"),
        ("balance payment", True, "/billing"),
        ("balance operator", False, "/dashboard"),
    ):
        with house.db.tx() as db:
            db.execute(sa.update(Instance).values(suspended_for=reasons))
        kind = anthropic.PaymentRequiredError if is_money else anthropic.PermissionDeniedError
        for way in CLAUDE:
            error = refused(kind, way, house, key)
            assert error.type == ("billing_error" if is_money else "permission_error")
            assert f"https://haven.example{place}" in str(error)
        for way in OPENAI:
            refused(openai.RateLimitError if is_money else openai.PermissionDeniedError, way, house, key)
        with pytest.raises(kind):
            claude(house, key).messages.count_tokens(model=MODEL, messages=HELLO)
    assert house.calls() == []


def _paused(house: House) -> Instance:
    now = house.clock.now()
    fixed = {"persona": "personal", "instructions": "", "plan": "personal", "runtime": "process", "gateway_token": ""}
    return Instance(
        id="ins_1",
        account_id="acc_1",
        slug="one",
        name="Ada",
        model=MODEL,
        state="suspended",
        proxy_key="",
        created_at=now,
        **fixed,
    )


@pytest.fixture
def own(house: House, vendor: ScriptedVendor) -> None:
    """The plan uses the customer's own OpenAI key."""
    url = f"http://127.0.0.1:{vendor.port}/v1"
    house.upstreams["openai"] = OpenAI(OpenAI.Options(openai_api_key="", openai_api_url=url), house.settings)  # type: ignore[arg-type]
    sealed = house.keys.seal("sk-customers-own", metering.OWN_KEY_PURPOSE)
    house.grant(PlanMode.OWN_KEY, dollars=0, own_key_upstream="openai", own_key_sealed=sealed)


@pytest.mark.usefixtures("own")
def test_an_own_key_plan_serves_programs_with_the_customers_key(house: House, key: str, vendor: ScriptedVendor) -> None:
    vendor.script = json_script({"usage": {"prompt_tokens": 5, "completion_tokens": 5}})
    gpt(house, key).chat.completions.create(model=GPT, messages=HELLO)
    assert vendor.requests[0][1]["authorization"] == "Bearer sk-customers-own"
    assert (house.last_call().source, house.last_call().price_micros) == ("program", 0)


@pytest.mark.usefixtures("own")
def test_a_vendor_that_refuses_the_customers_key_is_named(house: House, key: str, vendor: ScriptedVendor) -> None:
    cases: list[tuple[int, dict[str, Any], type[Any], str]] = [
        (401, {"error": {"message": "no", "code": "invalid_api_key"}}, openai.AuthenticationError, "invalid_api_key"),
        (403, {"error": {"message": "no"}}, openai.PermissionDeniedError, "invalid_api_key"),
        (429, {"error": {"type": "insufficient_quota"}}, openai.RateLimitError, "credit_balance_exhausted"),
    ]
    for status, body, kind, code in cases:
        vendor.script = json_script(body, status)
        for is_stream in (False, True):
            with pytest.raises(kind, match="OpenAI did not accept your API key") as caught:
                gpt(house, key).chat.completions.create(model=GPT, messages=HELLO, stream=is_stream)
            assert caught.value.code == code


def test_an_own_key_plan_without_a_key_is_403(house: House, key: str) -> None:
    house.grant(PlanMode.OWN_KEY, dollars=0, own_key_upstream=None, own_key_sealed=None)
    for way in CLAUDE:
        assert "/instances/ins_1/configuration" in str(refused(anthropic.PermissionDeniedError, way, house, key))
    for way in OPENAI:
        assert refused(openai.PermissionDeniedError, way, house, key).code == "no_own_key"
