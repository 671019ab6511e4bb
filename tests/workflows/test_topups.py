"""Top-ups: one page per wish, one charge per crossing, every failure told once and never looped."""

from __future__ import annotations

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from clawhaven import ledger
from clawhaven.billing import checkouts, wallet
from clawhaven.billing.models import Checkout, Customer, Wallet
from clawhaven.billing.wallet import Auto, Standing
from clawhaven.core.errors import Invalid, Unavailable
from clawhaven.notices import outbox
from clawhaven.notices.models import Notice
from clawhaven.ports.payments import Capability
from clawhaven.providers.payments.sandbox_trouble import Trouble
from clawhaven.workflows import access, attempts, balance, engine, payments, settlement, topups
from clawhaven.workflows.checkout import Begun
from tests.contracts.payments import request_of
from tests.workflows.scene import Scene

DOLLAR = 1_000_000
_number = itertools.count(1)


@pytest.fixture
def hurried(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Nothing waits between tries."""
    monkeypatch.setattr(attempts, "pause", lambda seconds: None)
    return scene


@pytest.fixture
def begun(hurried: Scene) -> Begun:
    """A metered assistant that runs, with 30 dollars and a saved card at the vendor."""
    made = hurried.live(plan="metered")
    move(hurried, made, 20)
    return made


def move(scene: Scene, begun: Begun, dollars: int) -> None:
    account_id, now = begun.owner.account.id, scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        values: dict[str, Any] = {"key": f"move:{next(_number)}", "amount_micros": abs(dollars) * DOLLAR, "now": now}
        wallet_id = access.wallet_of(db, scene.ctx, account_id)
        book = ledger.credit if dollars > 0 else ledger.debit
        book(db, ledger_account_id=wallet_id, kind="topup" if dollars > 0 else "usage", **values)
        balance.look(db, scene.ctx, account_id)


def save(scene: Scene, begun: Begun, *, is_auto: bool = True, threshold: float = 15, amount: float = 25) -> Wallet:
    with scene.ctx.db.tx() as db:
        return balance.save_auto(
            db,
            scene.ctx,
            begun.owner.account.id,
            is_auto=is_auto,
            threshold_micros=round(threshold * DOLLAR),
            amount_micros=round(amount * DOLLAR),
            actor="user:ada",
        )


def row(scene: Scene, begun: Begun) -> Wallet:
    with scene.ctx.db.read() as db:
        return db.get_one(Wallet, begun.owner.account.id)


def charge(scene: Scene, begun: Begun) -> Checkout | None:
    with scene.ctx.db.read() as db:
        return balance.charge_of(db, db.get_one(Wallet, begun.owner.account.id))


def dollars(scene: Scene, begun: Begun) -> float:
    with scene.ctx.db.read() as db:
        assert ledger.check_books(db) == []
        return ledger.balances(db, wallet.KIND)[begun.owner.account.id].balance_micros / DOLLAR


def run(scene: Scene) -> None:
    """Work until no workflow is left."""
    with engine.running(scene.ctx):
        busy = "status IN ('PENDING', 'ENQUEUED', 'DELAYED')"
        names = "name IN ('charge_topup', 'settle', 'deliver')"
        scene.wait(lambda: scene.count("workflow_status", f"{busy} AND {names}") == 0)


def act(scene: Scene, begun: Begun) -> str:
    """What the workflow of the crossing does, and the settlement after it, here and now."""
    pending = charge(scene, begun)
    assert pending is not None
    engine._context = scene.ctx
    attempts.stopping.clear()
    try:
        outcome: str = topups.charge_topup.__wrapped__(pending.id, row(scene, begun).auto_count)  # type: ignore[attr-defined]
        payments.settle_checkout(pending.id)
    finally:
        engine._context = None
    return outcome


def letters(scene: Scene) -> list[str]:
    """What was written about the auto top-up."""
    with scene.ctx.db.read() as db:
        ids = list(db.scalars(select(Notice.id).where(Notice.kind.like("auto_topup%"))))
        found = (outbox.message(db, notice_id, scene.ctx.keys) for notice_id in ids)
        return [message.text for message in found if message is not None]


# A page


def test_a_page_is_reused_within_minutes_also_when_asked_at_once(hurried: Scene, begun: Begun) -> None:
    with ThreadPoolExecutor(6) as pool:
        pages = list(pool.map(lambda _: topups.open_topup(hurried.ctx, begun.owner, 20 * DOLLAR), range(6)))
    assert len({page.id for page in pages}) == 1
    assert all(page.url for page in pages)
    assert topups.open_topup(hurried.ctx, begun.owner, 30 * DOLLAR).id != pages[0].id
    hurried.ctx.clock.advance(topups.REUSE)
    assert topups.open_topup(hurried.ctx, begun.owner, 20 * DOLLAR).id != pages[0].id


def test_a_paid_page_fills_the_wallet_once(hurried: Scene, begun: Begun) -> None:
    page = topups.open_topup(hurried.ctx, begun.owner, 20 * DOLLAR)
    assert page.reference
    hurried.vendor.complete(page.reference, "paid")
    for _ in range(3):
        seen = hurried.ctx.payments["sandbox"].fetch(page.reference)
        with hurried.ctx.db.tx() as db:
            assert settlement.equalise(db, hurried.ctx, checkouts.get(db, page.id), seen) == "paid"
    assert dollars(hurried, begun) == 50
    assert topups.open_topup(hurried.ctx, begun.owner, 20 * DOLLAR).id != page.id


@pytest.mark.parametrize("amount", [9_990_000, 1_000_010_000, 10_000_001, 0, -20 * DOLLAR])
def test_amounts_out_of_range_or_below_cents_are_refused(hurried: Scene, begun: Begun, amount: int) -> None:
    with pytest.raises(Invalid) as refused:
        topups.open_topup(hurried.ctx, begun.owner, amount)
    assert refused.value.details["field"] == "amount"


def test_a_vendor_that_sells_whole_dollars_says_so(
    hurried: Scene, begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(hurried.vendor._Guarded__provider), "topup_unit_micros", DOLLAR, raising=False)  # type: ignore[attr-defined]
    with pytest.raises(Invalid, match="whole dollars"):
        topups.open_topup(hurried.ctx, begun.owner, 10_500_000)
    assert topups.open_topup(hurried.ctx, begun.owner, 11_000_000).url


def test_a_vendor_that_is_down_leaves_a_page_for_the_next_try(hurried: Scene, begun: Begun) -> None:
    hurried.vendor.make_trouble(Trouble(is_down=True))
    with pytest.raises(Unavailable):
        topups.open_topup(hurried.ctx, begun.owner, 20 * DOLLAR)
    hurried.vendor.make_trouble(Trouble())
    assert topups.open_topup(hurried.ctx, begun.owner, 20 * DOLLAR).url
    assert hurried.count("checkout", "kind = 'topup'") == 1


# The auto top-up


def test_settings_are_checked(hurried: Scene, begun: Begun) -> None:
    for field, given in (
        ("amount", {"amount": 5}),
        ("amount", {"amount": 1_001}),
        ("threshold", {"threshold": -1}),
        ("threshold", {"threshold": 15.000001}),
    ):
        with pytest.raises(Invalid) as refused:
            save(hurried, begun, **given)  # type: ignore[arg-type]
        assert refused.value.details["field"] == field
    assert save(hurried, begun, is_auto=False, amount=0).is_auto is False


def test_a_crossing_is_charged_once_and_the_next_one_again(hurried: Scene, begun: Begun) -> None:
    save(hurried, begun)
    assert row(hurried, begun).auto_count == 0
    move(hurried, begun, -16)
    for _ in range(3):
        topups.sweep(hurried.ctx)
    move(hurried, begun, -1)
    assert hurried.count("checkout", "kind = 'auto_topup'") == 1
    run(hurried)
    assert dollars(hurried, begun) == 38
    assert (row(hurried, begun).auto_state, row(hurried, begun).auto_count) == (Auto.ARMED, 1)
    move(hurried, begun, -24)
    run(hurried)
    assert dollars(hurried, begun) == 39
    assert row(hurried, begun).auto_count == 2
    assert hurried.count("receipt", "amount_micros = 25000000") == 2


def test_one_that_does_not_reach_the_threshold_is_not_repeated(hurried: Scene, begun: Begun) -> None:
    save(hurried, begun, threshold=100, amount=10)
    act(hurried, begun)
    for _ in range(3):
        topups.sweep(hurried.ctx)
    act(hurried, begun)
    assert dollars(hurried, begun) == 40
    assert (row(hurried, begun).auto_state, row(hurried, begun).auto_count) == (Auto.FIRED, 1)


@pytest.mark.parametrize(("card", "words"), [("declined", "was declined"), ("needs_3ds", "wants you to confirm")])
def test_a_charge_that_fails_is_told_once_and_not_repeated(hurried: Scene, begun: Begun, card: Any, words: str) -> None:
    save(hurried, begun)
    hurried.vendor.make_trouble(Trouble(next_card=card))
    move(hurried, begun, -16)
    act(hurried, begun)
    for _ in range(3):
        hurried.ctx.clock.advance(timedelta(minutes=11))
        topups.sweep(hurried.ctx)
    act(hurried, begun)
    (text,) = letters(hurried)
    assert words in text
    assert "http" in text
    assert dollars(hurried, begun) == 14
    assert (row(hurried, begun).auto_state, row(hurried, begun).auto_count) == (Auto.FAILED, 1)
    save(hurried, begun)
    act(hurried, begun)
    assert dollars(hurried, begun) == 39
    assert row(hurried, begun).auto_state == Auto.ARMED


def test_a_top_up_by_hand_arms_it_again(hurried: Scene, begun: Begun) -> None:
    save(hurried, begun)
    hurried.vendor.make_trouble(Trouble(next_card="declined"))
    move(hurried, begun, -16)
    act(hurried, begun)
    assert row(hurried, begun).auto_state == Auto.FAILED
    move(hurried, begun, 20)
    assert row(hurried, begun).auto_state == Auto.ARMED


def test_a_vendor_that_is_down_is_asked_again_under_the_same_key(hurried: Scene, begun: Begun) -> None:
    save(hurried, begun)
    hurried.vendor.make_trouble(Trouble(is_down=True))
    move(hurried, begun, -16)
    act(hurried, begun)
    save(hurried, begun)
    first = charge(hurried, begun)
    assert first is not None
    assert (first.reference, row(hurried, begun).auto_state) == (None, Auto.FIRED)
    hurried.vendor.make_trouble(Trouble())
    asked = "name = 'charge_topup'"
    topups.sweep(hurried.ctx)
    assert hurried.count("workflow_status", asked) == 1, "too early"
    hurried.ctx.clock.advance(topups.STUCK)
    for _ in range(2):
        topups.sweep(hurried.ctx)
    assert hurried.count("workflow_status", asked) == 2
    assert act(hurried, begun) == "paid"
    assert dollars(hurried, begun) == 39
    assert hurried.count("checkout", "kind = 'auto_topup'") == 1
    assert letters(hurried) == []


def test_a_charge_whose_end_was_missed_is_settled_by_the_sweep(hurried: Scene, begun: Begun) -> None:
    save(hurried, begun)
    move(hurried, begun, -16)
    pending = charge(hurried, begun)
    assert pending is not None
    engine._context = hurried.ctx
    assert topups.charge(pending.id)
    assert topups.charge(pending.id)
    engine._context = None
    hurried.ctx.clock.advance(topups.STUCK)
    topups.sweep(hurried.ctx)
    assert hurried.count("workflow_status", "name = 'settle'") == 1
    run(hurried)
    assert dollars(hurried, begun) == 39
    assert hurried.count("receipt", "amount_micros = 25000000") == 1


def test_without_a_charge_one_letter_has_the_link(hurried: Scene, begun: Begun) -> None:
    ctx = dataclasses.replace(hurried.ctx, payments={"sandbox": PagesOnly(hurried.ctx.payments["sandbox"])})
    scene = dataclasses.replace(hurried, ctx=ctx)
    save(scene, begun)
    move(scene, begun, -16)
    topups.sweep(scene.ctx)
    act(scene, begun)
    topups.sweep(scene.ctx)
    act(scene, begun)
    (text,) = letters(scene)
    page = charge(scene, begun)
    assert page is not None
    assert page.url
    assert f"\n{page.url}\n" in text
    assert "/topup\n" in text
    assert page.kind == "topup"
    scene.vendor.complete(page.reference or "", "paid")
    seen = scene.ctx.payments["sandbox"].fetch(page.reference or "")
    with scene.ctx.db.tx() as db:
        settlement.equalise(db, scene.ctx, checkouts.get(db, page.id), seen)
    assert dollars(scene, begun) == 39
    assert row(scene, begun).auto_state == Auto.ARMED


def test_an_account_without_a_saved_method_is_told(hurried: Scene, begun: Begun) -> None:
    unpaid = hurried.vendor.create_checkout(request_of("chk_other", account_id="acc_other")).reference
    become(hurried, hurried.vendor.fetch(unpaid).customer_reference)
    save(hurried, begun)
    move(hurried, begun, -16)
    act(hurried, begun)
    topups.sweep(hurried.ctx)
    act(hurried, begun)
    (text,) = letters(hurried)
    assert topups.NO_METHOD in text
    failed = charge(hurried, begun)
    assert failed is not None
    assert (failed.state, row(hurried, begun).auto_state) == ("expired", Auto.FAILED)


def become(scene: Scene, customer: str | None) -> None:
    """Everybody is this customer at the vendor."""
    with scene.ctx.db.tx() as db:
        db.execute(update(Customer).values(reference=customer))


class PagesOnly:
    """The sandbox vendor as one that cannot charge a saved method."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.capabilities = real.capabilities - {Capability.CHARGE_SAVED}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


# The sweep


def test_the_sweep_passes_by_what_is_in_order(hurried: Scene, begun: Begun) -> None:
    assert topups.sweep(hurried.ctx) == 0
    save(hurried, begun)
    assert topups.sweep(hurried.ctx) == 0
    move(hurried, begun, -20)
    assert topups.sweep(hurried.ctx) == 1


def test_what_needs_a_look(hurried: Scene, begun: Begun) -> None:
    full, below = Standing(30 * DOLLAR, 0, 10 * DOLLAR), Standing(14 * DOLLAR, 0, 10 * DOLLAR)
    known = row(hurried, begun)
    assert not balance.needs_look(hurried.ctx, known, full, True)
    assert balance.needs_look(hurried.ctx, known, below, True)
    assert not balance.needs_look(hurried.ctx, known, below, False)
    assert balance.needs_look(hurried.ctx, None, full, True)
    assert not balance.needs_look(hurried.ctx, None, full, False)


def test_one_broken_wallet_stops_no_other(hurried: Scene, begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    other = hurried.live("bob@example.com", plan="metered")
    move(hurried, begun, -20)
    real, looked = balance.look, []

    def look(db: Any, ctx: Any, account_id: str) -> None:
        looked.append(account_id)
        if len(looked) == 1:
            raise Invalid("broken")
        real(db, ctx, account_id)

    monkeypatch.setattr(balance, "look", look)
    assert topups.sweep(hurried.ctx) == 2
    assert sorted(looked) == sorted([begun.owner.account.id, other.owner.account.id])
