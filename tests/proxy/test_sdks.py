"""The vendors' official clients against the proxy with the sandbox model: they must not notice a difference."""

from __future__ import annotations

import anthropic
import openai
import pytest

from clawhaven import ledger
from clawhaven.metering import PlanMode
from tests.proxy.conftest import KEY, House


def claude(house: House, key: str = KEY) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=key, base_url=house.url, max_retries=0)


def gpt(house: House, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{house.url}/v1", max_retries=0)


HELLO = [{"role": "user", "content": "Good morning, sunshine"}]


def test_anthropic_message(house: House) -> None:
    answer = claude(house).messages.create(model="sandbox-1", max_tokens=500, messages=HELLO)
    assert "Good morning, sunshine" in answer.content[0].text
    assert answer.stop_reason == "end_turn"
    row = house.last_call()
    assert (row.input_tokens, row.output_tokens) == (answer.usage.input_tokens, answer.usage.output_tokens)
    assert (row.dialect, row.source, row.is_turn, row.http_status) == ("anthropic-messages", "person", True, 200)
    assert row.price_micros == -(-(row.input_tokens * 3 + row.output_tokens * 15) * 3 // 2)
    assert not row.is_estimated
    house.assert_books_balance()


def test_anthropic_stream(house: House) -> None:
    with claude(house).messages.stream(model="sandbox-1", max_tokens=500, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "Good morning, sunshine" in text
    # Acknowledged means settled: the row is closed the moment the client has the end.
    (row,) = house.calls()
    assert row.state == "closed"
    assert row.output_tokens == final.usage.output_tokens > 1
    house.assert_books_balance()


def test_anthropic_limit_of_tokens(house: House) -> None:
    answer = claude(house).messages.create(model="sandbox-1", max_tokens=4, messages=HELLO)
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 4


def test_anthropic_count_tokens_is_free(house: House) -> None:
    counted = claude(house).messages.count_tokens(model="sandbox-1", messages=HELLO)
    answer = claude(house).messages.create(model="sandbox-1", max_tokens=500, messages=HELLO)
    assert counted.input_tokens == answer.usage.input_tokens
    assert len(house.calls()) == 1


def test_openai_chat(house: House) -> None:
    answer = gpt(house).chat.completions.create(model="sandbox-1", messages=HELLO)
    assert "Good morning, sunshine" in answer.choices[0].message.content
    row = house.last_call()
    assert (row.input_tokens, row.output_tokens) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    house.assert_books_balance()


def test_openai_chat_stream_hides_the_usage_chunk_nobody_asked_for(house: House) -> None:
    chunks = list(gpt(house).chat.completions.create(model="sandbox-1", messages=HELLO, stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert "Good morning, sunshine" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert house.last_call().output_tokens > 1
    assert not house.last_call().is_estimated


def test_openai_chat_stream_keeps_the_usage_chunk_that_was_asked_for(house: House) -> None:
    options = {"include_usage": True}
    chunks = list(
        gpt(house).chat.completions.create(model="sandbox-1", messages=HELLO, stream=True, stream_options=options)
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == house.last_call().output_tokens
    house.assert_books_balance()


def test_openai_responses(house: House) -> None:
    answer = gpt(house).responses.create(model="sandbox-1", input="Good morning, sunshine", instructions="Be kind.")
    assert "Good morning, sunshine" in answer.output_text
    assert house.last_call().output_tokens == answer.usage.output_tokens


def test_openai_responses_stream(house: House) -> None:
    items = [{"role": "user", "content": [{"type": "input_text", "text": "Good morning, sunshine"}]}]
    with gpt(house).responses.stream(model="sandbox-1", input=items) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert "Good morning, sunshine" in final.output_text
    assert house.last_call().output_tokens == final.usage.output_tokens
    house.assert_books_balance()


def test_openai_embeddings(house: House) -> None:
    first = gpt(house).embeddings.create(model="sandbox-1", input=["a", "b"])
    again = gpt(house).embeddings.create(model="sandbox-1", input=["a", "b"])
    assert [item.embedding for item in first.data] == [item.embedding for item in again.data]
    assert first.data[0].embedding != first.data[1].embedding
    assert house.last_call().input_tokens == first.usage.prompt_tokens
    assert house.last_call().output_tokens == 0


def test_both_clients_read_the_list_of_models(house: House) -> None:
    assert "sandbox-1" in [model.id for model in claude(house).models.list()]
    assert "claude-opus-5-5" in [model.id for model in gpt(house).models.list()]
    house.grant(models=["sandbox-1"])
    assert [model.id for model in gpt(house).models.list()] == ["sandbox-1"]


def test_a_wrong_key_is_401_in_the_vendors_shape(house: House) -> None:
    with pytest.raises(anthropic.AuthenticationError, match="not valid"):
        claude(house, "chk_wrong").messages.create(model="sandbox-1", max_tokens=5, messages=HELLO)
    with pytest.raises(openai.AuthenticationError) as refused:
        gpt(house, "chk_wrong").chat.completions.create(model="sandbox-1", messages=HELLO)
    assert refused.value.code == "invalid_api_key"


def test_an_unknown_model_is_400_with_the_list(house: House) -> None:
    with pytest.raises(anthropic.BadRequestError, match="sandbox-1"):
        claude(house).messages.create(model="claude-17", max_tokens=5, messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="claude-opus-5-5"):
        gpt(house).responses.create(model="gpt-17", input="hi")
    assert house.calls() == []


OUT_OF_CREDIT = "https://haven.example/topup"


def test_out_of_credit_a_person_reads_a_sentence_in_every_format(house: House) -> None:
    house.grant(PlanMode.METERED, dollars=0, ledger_account_id=_empty_wallet(house))
    message = claude(house).messages.create(model="sandbox-1", max_tokens=500, messages=HELLO)
    assert OUT_OF_CREDIT in message.content[0].text
    with claude(house).messages.stream(model="sandbox-1", max_tokens=500, messages=HELLO) as stream:
        assert OUT_OF_CREDIT in "".join(stream.text_stream)
        assert stream.get_final_message().usage.output_tokens == 0
    chat = gpt(house).chat.completions
    assert OUT_OF_CREDIT in chat.create(model="sandbox-1", messages=HELLO).choices[0].message.content
    chunks = list(chat.create(model="sandbox-1", messages=HELLO, stream=True))
    assert OUT_OF_CREDIT in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    asked = list(chat.create(model="sandbox-1", messages=HELLO, stream=True, stream_options={"include_usage": True}))
    assert asked[-1].usage.total_tokens == 0
    assert OUT_OF_CREDIT in gpt(house).responses.create(model="sandbox-1", input="hi").output_text
    with gpt(house).responses.stream(model="sandbox-1", input="hi") as responses:
        kinds = [event.type for event in responses]
        assert OUT_OF_CREDIT in responses.get_final_response().output_text
    assert kinds[-1] == "response.completed"
    assert house.calls() == []


def test_out_of_credit_automatic_calls_get_429_usage_limit_reached(house: House) -> None:
    house.grant(PlanMode.METERED, dollars=0, ledger_account_id=_empty_wallet(house))
    beat = [
        {"role": "user", "content": "Read HEARTBEAT.md if it exists. If nothing needs attention, reply HEARTBEAT_OK."}
    ]
    with pytest.raises(anthropic.RateLimitError, match="Usage limit reached"):
        claude(house).messages.create(model="sandbox-1", max_tokens=5, messages=beat)
    with pytest.raises(openai.RateLimitError, match="Usage limit reached"):
        gpt(house).embeddings.create(model="sandbox-1", input="x")


def _empty_wallet(house: House) -> str:
    with house.db.tx() as db:
        return ledger.open_account(db, "wallet", "acc_poor", 0, now=house.clock.now())
