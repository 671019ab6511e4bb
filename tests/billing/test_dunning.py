"""One episode at a time, its calls, and what makes a payment not count."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from clawhaven.billing import dunning, subscriptions
from clawhaven.billing.dunning import Cause, DunningState
from clawhaven.billing.models import Dunning, Receipt, Subscription
from clawhaven.core.errors import IllegalMove
from tests.workflows.scene import Scene

AT = datetime(2026, 3, 1, tzinfo=UTC)
GRACE, KEPT = timedelta(days=14), timedelta(days=7)


def paid(scene: Scene) -> Subscription:
    begun = scene.live()
    with scene.ctx.db.read() as db:
        row = subscriptions.of_instance(db, begun.instance.id)
    assert row is not None
    return row


def test_there_is_one_open_episode_and_its_days_never_move(scene: Scene) -> None:
    row = paid(scene)
    with scene.ctx.db.tx() as db:
        first, is_new = dunning.begin(db, row, Cause.PAYMENT, AT, grace=GRACE, kept=KEPT)
        again, is_second = dunning.begin(db, row, Cause.REFUND, AT + KEPT, grace=KEPT, kept=KEPT)
        assert (is_new, is_second, again.id) == (True, False, first.id)
        assert (again.cause, again.suspend_at, again.delete_at) == ("payment", AT + GRACE, AT + GRACE + KEPT)
        found = dunning.open_episode(db, row.account_id)
        assert found is not None
        assert found.id == first.id
        assert dunning.suspend(db, first, AT + GRACE)
        assert not dunning.suspend(db, first, AT + GRACE + KEPT)
        assert first.suspend_at == AT + GRACE
        assert dunning.recover(db, first, AT + KEPT)
        assert not dunning.recover(db, first, AT + KEPT)
        with pytest.raises(IllegalMove):
            dunning.end(db, first, AT)
        assert dunning.open_episode(db, row.account_id) is None
        second, is_new = dunning.begin(db, row, Cause.PAYMENT, AT, grace=GRACE, kept=KEPT)
        assert is_new
        assert second.id != first.id
        assert dunning.end(db, second, AT)
    with scene.ctx.db.read() as db:
        assert dunning.all_open(db) == []


def test_a_grace_cut_short_is_suspended_from_then_on_and_kept_as_long_as_announced(scene: Scene) -> None:
    row = paid(scene)
    with scene.ctx.db.tx() as db:
        episode, _ = dunning.begin(db, row, Cause.PAYMENT, AT, grace=GRACE, kept=KEPT)
        dunning.worsen(db, episode, Cause.DISPUTE)
        dunning.suspend(db, episode, AT + timedelta(days=2))
        assert (episode.cause, episode.suspend_at) == ("dispute", AT + timedelta(days=2))
        assert episode.delete_at == AT + GRACE + KEPT


@pytest.mark.parametrize(
    ("state", "episode", "runs"),
    [
        ("active", None, True),
        ("trialing", None, True),
        ("past_due", None, False),
        ("past_due", "grace", True),
        ("unpaid", "grace", True),
        ("unpaid", "suspended", False),
        ("active", "suspended", False),
        ("canceled", None, False),
        ("canceled", "grace", False),
        ("incomplete", None, False),
    ],
)
def test_who_may_run(state: str, episode: str | None, runs: bool) -> None:
    trouble = Dunning(state=episode) if episode else None
    assert dunning.may_run(Subscription(state=state), trouble) is runs


def test_nobody_pays_for_nothing() -> None:
    assert not dunning.may_run(None, None)


def episode_of(days_of_grace: int, state: DunningState = DunningState.GRACE) -> Dunning:
    until = AT + timedelta(days=days_of_grace)
    return Dunning(state=state, began_at=AT, suspend_at=until, delete_at=until + KEPT)


@pytest.mark.parametrize(
    ("days", "call"),
    [(0, None), (10.9, None), (11, 3), (12.9, 3), (13, 1), (13.99, 1), (14, None)],
)
def test_calls_before_a_suspension(days: float, call: int | None) -> None:
    due = dunning.countdown(episode_of(14), AT + timedelta(days=days))
    assert due == (timedelta(days=call) if call else None)


def test_calls_before_a_deletion_and_none_that_falls_together_with_another_letter() -> None:
    episode = episode_of(14, DunningState.SUSPENDED)
    day = timedelta(days=1)
    assert dunning.countdown(episode, AT + 17 * day) is None
    assert dunning.countdown(episode, AT + 18 * day) == 3 * day
    assert dunning.countdown(episode, AT + 20 * day) == day
    assert dunning.countdown(episode, AT + 21 * day) is None
    assert dunning.countdown(episode_of(1), AT + day / 2) is None
    assert dunning.countdown(episode_of(3), AT + day) is None
    assert dunning.countdown(episode_of(3), AT + 2 * day) == day
    assert not dunning.is_due(episode, AT + 20 * day)
    assert dunning.is_due(episode, AT + 21 * day)


@dataclasses.dataclass
class Paid:
    """What a receipt says, for the pure rule."""

    period: int | None
    amount_micros: int = 10
    refunded_micros: int = 0
    dispute: str | None = None

    def row(self) -> Receipt:
        start = AT + timedelta(days=30 * self.period) if self.period is not None else None
        return Receipt(
            period_start_at=start,
            amount_micros=self.amount_micros,
            refunded_micros=self.refunded_micros,
            dispute=self.dispute,
        )


@pytest.mark.parametrize(
    ("receipts", "cause"),
    [
        ([], None),
        ([Paid(0)], None),
        ([Paid(0, refunded_micros=9)], None),
        ([Paid(0, refunded_micros=10)], "refund"),
        ([Paid(0, refunded_micros=10), Paid(1)], None),
        ([Paid(0, refunded_micros=10), Paid(0)], None),
        ([Paid(0), Paid(None, refunded_micros=10)], None),
        ([Paid(None), Paid(None, refunded_micros=10)], "refund"),
        ([Paid(0, amount_micros=0)], None),
        ([Paid(0, dispute="open"), Paid(1)], "dispute"),
        ([Paid(0, dispute="won")], None),
        ([Paid(0, refunded_micros=10, dispute="lost")], "dispute"),
        ([Paid(0, refunded_micros=10, dispute="lost"), Paid(1)], None),
    ],
)
def test_what_makes_a_payment_not_count(receipts: list[Paid], cause: str | None) -> None:
    rows = [one.row() for one in receipts]
    assert dunning.objection(rows, on_refund=True, on_dispute=True) == cause
    assert dunning.objection(rows, on_refund=False, on_dispute=False) is None


def test_trials_that_end_soon_are_found(scene: Scene) -> None:
    row = paid(scene)
    with scene.ctx.db.tx() as db:
        kept = db.get_one(Subscription, row.id)
        subscriptions.MACHINE.move(db, kept.id, subscriptions.SubscriptionState.TRIALING)
        kept.trial_end_at = AT + timedelta(days=3)
        db.flush()
        soon = timedelta(days=3)
        assert [one.id for one in dunning.trials_ending(db, AT, soon)] == [row.id]
        assert dunning.trials_ending(db, AT - timedelta(hours=1), soon) == []
        assert dunning.trials_ending(db, AT + soon, soon) == []
        kept.is_ending = True
        db.flush()
        assert dunning.trials_ending(db, AT, soon) == []


@pytest.mark.parametrize(
    ("state", "is_payable"),
    [("past_due", True), ("unpaid", True), ("canceled", False), ("active", False), ("incomplete", False)],
)
def test_an_old_invoice_is_paid_only_where_that_helps(state: str, is_payable: bool) -> None:
    row = Subscription(state=state, pay_url="https://pay.example/1")
    assert dunning.pay_url(row) == ("https://pay.example/1" if is_payable else None)
    assert dunning.pay_url(Subscription(state=state, pay_url=None)) is None
