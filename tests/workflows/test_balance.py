"""The wallet joined to assistants and letters: told once per episode, suspended after the grace, back with a credit."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from clawhaven import ledger
from clawhaven.billing import coupons, credits, wallet
from clawhaven.billing.models import Wallet
from clawhaven.billing.wallet import Level
from clawhaven.core.errors import Conflict, Invalid, PaymentRequired
from clawhaven.instances import states
from clawhaven.instances.states import Reason, State
from clawhaven.workflows import access, balance, lifecycle, topups
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene

DOLLAR = 1_000_000
GRACE = timedelta(minutes=60)
_number = itertools.count(1)


@pytest.fixture
def begun(scene: Scene) -> Begun:
    """A metered assistant that runs; its wallet has 30 dollars and a floor of 10."""
    made = scene.live(plan="metered")
    assert row(scene, made).level == Level.DEPLETED, "the included credit alone is the minimum"
    move(scene, made, 20)
    assert row(scene, made).level == Level.OK
    return made


def move(scene: Scene, begun: Begun, dollars: float, kind: str = "topup", *, then_look: bool = True) -> None:
    """Money comes in (a credit) or goes out (usage, as far as the floor lets it)."""
    amount = round(dollars * DOLLAR)
    with scene.ctx.db.tx() as db:
        wallet_id = access.wallet_of(db, scene.ctx, begun.owner.account.id)
        now, key = scene.ctx.clock.now(), f"move:{next(_number)}"
        if amount > 0:
            ledger.credit(db, key=key, ledger_account_id=wallet_id, amount_micros=amount, now=now, kind=kind)
        else:
            ledger.debit(db, key=key, ledger_account_id=wallet_id, amount_micros=-amount, now=now, kind="usage")
        if then_look:
            balance.look(db, scene.ctx, begun.owner.account.id)


def look(scene: Scene, begun: Begun) -> None:
    with scene.ctx.db.tx() as db:
        balance.look(db, scene.ctx, begun.owner.account.id)


def row(scene: Scene, begun: Begun) -> Wallet:
    with scene.ctx.db.read() as db:
        return db.get_one(Wallet, begun.owner.account.id)


def letters(scene: Scene, kind: str) -> int:
    return scene.count("notice", f"kind = '{kind}'")


def reasons(scene: Scene, begun: Begun) -> list[Reason]:
    return states.reasons(scene.instance(begun.instance.id))


def test_each_change_of_level_is_told_once(scene: Scene, begun: Begun) -> None:
    depleted_before, restored_before = letters(scene, "balance_depleted"), letters(scene, "balance_restored")
    assert (depleted_before, restored_before) == (1, 1)
    move(scene, begun, -16)
    for _ in range(3):
        look(scene, begun)
    assert letters(scene, "balance_low") == 1
    move(scene, begun, 6)
    move(scene, begun, -6)
    assert letters(scene, "balance_low") == 2, "a new episode is told again"
    move(scene, begun, -4)
    for _ in range(3):
        look(scene, begun)
    assert letters(scene, "balance_depleted") == 2
    assert letters(scene, "balance_low") == 2
    move(scene, begun, 1)
    assert letters(scene, "balance_restored") == 2
    assert letters(scene, "balance_low") == 2, "back, and low: one letter says it"


def test_after_the_grace_it_is_suspended_and_a_credit_brings_it_back(scene: Scene, begun: Begun) -> None:
    move(scene, begun, -20)
    assert reasons(scene, begun) == []
    scene.ctx.clock.advance(GRACE - timedelta(seconds=5))
    topups.sweep(scene.ctx)
    assert reasons(scene, begun) == []
    scene.ctx.clock.advance(timedelta(seconds=10))
    for _ in range(3):
        topups.sweep(scene.ctx)
    assert reasons(scene, begun) == [Reason.BALANCE]
    assert scene.instance(begun.instance.id).state == State.SUSPENDED
    assert letters(scene, "suspended") == 1
    restored = letters(scene, "balance_restored")
    move(scene, begun, 1)
    assert reasons(scene, begun) == []
    assert scene.count("operation", f"kind = 'resume' AND instance_id = '{begun.instance.id}'") == 1
    assert letters(scene, "balance_restored") == restored, "the assistant that starts has a letter of its own"


def test_other_reasons_stay(scene: Scene, begun: Begun) -> None:
    move(scene, begun, -20)
    scene.ctx.clock.advance(GRACE)
    look(scene, begun)
    with scene.ctx.db.tx() as db:
        lifecycle.ask_suspend(db, scene.ctx, begun.instance.id, Reason.OWNER, "user:ada")
    move(scene, begun, 5)
    assert reasons(scene, begun) == [Reason.OWNER]
    assert scene.count("operation", "kind = 'resume'") == 0


def test_a_refused_call_depletes_until_the_next_credit(scene: Scene, begun: Begun) -> None:
    scene.ctx.clock.advance(timedelta(minutes=5))
    account_id = begun.owner.account.id
    with scene.ctx.db.tx() as db:
        assert wallet.mark_refused(db, account_id, scene.ctx.clock.now())
    topups.sweep(scene.ctx)
    assert row(scene, begun).level == Level.DEPLETED
    move(scene, begun, -3)
    assert row(scene, begun).level == Level.DEPLETED
    move(scene, begun, 0.01)
    after = row(scene, begun)
    assert (after.level, after.refused_at) == (Level.OK, None)


def test_only_metered_accounts_are_judged(scene: Scene) -> None:
    begun = scene.live()
    with scene.ctx.db.tx() as db:
        access.wallet_of(db, scene.ctx, begun.owner.account.id)
        balance.look(db, scene.ctx, begun.owner.account.id)
    scene.ctx.clock.advance(GRACE * 2)
    topups.sweep(scene.ctx)
    assert reasons(scene, begun) == []
    assert scene.count("notice", "kind LIKE 'balance%'") == 0


def test_a_change_of_plan_frees_what_was_suspended_for_the_balance(scene: Scene, begun: Begun) -> None:
    move(scene, begun, -20)
    scene.ctx.clock.advance(GRACE)
    look(scene, begun)
    assert reasons(scene, begun) == [Reason.BALANCE]
    told = scene.count("notice", "kind LIKE 'balance%'")
    with scene.ctx.db.tx() as db:
        db.connection().exec_driver_sql("UPDATE subscription SET plan = 'personal'")
    topups.sweep(scene.ctx)
    assert reasons(scene, begun) == []
    assert row(scene, begun).level == Level.OK
    assert scene.count("notice", "kind LIKE 'balance%'") == told


def test_usage_stops_at_the_minimum_and_the_minimum_follows_its_setting(scene: Scene, begun: Begun) -> None:
    with pytest.raises(PaymentRequired):
        move(scene, begun, -20.000001)
    scene.ctx.settings.wallet_minimum *= 2
    topups.sweep(scene.ctx)
    with scene.ctx.db.read() as db:
        assert ledger.balances(db, wallet.KIND, begun.owner.account.id)[begun.owner.account.id].available_micros == (
            10 * DOLLAR
        )


def test_the_sweep_takes_expired_credit_back_and_tells(scene: Scene, begun: Begun) -> None:
    move(scene, begun, -12)
    scene.ctx.clock.advance(timedelta(days=32))
    topups.sweep(scene.ctx)
    with scene.ctx.db.read() as db:
        (grant,) = credits.of_account(db, begun.owner.account.id)
        assert (grant.source, grant.expired_micros) == ("period", 0), "it was spent before the top-up"
        assert ledger.check_books(db) == []
    assert row(scene, begun).level == Level.OK


def test_unused_credit_that_expires_can_deplete(scene: Scene, begun: Begun) -> None:
    move(scene, begun, -1)
    with scene.ctx.db.tx() as db:
        ctx, account_id = scene.ctx, begun.owner.account.id
        balance.correct(db, ctx, account_id, -15 * DOLLAR, "Set right", "user:op", key="k", below_floor=True)
    scene.ctx.clock.advance(timedelta(days=32))
    topups.sweep(scene.ctx)
    topups.sweep(scene.ctx)
    with scene.ctx.db.read() as db:
        found = ledger.balances(db, wallet.KIND, account_id)[account_id]
        (grant,) = credits.of_account(db, account_id)
    assert (grant.expired_micros, found.balance_micros) == (9 * DOLLAR, 5 * DOLLAR)
    assert row(scene, begun).level == Level.DEPLETED


def test_credit_and_correction_of_the_operator(scene: Scene, begun: Begun) -> None:
    ctx, account_id = scene.ctx, begun.owner.account.id
    with ctx.db.tx() as db:
        give = balance.give_credit
        assert give(db, ctx, account_id, DOLLAR, " Sorry for\nthe outage ", "user:op", key="k")
        assert not give(db, ctx, account_id, DOLLAR, "Sorry for the outage", "user:op", key="k")
        assert balance.correct(db, ctx, account_id, -5 * DOLLAR, "Booked twice", "user:op", key="k")
        assert not balance.correct(db, ctx, account_id, -5 * DOLLAR, "Booked twice", "user:op", key="k")
        with pytest.raises(PaymentRequired):
            balance.correct(db, ctx, account_id, -17 * DOLLAR, "Too much", "user:op", key="l")
        assert balance.correct(db, ctx, account_id, -17 * DOLLAR, "All of it", "user:op", key="m", below_floor=True)
        lines = ledger.list_entries(db, account_id).lines
    assert [(one.kind, one.note, one.amount_micros // DOLLAR) for one in lines[:3]] == [
        ("correction", "All of it", -17),
        ("correction", "Booked twice", -5),
        ("credit", "Sorry for the outage", 1),
    ]
    assert scene.count("audit_log", "action = 'wallet.credit' AND actor = 'user:op'") == 1
    assert scene.count("audit_log", "action = 'wallet.correction'") == 2
    assert row(scene, begun).level == Level.DEPLETED
    for field, amount, reason in (("amount", 0, "Because"), ("amount", 10**12, "Because"), ("reason", DOLLAR, " a ")):
        for verb in (balance.give_credit, balance.correct):
            with ctx.db.tx() as db, pytest.raises(Invalid) as refused:
                verb(db, ctx, account_id, amount, reason, "user:op", key="n")
            assert refused.value.details["field"] == field


def test_a_key_that_was_used_for_another_amount_is_a_conflict(scene: Scene, begun: Begun) -> None:
    ctx, account_id = scene.ctx, begun.owner.account.id
    for verb, amount in ((balance.give_credit, 5 * DOLLAR), (balance.correct, -5 * DOLLAR)):
        with ctx.db.tx() as db:
            assert verb(db, ctx, account_id, amount, "Because", "user:op", key="k")
        with ctx.db.tx() as db, pytest.raises(Conflict, match=r"\$5\.00") as refused:
            verb(db, ctx, account_id, amount + DOLLAR, "Because", "user:op", key="k")
        assert refused.value.details["field"] == "key"
    with ctx.db.read() as db:
        assert ledger.balances(db, wallet.KIND)[account_id].balance_micros == 30 * DOLLAR


def test_a_coupon_fills_the_wallet_once(scene: Scene, begun: Begun) -> None:
    ctx, account_id = scene.ctx, begun.owner.account.id
    with ctx.db.tx() as db:
        now = ctx.clock.now()
        coupons.create(db, "GIFT", "credit", 5 * DOLLAR, now=now)
        coupons.create(db, "LESS", "percent", 5, now=now)
        assert balance.redeem(db, ctx, account_id, "gift", "user:ada") == 5 * DOLLAR
    for code, reason in (("GIFT", "used"), ("LESS", "not credit"), ("WHAT", "unknown")):
        with ctx.db.tx() as db, pytest.raises(Invalid) as refused:
            balance.redeem(db, ctx, account_id, code, "user:ada")
        assert refused.value.details["reason"] == reason
    with ctx.db.read() as db:
        assert ledger.balances(db, wallet.KIND, account_id)[account_id].balance_micros == 35 * DOLLAR
        assert ledger.check_books(db) == []
