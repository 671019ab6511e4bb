"""Admission in its order, settlement, limits, the sweep, and what readers see of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from clawhaven import ledger, metering
from clawhaven.core.db import Database
from clawhaven.core.errors import AppError, Forbidden, Invalid, NotFound, PaymentRequired, RateLimited, Unauthorized
from clawhaven.metering import Ask, ClosedCall, GrantTerms, OpenCall, PlanMode, Source
from clawhaven.ports.upstream import Usage
from tests.metering.conftest import KEY_HASH, NOW

UPSTREAMS = ("sandbox", "anthropic", "openai")
ASK = Ask("sandbox-1", "anthropic-messages", 1_000, 1_000, Source.PERSON, is_turn=True, may_cache_long=False)
USED = Usage(input_tokens=100, output_tokens=10)
Give = Callable[..., str]


def open_one(db: Database, ask: Ask = ASK, now: datetime = NOW, key_hash: str = KEY_HASH) -> OpenCall:
    with db.tx() as tx:
        return metering.open_call(tx, ask, key_hash=key_hash, upstreams=UPSTREAMS, now=now)


def close_one(db: Database, call: OpenCall, usage: Usage | None = USED, now: datetime = NOW) -> ClosedCall:
    with db.tx() as tx:
        return metering.close_call(tx, call.id, usage, now=now, http_status=200)


def assert_books_balance(db: Database) -> None:
    with db.read() as tx:
        assert ledger.check_books(tx) == []


def test_a_metered_call_is_reserved_and_settled_to_the_micro_dollar(db: Database, give: Give) -> None:
    wallet = give()
    call = open_one(db)
    assert call.held_micros == (1_000 * 3_750_000 + 1_000 * 15_000_000) * 150 // 100_000_000
    with db.read() as tx:
        assert ledger.balance(tx, wallet).held_micros == call.held_micros
    closed = close_one(db, call)
    again = close_one(db, call, Usage(input_tokens=999_999))
    assert closed.provider_cost_micros == 450
    assert closed.price_micros == again.price_micros == 675
    assert closed.is_new
    assert not again.is_new
    with db.read() as tx:
        assert ledger.balance(tx, wallet) == ledger.Balance(100_000_000 - 675, 0, 0, 100_000_000 - 675)
        line = ledger.list_entries(tx, "acc_1").lines[0]
        assert (line.ref, line.amount_micros, line.kind) == (call.id, -675, "usage")
        (row,) = metering.calls_between(tx, "ins_1", NOW, NOW + timedelta(seconds=1))
        assert (row.price_id, row.state, row.source, row.http_status) == (
            "sandbox-1@2026-01-01",
            "closed",
            "person",
            200,
        )
    assert_books_balance(db)


@pytest.mark.parametrize(
    ("output_bound", "choices", "tokens"),
    [(1_000, 1, 1_000), (1_000, 8, 8_000), (None, 8, 8 * 8_192), (None, 1, 8_192), (10**9, 8, 8 * 8_192)],
)
def test_every_choice_is_held(db: Database, give: Give, output_bound: int | None, choices: int, tokens: int) -> None:
    give()
    call = open_one(db, replace(ASK, input_bound=0, output_bound=output_bound, choices=choices))
    assert call.price.max_output_tokens == 8_192
    assert call.held_micros == -(-tokens * 15_000_000 * 150 // 100_000_000)


def test_every_pass_over_a_request_is_held(db: Database, give: Give) -> None:
    give()
    once, twice = open_one(db), open_one(db, replace(ASK, passes=2))
    assert twice.held_micros == 2 * once.held_micros
    with db.read() as tx:
        held = {row.id: row.held_tokens for row in metering.list_usage(tx, "acc_1").calls}
    assert held[twice.id] == 2 * held[once.id]


@pytest.mark.parametrize(
    ("dialect", "bound", "tokens"),
    [
        ("openai-embeddings", 200, 200),
        ("openai-embeddings", 250_000, 250_000),
        ("openai-embeddings", 10**8, 300_000),
        ("openai-chat", 10**8, 8_192),
    ],
)
def test_a_window_bounds_each_input_and_embeddings_have_many(
    db: Database, give: Give, dialect: str, bound: int, tokens: int
) -> None:
    give()
    call = open_one(db, Ask("text-embedding-3-small", dialect, bound, 0))
    assert call.price.context_window == 8_192
    assert call.held_micros == -(-tokens * 20_000 * 150 // 100_000_000)
    with db.read() as tx:
        assert metering.list_usage(tx, "acc_1").calls[0].held_tokens == tokens


def test_an_included_call_shows_its_value_but_takes_nothing_from_a_wallet(db: Database, give: Give) -> None:
    included = give(PlanMode.INCLUDED)
    assert close_one(db, open_one(db)).price_micros == 675
    with db.read() as tx:
        assert ledger.balance(tx, included).balance_micros == -675
        assert ledger.balance(tx, "lac_platform_included_usage").balance_micros == 675
        assert ledger.list_entries(tx, "acc_1").lines[0].amount_micros == -675
    assert_books_balance(db)


def test_a_call_with_the_customers_own_key_is_counted_but_not_charged(db: Database, give: Give) -> None:
    give(PlanMode.OWN_KEY, dollars=0)
    call = open_one(db, Ask("claude-opus-5-5", "anthropic-messages", 10, 10, extra="speed"))
    assert call.own_key_sealed == "v1.sealed"
    closed = close_one(db, call)
    assert (closed.price_micros, closed.provider_cost_micros) == (0, 0)
    with db.read() as tx:
        assert ledger.list_entries(tx, "acc_1").lines == []
        assert metering.list_usage(tx, "acc_1").calls[0].input_tokens == 100


def test_an_own_key_grant_without_a_key_says_so_until_it_gets_one(db: Database, give: Give) -> None:
    give(PlanMode.OWN_KEY, dollars=0, own_key_upstream=None, own_key_sealed=None)
    ask = Ask("claude-opus-5-5", "anthropic-messages", 10, 10)
    with pytest.raises(Forbidden) as missing:
        open_one(db, ask)
    assert (missing.value.error_code, missing.value.details) == ("no_own_key", {"instance_id": "ins_1"})
    with db.tx() as tx:
        metering.set_own_key(tx, "ins_1", "anthropic", "v1.sealed", now=NOW)
        metering.set_own_key(tx, "ins_of_nobody", "anthropic", "v1.sealed", now=NOW)
    assert open_one(db, ask).own_key_sealed == "v1.sealed"
    with db.tx() as tx:
        metering.set_own_key(tx, "ins_1", None, None, now=NOW)
        with pytest.raises(ValueError, match="come together"):
            metering.set_own_key(tx, "ins_1", "anthropic", None, now=NOW)
    with pytest.raises(Forbidden):
        open_one(db, ask)


def test_admission_refuses_in_the_specified_order(db: Database, give: Give) -> None:
    give(dollars=0, messages_per_hour=0, is_active=False)
    bad = Ask("no-such-model", "openai-chat", 10, 10, Source.PERSON, is_turn=True)
    with pytest.raises(Unauthorized):
        open_one(db, bad, key_hash="nobody")
    with pytest.raises(Forbidden) as suspended:
        open_one(db, bad)
    assert suspended.value.error_code == "instance_suspended"
    with db.tx() as tx:
        metering.activate(tx, "ins_1", now=NOW)
    with pytest.raises(RateLimited):
        open_one(db, bad)
    give(dollars=0, messages_per_hour=None)
    with pytest.raises(Invalid) as unknown:
        open_one(db, bad)
    assert unknown.value.error_code == "unknown_model"
    assert "sandbox-1" in unknown.value.details["models"]
    with pytest.raises(PaymentRequired):
        open_one(db)
    with db.read() as tx:
        assert metering.list_usage(tx, "acc_1").calls == []
    assert_books_balance(db)


def test_only_granted_models_of_reachable_vendors_are_known(db: Database, give: Give) -> None:
    give(models=["sandbox-1", "claude-opus-5-5"])
    with pytest.raises(Invalid) as refused:
        open_one(db, Ask("gpt-6.2-sol", "openai-chat", 10, 10))
    assert refused.value.details["models"] == ["sandbox-1", "claude-opus-5-5"]
    ask = Ask("claude-opus-5-5", "anthropic-messages", 10, 10)
    with db.tx() as tx, pytest.raises(Invalid):
        metering.open_call(tx, ask, key_hash=KEY_HASH, upstreams=("sandbox",), now=NOW)
    with pytest.raises(Invalid, match="speed is not offered"):
        open_one(db, Ask("sandbox-1", "anthropic-messages", 10, 10, extra="speed"))


def test_messages_an_hour_count_turns_and_automatic_calls_but_not_follow_ups(db: Database, give: Give) -> None:
    give(messages_per_hour=2)
    follow_up = Ask("sandbox-1", "openai-chat", 10, 10, Source.PERSON)
    automatic = Ask("sandbox-1", "openai-chat", 10, 10, Source.AUTOMATIC)
    close_one(db, open_one(db))
    close_one(db, open_one(db, automatic, NOW + timedelta(minutes=10)))
    later = NOW + timedelta(minutes=20)
    for refused in (ASK, automatic):
        with pytest.raises(RateLimited) as limited:
            open_one(db, refused, later)
        assert limited.value.error_code == "messages_per_hour"
        assert limited.value.details["retry_after"] == 40 * 60
    for _ in range(3):
        close_one(db, open_one(db, follow_up, later))
    close_one(db, open_one(db, ASK, NOW + timedelta(minutes=61)))


def test_tokens_a_day_count_cache_reads_at_a_tenth(db: Database, give: Give) -> None:
    give(tokens_per_day=1_000)
    close_one(db, open_one(db), Usage(input_tokens=800, output_tokens=99, cache_read_tokens=1_000))
    close_one(db, open_one(db), Usage(output_tokens=1))
    with pytest.raises(RateLimited) as limited:
        open_one(db, now=NOW + timedelta(hours=1))
    assert limited.value.error_code == "tokens_per_day"
    assert limited.value.details["retry_after"] == 23 * 3600
    open_one(db, now=NOW + timedelta(hours=24, seconds=1))


def test_calls_in_flight_are_limited_exactly_under_concurrency(db: Database, give: Give) -> None:
    give(max_in_flight=3)
    barrier = threading.Barrier(12)

    def ask(_: int) -> str:
        barrier.wait()
        try:
            open_one(db)
        except RateLimited as limited:
            return limited.error_code
        return "open"

    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(ask, range(12)))
    assert results.count("open") == 3
    assert results.count("in_flight") == 9


def test_a_failed_call_costs_nothing(db: Database, give: Give) -> None:
    wallet = give()
    call = open_one(db)
    with db.tx() as tx:
        metering.close_call(tx, call.id, None, now=NOW, http_status=529, error="overloaded " * 50)
    with db.read() as tx:
        assert ledger.balance(tx, wallet).available_micros == 100_000_000
        row = metering.list_usage(tx, "acc_1").calls[0]
        assert (row.state, row.http_status, row.error) == ("closed", 529, ("overloaded " * 50)[:200])
    with db.tx() as tx, pytest.raises(NotFound):
        metering.close_call(tx, "call_none", None, now=NOW)


def test_usage_above_the_worst_case_never_takes_the_wallet_below_its_floor(db: Database, give: Give) -> None:
    wallet = give(dollars=11, floor_micros=10_000_000)
    closed = close_one(db, open_one(db), Usage(output_tokens=1_000_000))
    assert closed.price_micros == 1_000_000
    assert closed.uncovered_micros == 21_500_000
    with db.read() as tx:
        assert ledger.balance(tx, wallet).balance_micros == 10_000_000
        assert metering.list_usage(tx, "acc_1").calls[0].uncovered_micros == 21_500_000
    assert_books_balance(db)


def test_the_sweep_abandons_what_never_ended_and_a_late_end_still_counts(db: Database, give: Give) -> None:
    wallet = give()
    dead, late = open_one(db), open_one(db)
    fresh = open_one(db, now=NOW + timedelta(minutes=5))
    with db.tx() as tx:
        assert metering.sweep(tx, now=NOW + timedelta(minutes=29)) == []
        assert sorted(metering.sweep(tx, now=NOW + timedelta(minutes=31))) == sorted([dead.id, late.id])
        assert metering.sweep(tx, now=NOW + timedelta(minutes=31)) == []
        assert ledger.balance(tx, wallet).held_micros == fresh.held_micros
    assert close_one(db, late).price_micros == 675
    close_one(db, fresh)
    with db.read() as tx:
        states = {
            row.id: (row.state, row.is_estimated, row.price_micros) for row in metering.list_usage(tx, "acc_1").calls
        }
        assert states[dead.id] == ("abandoned", True, 0)
        assert states[late.id] == ("closed", False, 675)
        assert ledger.balance(tx, wallet).held_micros == 0
    assert_books_balance(db)


def test_grants_can_be_replaced_given_another_key_paused_and_revoked(db: Database, give: Give) -> None:
    give()
    with db.tx() as tx:
        metering.replace_key(tx, "ins_1", "new-hash", now=NOW)
    with db.read() as tx:
        assert metering.find_bearer(tx, KEY_HASH).grant.key_hash == "new-hash"
    open_one(db)
    open_one(db, key_hash="new-hash")
    for _ in range(2):
        with db.tx() as tx:
            metering.drop_replaced_key(tx, "ins_1", now=NOW)
    with pytest.raises(Unauthorized):
        open_one(db)
    with db.read() as tx, pytest.raises(Unauthorized):
        metering.find_bearer(tx, KEY_HASH)
    open_one(db, key_hash="new-hash")
    with db.tx() as tx:
        metering.deactivate(tx, "ins_1", now=NOW)
        assert metering.find_bearer(tx, "new-hash").grant.is_active is False
        metering.revoke(tx, "ins_1")
        metering.revoke(tx, "ins_1")
        assert metering.grant_of(tx, "ins_1") is None
        with pytest.raises(NotFound):
            metering.activate(tx, "ins_1", now=NOW)
    with db.read() as tx:
        assert len(metering.list_usage(tx, "acc_1").calls) == 3


@pytest.mark.parametrize(
    "terms",
    [
        GrantTerms("ins_2", "acc_1", "h", PlanMode.METERED),
        GrantTerms("ins_2", "acc_1", "h", PlanMode.INCLUDED),
        GrantTerms("ins_2", "acc_1", "h", PlanMode.OWN_KEY, own_key_upstream="anthropic"),
    ],
)
def test_a_grant_without_a_payer_is_refused(db: Database, terms: GrantTerms) -> None:
    with db.tx() as tx, pytest.raises(ValueError, match=r"needs|come together"):
        metering.put_grant(tx, terms, now=NOW)


def test_summaries_add_up_by_day_model_instance_and_source(db: Database, give: Give) -> None:
    give(dollars=1000)
    almost_midnight = NOW.replace(hour=23, minute=59)
    automatic = Ask("claude-opus-5-5", "anthropic-messages", 10, 10, Source.AUTOMATIC)
    close_one(db, open_one(db, now=almost_midnight), now=almost_midnight)
    close_one(db, open_one(db, automatic, almost_midnight + timedelta(minutes=2)))
    open_one(db, now=NOW)
    with db.tx() as tx:
        metering.sweep(tx, now=NOW + timedelta(minutes=30))
    with db.read() as tx:
        found = metering.usage_summary(tx, "acc_1", NOW, NOW + timedelta(days=2))
        assert [(line.key, line.calls) for line in found.by_day] == [("2026-11-21", 1), ("2026-11-22", 1)]
        assert [(line.key, line.input_tokens) for line in found.by_model] == [
            ("claude-opus-5-5", 100),
            ("sandbox-1", 100),
        ]
        assert [line.key for line in found.by_source] == ["automatic", "person"]
        assert [line.calls for line in found.by_instance] == [2]
        assert found.total.price_micros == sum(line.price_micros for line in found.by_day) == 675 + 900
        assert metering.usage_summary(tx, "acc_2", NOW, NOW + timedelta(days=2)).total.calls == 0


def test_lists_page_newest_first_and_refuse_foreign_cursors(db: Database, give: Give) -> None:
    give()
    ids = [open_one(db, now=NOW + timedelta(seconds=number // 2)).id for number in range(5)]
    with db.read() as tx:
        first = metering.list_usage(tx, "acc_1", limit=2)
        second = metering.list_usage(tx, "acc_1", first.next_cursor, limit=2)
        third = metering.list_usage(tx, "acc_1", second.next_cursor, limit=2)
        seen = [row.id for page in (first, second, third) for row in page.calls]
        assert sorted(seen) == sorted(ids)
        assert seen[0] == ids[4]
        assert third.next_cursor is None
        assert metering.list_usage(tx, "acc_1", instance_id="ins_other").calls == []
        impossible_time, nul_in_id = "MDAwMS0wMS0wMVQwMDowMDowMCsyMzo1OXx4", "MjAyNi0wMS0wMVQwMDowMDowMCswMDowMHx4AHk="
        for bad in ("x", "", "bm90IGEgY3Vyc29y", "\u041c=", impossible_time, nul_in_id):
            with pytest.raises(AppError):
                metering.list_usage(tx, "acc_1", bad)
