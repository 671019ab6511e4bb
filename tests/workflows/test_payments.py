"""Payments: whatever is read, in whatever order and however often, ends where the vendor is."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawhaven.billing import checkouts, subscriptions
from clawhaven.core.clock import Clock
from clawhaven.core.ids import new_id
from clawhaven.instances import states
from clawhaven.ledger import check_books
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import VendorPayment, VendorState, VendorSubscription
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.providers.payments.sandbox_trouble import Trouble
from clawhaven.workflows import attempts, dunning, engine, payments, reconcile, settlement, topups
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene

AT = Clock().now()
PRICE = 29_000_000


class HistoryPayments:
    """A vendor whose checkout goes through a history; `fetch` tells how far it is. Cancels and refunds are noted."""

    name = "history"

    def __init__(self, history: list[VendorState]) -> None:
        self.history, self.now = history, 0

    def fetch(self, checkout_reference: str) -> VendorState:
        return self.history[self.now]


def paid(reference: str, state: str, periods: int = 1, is_ending: bool = False) -> VendorState:
    """Paid so many times, with a subscription in this state."""
    start = AT + timedelta(days=30 * (periods - 1))
    agreement = VendorSubscription(f"sub-{reference}", state, start, start + timedelta(days=30), is_ending)
    done = tuple(VendorPayment(f"pay-{number}-{reference}", PRICE) for number in range(periods))
    return VendorState("paid", done, agreement)


def unpaid(word: str) -> VendorState:
    return VendorState(word, (), None)


HISTORIES = st.tuples(
    st.lists(st.sampled_from(["open", "declined"]), max_size=2),
    st.one_of(
        st.lists(st.sampled_from(["active", "past_due", "unpaid", "trialing", "paused"]), min_size=1, max_size=4),
        st.sampled_from([["cancelled"], ["expired"], []]),
    ),
    st.booleans(),
)


def history_of(reference: str, drawn: tuple[list[str], list[str], bool]) -> list[VendorState]:
    """What a vendor can go through: tries, then paid periods (ended or not), or given up, or still open."""
    tries, rest, is_ended = drawn
    told = [unpaid("open"), *(unpaid(word) for word in tries)]
    if rest and rest[0] in ("cancelled", "expired"):
        return [*told, unpaid(rest[0])]
    told += [paid(reference, word, periods) for periods, word in enumerate(rest, 1)]
    if rest and is_ended:
        told.append(paid(reference, "canceled", len(rest)))
    return told


def apply(scene: Scene, begun: Begun, seen: VendorState) -> str:
    with scene.ctx.db.tx() as db:
        return settlement.equalise(db, scene.ctx, checkouts.get(db, begun.checkout.id), seen)


def books(scene: Scene, begun: Begun) -> dict[str, Any]:
    """Everything that must come out the same."""
    with scene.ctx.db.read() as db:
        checkout = checkouts.get(db, begun.checkout.id)
        subscription = subscriptions.of_checkout(db, begun.checkout.id)
        amounts = sorted(receipt.amount_micros for receipt in checkouts.receipts_of(db, begun.checkout.id))
        instance = scene.instance(begun.instance.id)
        return {
            "checkout": checkout.state,
            "subscription": subscription and subscription.state,
            "period": subscription and subscription.period_end_at,
            "receipts": amounts,
            "ledger": scene.count("ledger_entry", f"ref = '{begun.checkout.id}'"),
            "letters": scene.count("notice", f"kind = 'receipt' AND account_id = '{begun.owner.account.id}'"),
            "provisioned": scene.count("operation", f"kind = 'provision' AND instance_id = '{begun.instance.id}'"),
            "given_up": instance.deletion_asked_at is not None,
            "is_paid": instance.paid_at is not None,
            "reasons": states.reasons(instance),
        }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=HISTORIES, looks=st.lists(st.integers(0, 9), max_size=8))
def test_whenever_and_however_often_the_vendor_is_read_the_end_is_the_same(
    scene: Scene, drawn: tuple[list[str], list[str], bool], looks: list[int]
) -> None:
    """Each event, in any order and any number of copies, reads the vendor as it is by then."""
    ends = []
    for moments in (sorted(looks), []):
        begun = scene.sign_up(f"{new_id('u')}@example.com")
        vendor = HistoryPayments(history_of(begun.checkout.id, drawn))
        for moment in [*moments, len(vendor.history) - 1, len(vendor.history) - 1]:
            vendor.now = max(vendor.now, min(moment, len(vendor.history) - 1))
            apply(scene, begun, vendor.fetch("x"))
        ends.append(books(scene, begun))
    often, once = ends
    if drawn[1] and drawn[1][-1] == "paused" and not drawn[2]:
        # A word we do not know leaves the row as it was, so what was seen before it counts.
        often["subscription"] = once["subscription"] = None
    assert often == once
    with scene.ctx.db.read() as db:
        assert check_books(db) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=HISTORIES, order=st.permutations(range(8)))
def test_even_stale_reads_never_move_money_twice(
    scene: Scene, drawn: tuple[list[str], list[str], bool], order: list[int]
) -> None:
    begun = scene.sign_up(f"{new_id('u')}@example.com")
    history = history_of(begun.checkout.id, drawn)
    for moment in [*order, *order]:
        apply(scene, begun, history[moment % len(history)])
    end = books(scene, begun)
    expected = len(history[-1].payments)
    assert end["receipts"] == [PRICE] * expected
    assert (end["ledger"], end["letters"]) == (expected * 2, expected)
    assert end["provisioned"] in (0, 1)
    assert end["checkout"] in ("open", "completed", "expired")
    with scene.ctx.db.read() as db:
        assert check_books(db) == []


@pytest.mark.parametrize("word", ["unpaid", "canceled"])
def test_who_stops_paying_is_suspended_and_who_pays_again_is_not(scene: Scene, word: str) -> None:
    begun = scene.live()
    reference = scene.reference(begun)
    now = dataclasses.replace(scene.ctx.payments["sandbox"].fetch(reference))
    assert now.subscription
    for state, reasons in (("past_due", []), (word, ["payment"]), (word, ["payment"])):
        apply(scene, begun, dataclasses.replace(now, subscription=dataclasses.replace(now.subscription, state=state)))
        if state == "unpaid":
            # The vendor has given up; the time of grace is ours.
            scene.ctx.clock.advance(timedelta(days=scene.ctx.settings.grace_days))
            dunning.sweep(scene.ctx)
        assert states.reasons(scene.instance(begun.instance.id)) == reasons
    assert scene.count("notice", "kind = 'suspended'") == scene.count("operation", "kind = 'suspend'") == 1
    assert scene.count("model_grant", "is_active") == 0
    apply(scene, begun, now)
    assert states.reasons(scene.instance(begun.instance.id)) == ([] if word == "unpaid" else ["payment"])
    assert scene.count("operation", "kind = 'resume'") == (1 if word == "unpaid" else 0)


def test_what_was_paid_for_something_given_up_is_unwanted_also_the_second_time(scene: Scene) -> None:
    begun = scene.sign_up()
    apply(scene, begun, unpaid("expired"))
    assert scene.instance(begun.instance.id).deletion_asked_at is not None
    for _ in range(2):
        assert apply(scene, begun, paid(begun.checkout.id, "active")) == settlement.UNWANTED
    assert scene.count("operation", "kind = 'provision'") == 0
    assert scene.count("receipt") == 1


def test_missed_events_are_fetched_once(scene: Scene) -> None:
    begun = scene.sign_up()
    scene.vendor.complete(scene.reference(begun), "paid")
    assert payments.sync(scene.ctx) == 3
    assert payments.sync(scene.ctx) == 0
    assert scene.count("payment_event") == 3


def test_an_event_counts_as_stored_only_once_it_is(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = scene.sign_up()
    scene.vendor.complete(scene.reference(begun), "paid")
    (headers, body), *_ = scene.vendor.unseen(begun.checkout.created_at)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the work could not be asked for")

    with monkeypatch.context() as patch:
        patch.setattr(payments, "enqueue", fail)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                payments.receive(scene.ctx, "sandbox", headers, body)
    assert scene.count("payment_event") == 0
    assert payments.receive(scene.ctx, "sandbox", headers, body)
    assert not payments.receive(scene.ctx, "sandbox", headers, body), "known by heart"
    monkeypatch.setattr(payments, "_stored", WeakKeyDictionary())  # another process, or this one after a restart
    assert not payments.receive(scene.ctx, "sandbox", headers, body), "known from the database"
    assert scene.count("payment_event") == 1


def test_what_a_process_knows_by_heart_has_a_bound(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payments, "REMEMBERED", 2)
    begun = scene.sign_up()
    scene.vendor.complete(scene.reference(begun), "paid")
    for _ in range(2):
        for headers, body in scene.vendor.unseen(begun.checkout.created_at):
            payments.receive(scene.ctx, "sandbox", headers, body)
            assert len(payments._stored[scene.ctx.db]) <= 2
    assert scene.count("payment_event") == 3


def test_what_was_missed_while_nothing_ran_for_days_is_fetched(scene: Scene) -> None:
    owner = scene.live().owner
    bought = topups.open_topup(scene.ctx, owner, 20_000_000)
    assert bought.reference
    scene.vendor.complete(bought.reference, "paid")
    assert payments.sync(scene.ctx) > 0
    assert payments.sync(scene.ctx) == 0
    (paid_for,) = scene.vendor.fetch(bought.reference).payments
    scene.vendor.make_trouble(Trouble(is_dropping=True))
    scene.vendor.refund_rest(paid_for.reference)
    scene.ctx.clock.advance(timedelta(days=9))
    assert payments.sync(scene.ctx) == 1
    scene.ctx.clock.advance(timedelta(days=9))
    assert payments.sync(scene.ctx) == 0


def test_a_step_that_cannot_reach_the_vendor_says_so(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    class AwayPayments:
        def unseen(self, since: object) -> None:
            raise ProviderError("no answer", code="payments_down")

    ctx = dataclasses.replace(scene.ctx, payments={"sandbox": AwayPayments()})  # type: ignore[dict-item]
    with pytest.raises(ProviderError):
        payments.sync(ctx)
    assert scene.count("payment_event") == 0


def test_an_event_waits_for_a_vendor_that_is_away_however_long(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = scene.sign_up()
    scene.vendor.complete(scene.reference(begun), "paid")
    fetch = Sandbox.fetch

    def not_now(*_: object) -> VendorState:
        raise ProviderError("not now", code="sandbox_down")

    monkeypatch.setattr(Sandbox, "fetch", not_now)
    monkeypatch.setattr(attempts, "pause", lambda seconds: None)
    with engine.running(scene.ctx):
        payments.sync(scene.ctx)
        _run_dry(scene)
        for _ in range(5):
            scene.ctx.clock.advance(timedelta(days=2))
            assert {one.repair for one in reconcile._unfinished_inbox(scene.ctx)} == {"asked for again"}
            _run_dry(scene)
        assert scene.count("payment_event", "state = 'received'") == scene.count("payment_event") > 0
        monkeypatch.setattr(Sandbox, "fetch", fetch)
        scene.ctx.clock.advance(timedelta(days=2))
        reconcile._unfinished_inbox(scene.ctx)
        _run_dry(scene)
    assert scene.count("payment_event", "state = 'handled'") == scene.count("payment_event")
    assert scene.count("subscription", "state = 'active'") == 1
    assert scene.count("notice", "key LIKE 'events-lost:%'") == 0


def _run_dry(scene: Scene) -> None:
    """Until every workflow about an event is over."""
    waiting = "status IN ('ENQUEUED', 'PENDING', 'DELAYED') AND workflow_uuid LIKE 'event:%'"
    scene.wait(lambda: scene.count("workflow_status", waiting) == 0)


def test_a_periodic_look_asks_a_vendor_that_does_not_answer_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, asked = scene.live(), []
    assert begun.checkout

    def be_away(_: object, reference: str) -> None:
        asked.append(reference)
        raise ProviderError("away", code="sandbox_down")

    monkeypatch.setattr(Sandbox, "fetch", be_away)
    wanted = f"settle:{begun.checkout.id}"
    with engine.running(scene.ctx):
        with scene.ctx.db.tx() as db:
            payments.ask_settle(db, scene.ctx, begun.checkout.id, is_patient=False)
        scene.wait(lambda: engine.is_over(scene.ctx, wanted))
    assert asked == [scene.reference(begun)]
    assert engine.last_word(scene.ctx, wanted) == "sandbox_down"
