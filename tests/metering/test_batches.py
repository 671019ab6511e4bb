"""Calls in common transactions: each decided in its turn, none in the way of another, the same as one by one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from clawhaven import ledger, metering
from clawhaven.core.db import Database
from clawhaven.core.errors import AppError, Invalid, NotFound, PaymentRequired, RateLimited, Unauthorized
from clawhaven.metering import (
    Ask,
    ClosedCall,
    Closing,
    GrantTerms,
    OpenCall,
    Opening,
    Outcome,
    PlanMode,
    Source,
    put_grant,
    run_batch,
)
from clawhaven.metering.models import AccountLimit
from clawhaven.ports.upstream import Usage
from tests.metering.conftest import KEY_HASH, NOW

UPSTREAMS = ("sandbox", "anthropic", "openai")
ASK = Ask("sandbox-1", "anthropic-messages", 1_000, 1_000, Source.PERSON, is_turn=True, may_cache_long=False)
ONE = Opening(ASK, KEY_HASH, UPSTREAMS)
USED = Usage(input_tokens=100, output_tokens=10)
Give = Callable[..., str]


def run(db: Database, openings: list[Opening], closings: list[Closing] | None = None, **later: float) -> Outcome:
    with db.tx() as tx:
        return metering.run_batch(tx, openings, closings or [], now=NOW + timedelta(**later))


def opened(outcome: Outcome) -> list[OpenCall]:
    assert not [one for one in outcome.opened if isinstance(one, AppError)]
    return [one for one in outcome.opened if isinstance(one, OpenCall)]


def test_one_refusal_leaves_the_others_as_they_are(db: Database, give: Give) -> None:
    give()
    bad_model, nobody = Opening(replace(ASK, model="no-such"), KEY_HASH, UPSTREAMS), replace(ONE, key_hash="nobody")
    outcome = run(db, [ONE, bad_model, nobody, ONE], [Closing("call_none", USED)])
    kinds = [type(one) for one in outcome.opened]
    assert kinds == [OpenCall, Invalid, Unauthorized, OpenCall]
    assert [type(one) for one in outcome.closed] == [NotFound]
    with db.read() as tx:
        assert len(metering.list_usage(tx, "acc_1").calls) == 2
        assert ledger.check_books(tx, metering.held_by_calls(tx)) == []


def test_closing_frees_what_the_same_batch_then_opens(db: Database, give: Give) -> None:
    wallet = give(max_in_flight=1)
    (first,) = opened(run(db, [ONE]))
    outcome = run(db, [ONE, ONE], [Closing(first.id, USED, 200)])
    assert [type(one) for one in outcome.opened] == [OpenCall, RateLimited]
    assert isinstance(outcome.closed[0], ClosedCall)
    with db.read() as tx:
        assert ledger.balance(tx, wallet).held_micros == first.held_micros
        assert ledger.balance(tx, wallet).balance_micros == 100_000_000 - 675


def test_a_wallet_for_ten_pays_for_ten_of_a_thousand(db: Database, give: Give) -> None:
    worst = 28_125  # 1,000 tokens in at the dearest, 1,000 out, with the markup: see test_calls.py
    wallet = give(dollars=0, max_in_flight=None)
    with db.tx() as tx:
        ledger.credit(tx, key="some", ledger_account_id=wallet, amount_micros=10 * worst + worst // 2, now=NOW)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: run(db, [ONE] * 25), range(40)))
    results = [one for outcome in outcomes for one in outcome.opened]
    assert len(results) == 1_000
    assert sum(isinstance(one, OpenCall) for one in results) == 10
    assert sum(isinstance(one, PaymentRequired) for one in results) == 990
    with db.read() as tx:
        assert ledger.balance(tx, wallet).held_micros == 10 * worst
        assert ledger.check_books(tx, metering.held_by_calls(tx)) == []


def test_a_call_closed_twice_in_one_batch_is_charged_once(db: Database, give: Give) -> None:
    wallet = give()
    (call,) = opened(run(db, [ONE]))
    first, second = run(db, [], [Closing(call.id, USED, 200), Closing(call.id, Usage(10**6), 200)]).closed
    assert isinstance(first, ClosedCall)
    assert isinstance(second, ClosedCall)
    assert (first.is_new, second.is_new) == (True, False)
    assert first.price_micros == second.price_micros == 675
    with db.read() as tx:
        assert ledger.balance(tx, wallet).balance_micros == 100_000_000 - 675
        (row,) = metering.list_usage(tx, "acc_1").calls
        assert (row.input_tokens, row.http_status) == (100, 200)


def test_running_balances_of_one_batch_follow_each_other(db: Database, give: Give) -> None:
    give()
    calls = opened(run(db, [ONE] * 5))
    run(db, [], [Closing(call.id, USED, 200) for call in calls])
    with db.read() as tx:
        lines = ledger.list_entries(tx, "acc_1").lines[:5]
        assert [line.balance_after_micros for line in lines] == [100_000_000 - 675 * count for count in (5, 4, 3, 2, 1)]
        assert {line.note for line in lines} == {"sandbox-1: 100 tokens in, 10 out"}
        assert [line.ref for line in lines] == [call.id for call in reversed(calls)]


def test_the_hours_add_up_to_the_calls(db: Database, give: Give) -> None:
    give()
    calls = opened(run(db, [ONE] * 3)) + opened(run(db, [ONE], minutes=59)) + opened(run(db, [ONE], minutes=61))
    used = Usage(100, 10, cache_read_tokens=7, cache_write_5m_tokens=3, cache_write_1h_tokens=2)
    run(db, [], [Closing(call.id, used, 200) for call in calls], hours=3)
    with db.read() as tx:
        hours = tx.query(metering.models.UsageHour).order_by(metering.models.UsageHour.hour_at).all()
        assert [(one.hour_at - NOW, one.calls, one.source) for one in hours] == [
            (timedelta(0), 4, "person"),
            (timedelta(hours=1), 1, "person"),
        ]
        first = hours[0]
        assert (first.input_tokens, first.cache_write_tokens, first.weighted_tokens) == (400, 20, 4 * (115 * 10 + 7))
        rows = metering.list_usage(tx, "acc_1").calls
        assert sum(one.price_micros for one in hours) == sum(row.price_micros for row in rows)
        assert sum(one.provider_cost_micros for one in hours) == sum(row.provider_cost_micros for row in rows)


@pytest.mark.parametrize("limit", ["spend_per_day_micros", "account_spend_per_day_micros"])
def test_money_a_day_counts_what_was_spent_and_what_is_held(db: Database, give: Give, limit: str) -> None:
    give()
    most = 675 + 2 * 28_125
    with db.tx() as tx:
        if limit == "spend_per_day_micros":
            tx.query(metering.Grant).update({limit: most})
        else:
            tx.add(AccountLimit(account_id="acc_1", spend_per_day_micros=most))
    (first,) = opened(run(db, [ONE]))
    run(db, [], [Closing(first.id, USED, 200)])
    outcome = run(db, [ONE, ONE, ONE])
    assert [type(one) for one in outcome.opened] == [OpenCall, OpenCall, RateLimited]
    refusal = outcome.opened[2]
    assert isinstance(refusal, RateLimited)
    assert refusal.error_code == limit.removesuffix("_micros")
    assert refusal.details["retry_after"] == 12 * 3600
    run(db, [], [Closing(one.id, None) for one in outcome.opened if isinstance(one, OpenCall)])
    opened(run(db, [ONE], days=1))


def test_a_limit_below_one_answer_says_so_and_which_would_do(db: Database, give: Give) -> None:
    give()
    with db.tx() as tx:
        tx.query(metering.Grant).update({"spend_per_day_micros": 20_000})
    (refusal,) = run(db, [ONE]).opened
    assert isinstance(refusal, RateLimited)
    assert refusal.error_code == "spend_per_day"
    assert refusal.details["needed_micros"] == 30_000
    assert refusal.message.startswith("This answer may cost up to $0.03, and the limit is $0.02 a day.")
    with db.tx() as tx:
        tx.query(metering.Grant).update({"spend_per_day_micros": refusal.details["needed_micros"]})
    opened(run(db, [ONE]))


def test_automatic_calls_under_way_count_against_their_allowance(db: Database, give: Give) -> None:
    give()
    with db.tx() as tx:
        tx.query(metering.Grant).update({"automatic_per_day_micros": 30_000})
    beat = replace(ONE, ask=replace(ONE.ask, source=Source.HEARTBEAT))
    outcome = run(db, [beat, beat, beat, ONE])
    assert [type(one) for one in outcome.opened] == [OpenCall, OpenCall, RateLimited, OpenCall]
    refusal = outcome.opened[2]
    assert isinstance(refusal, RateLimited)
    assert (refusal.error_code, refusal.details["retry_after"]) == ("in_flight", 5)
    again = run(db, [beat]).opened[0]
    assert isinstance(again, RateLimited)
    run(db, [], [Closing(one.id, USED, 200) for one in outcome.opened if isinstance(one, OpenCall)])
    opened(run(db, [beat]))


def test_tokens_a_day_count_what_calls_under_way_may_use(db: Database, give: Give) -> None:
    give(tokens_per_day=5_000, max_in_flight=None)
    calls = opened(run(db, [ONE] * 2))  # each reads and writes 2,000 at most
    outcome = run(db, [ONE] * 8)
    assert [type(one) for one in outcome.opened] == [OpenCall] + [RateLimited] * 7
    refusal = outcome.opened[1]
    assert isinstance(refusal, RateLimited)
    assert (refusal.error_code, refusal.details) == ("in_flight", {"limit": 5_000, "retry_after": 5})
    with db.read() as tx:
        assert [row.held_tokens for row in metering.list_usage(tx, "acc_1").calls] == [2_000] * 3
    calls += [one for one in outcome.opened if isinstance(one, OpenCall)]
    again = run(db, [ONE] * 2, [Closing(call.id, USED, 200) for call in calls]).opened
    assert [type(one) for one in again] == [OpenCall] * 2


def test_the_end_of_the_tokens_a_day_is_for_one_call_of_any_size(db: Database, give: Give) -> None:
    give(tokens_per_day=1_000, max_in_flight=None)
    (first,) = opened(run(db, [ONE]))
    run(db, [], [Closing(first.id, Usage(999), 200)])
    outcome = run(db, [ONE] * 8)
    assert [type(one) for one in outcome.opened] == [OpenCall] + [RateLimited] * 7
    over = [Closing(one.id, Usage(1), 200) for one in outcome.opened if isinstance(one, OpenCall)]
    (refusal,) = run(db, [ONE], over).opened
    assert isinstance(refusal, RateLimited)
    assert refusal.error_code == "tokens_per_day"


def test_a_call_that_died_counts_against_the_tokens_until_its_time_is_over(db: Database, give: Give) -> None:
    give(tokens_per_day=2_000)
    opened(run(db, [ONE]))
    assert isinstance(run(db, [ONE], minutes=29).opened[0], RateLimited)
    opened(run(db, [ONE], minutes=31))


def test_a_batch_whose_commit_nobody_heard_of_opens_nothing_twice(db: Database, give: Give) -> None:
    wallet = give()
    named = replace(ONE, call_id="call_named")
    (first,) = opened(run(db, [named]))
    assert first.id == "call_named"
    with db.tx() as tx:
        again = run_batch(tx, [named, replace(ONE, call_id="call_other")], [], now=NOW, is_again=True)
        assert again.opened[0] == first
        assert [call.id for call in opened(again)] == ["call_named", "call_other"]
    with db.read() as tx:
        assert ledger.balance(tx, wallet).held_micros == 2 * first.held_micros
    run(db, [], [Closing(first.id, USED, 200)])
    with db.tx() as tx:
        (over,) = run_batch(tx, [named], [], now=NOW, is_again=True).opened
    assert isinstance(over, NotFound)


def test_a_strangers_key_does_not_get_a_call_by_its_id(db: Database, give: Give) -> None:
    give()
    (first,) = opened(run(db, [replace(ONE, call_id="call_named")]))
    with db.tx() as tx:
        put_grant(tx, GrantTerms("ins_2", "acc_2", "two", PlanMode.METERED, "lac_none", is_active=True), now=NOW)
    with db.tx() as tx:
        stranger = replace(ONE, key_hash="two", call_id=first.id)
        assert isinstance(run_batch(tx, [stranger], [], now=NOW, is_again=True).opened[0], AppError)
