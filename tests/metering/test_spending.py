"""A day's limits as the customer sees them, and admission keeping to them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from clawhaven import metering
from clawhaven.core.db import Database
from clawhaven.core.errors import Conflict, Invalid, NotFound, RateLimited
from clawhaven.core.secrets import hash_token
from clawhaven.metering import Ask, GrantTerms, PlanMode, Source, spending
from clawhaven.metering.limits import ACCOUNT_SPEND_PER_DAY, AUTOMATIC_PER_DAY, SPEND_PER_DAY
from clawhaven.metering.models import Grant
from clawhaven.metering.spending import Spending
from clawhaven.ports.upstream import Usage
from tests.metering.conftest import KEY_HASH, NOW

Give = Callable[..., str]
CENT = 10_000
PRICE = 675
"""Of one call below."""


def call(db: Database, source: Source = Source.PERSON, key_hash: str = KEY_HASH, minutes: int = 0) -> None:
    now = NOW + timedelta(minutes=minutes)
    ask = Ask("sandbox-1", "anthropic-messages", 1_000, 1_000, source)
    with db.tx() as tx:
        opened = metering.open_call(tx, ask, key_hash=key_hash, upstreams=("sandbox",), now=now)
    with db.tx() as tx:
        assert metering.close_call(tx, opened.id, Usage(100, 10), now=now).price_micros == PRICE


def today(db: Database, minutes: int = 0) -> Spending:
    with db.read() as tx:
        (found,) = spending.spending_of(tx, NOW + timedelta(minutes=minutes), instance_ids=["ins_1"])
        return found


def test_an_allowance_pauses_idle_calls_only_until_a_tap_or_midnight(db: Database, give: Give) -> None:
    give(automatic_per_day_micros=PRICE + 1)
    call(db, Source.HEARTBEAT)
    call(db, Source.PERSON)
    assert not today(db).is_automatic_paused
    call(db, Source.CRON)
    found = today(db)
    assert (found.automatic_micros, found.allowance_micros, found.spent_micros) == (2 * PRICE, PRICE + 1, 3 * PRICE)
    assert found.is_automatic_paused
    assert found.resets_at == NOW.replace(hour=0) + timedelta(days=1)
    for source in (Source.HEARTBEAT, Source.CRON, Source.AUTOMATIC):
        with pytest.raises(RateLimited) as refused:
            call(db, source)
        assert refused.value.error_code == AUTOMATIC_PER_DAY
    for source in (Source.PERSON, Source.SUBAGENT, Source.COMPACTION, Source.UNKNOWN):
        call(db, source)
    with db.tx() as tx:
        assert spending.continue_automatic(tx, "ins_1", NOW)
    assert (today(db).extra_micros, today(db).is_automatic_paused) == (PRICE + 1, False)
    call(db, Source.HEARTBEAT)
    with pytest.raises(RateLimited):
        call(db, Source.HEARTBEAT)
    call(db, Source.HEARTBEAT, minutes=12 * 60)
    tomorrow = today(db, minutes=12 * 60)
    assert (tomorrow.extra_micros, tomorrow.allowance_micros, tomorrow.automatic_micros) == (0, PRICE + 1, PRICE)


def test_the_same_button_adds_once(db: Database, give: Give) -> None:
    give(automatic_per_day_micros=5 * CENT)
    with db.tx() as tx:
        assert spending.continue_automatic(tx, "ins_1", NOW, 0)
        assert not spending.continue_automatic(tx, "ins_1", NOW, 0)
        assert spending.continue_automatic(tx, "ins_1", NOW, 5 * CENT)
        assert spending.continue_automatic(tx, "ins_1", NOW)
    assert today(db).allowance_micros == 20 * CENT
    with db.tx() as tx:
        assert spending.continue_automatic(tx, "ins_1", NOW + timedelta(days=1), 0)
    assert today(db, 24 * 60).allowance_micros == 10 * CENT


def test_nothing_to_continue_is_told_apart(db: Database, give: Give) -> None:
    give()
    with db.tx() as tx, pytest.raises(Conflict) as refused:
        spending.continue_automatic(tx, "ins_1", NOW)
    assert refused.value.error_code == spending.NO_ALLOWANCE
    with db.tx() as tx, pytest.raises(NotFound):
        spending.continue_automatic(tx, "ins_9", NOW)


def test_a_limit_of_the_customer_outlives_a_change_of_plan(db: Database, give: Give) -> None:
    account = give()
    with db.tx() as tx:
        spending.set_limit(tx, "ins_1", 500 * CENT)
        spending.set_account_limit(tx, "acc_1", 900 * CENT)
        terms = GrantTerms("ins_1", "acc_1", KEY_HASH, PlanMode.METERED, account, is_active=True)
        metering.put_grant(tx, terms, now=NOW)
        second = GrantTerms("ins_2", "acc_1", hash_token("two"), PlanMode.METERED, account, is_active=True)
        metering.put_grant(tx, second, now=NOW)
    assert (today(db).limit_micros, today(db).account_limit_micros) == (500 * CENT, 900 * CENT)
    with db.read() as tx:
        both = spending.spending_of(tx, NOW, account_id="acc_1")
        assert [(one.limit_micros, one.account_limit_micros) for one in both] == [
            (500 * CENT, 900 * CENT),
            (None, 900 * CENT),
        ]
    call(db)
    call(db, key_hash=hash_token("two"))
    with db.read() as tx:
        found = [(one.spent_micros, one.account_spent_micros) for one in spending.spending_of(tx, NOW)]
    assert found == [(PRICE, 2 * PRICE)] * 2


@pytest.mark.parametrize("is_account", [False, True])
def test_a_limit_refuses_what_could_go_beyond_it(db: Database, give: Give, is_account: bool) -> None:
    give()
    with db.tx() as tx:
        if is_account:
            spending.set_account_limit(tx, "acc_1", CENT)
        else:
            spending.set_limit(tx, "ins_1", CENT)
    with pytest.raises(RateLimited) as refused:
        call(db)
    assert refused.value.error_code == (ACCOUNT_SPEND_PER_DAY if is_account else SPEND_PER_DAY)
    with db.tx() as tx:
        (spending.set_account_limit if is_account else spending.set_limit)(tx, "acc_1" if is_account else "ins_1", None)
    call(db)


@pytest.mark.parametrize("wrong", [-1, 1, CENT + 1, spending.MOST_MICROS + CENT])
def test_a_limit_is_an_amount(db: Database, give: Give, wrong: int) -> None:
    give()
    for change, subject in ((spending.set_limit, "ins_1"), (spending.set_account_limit, "acc_1")):
        with db.tx() as tx, pytest.raises(Invalid) as refused:
            change(tx, subject, wrong)
        assert refused.value.details["field"] == "spend_per_day_micros"
    with db.tx() as tx, pytest.raises(NotFound):
        spending.set_limit(tx, "nobody", CENT)


def test_a_limit_of_an_account_is_there_before_and_after_its_assistants(db: Database, give: Give) -> None:
    with db.tx() as tx:
        spending.set_account_limit(tx, "acc_1", CENT)
        assert spending.account_limit(tx, "acc_1") == CENT
    give()
    assert today(db).account_limit_micros == CENT
    with pytest.raises(RateLimited):
        call(db)
    with db.tx() as tx:
        metering.revoke(tx, "ins_1")
        assert spending.account_limit(tx, "acc_1") == CENT
        spending.set_account_limit(tx, "acc_1", 900 * CENT)
        spending.set_account_limit(tx, "acc_1", None)
        assert spending.account_limit(tx, "acc_1") is None


def test_a_refusal_is_kept_once_a_day_and_told_once(db: Database, give: Give) -> None:
    give()
    with db.tx() as tx:
        grant = metering.grant_of(tx, "ins_1")
        assert isinstance(grant, Grant)
        for hours in (0, 1, 13):
            spending.note_reached(tx, grant, SPEND_PER_DAY, NOW + timedelta(hours=hours))
    with db.tx() as tx:
        rows = spending.untold(tx, NOW)
        assert [(row.day, row.at) for row in rows] == [
            ("2026-11-21", NOW),
            ("2026-11-22", NOW + timedelta(hours=13)),
        ]
        spending.mark_told(tx, rows[0], NOW)
        assert [row.day for row in spending.untold(tx, NOW)] == ["2026-11-22"]
        assert spending.untold(tx, NOW + timedelta(days=2)) == []


def test_allowances_follow_their_plans(db: Database, give: Give) -> None:
    give(automatic_per_day_micros=CENT)
    with db.tx() as tx:
        assert spending.set_allowances(tx, {"ins_1": CENT, "ins_9": 3}) == 0
        assert spending.set_allowances(tx, {"ins_1": None}) == 1
        assert spending.allowances(tx) == {"ins_1": None}
