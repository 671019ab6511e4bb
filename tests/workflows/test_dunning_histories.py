"""Random vendors and calendars: who pays runs, who does not stops in time, each letter once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawhaven.billing import dunning
from clawhaven.billing.dunning import DunningState
from clawhaven.billing.subscriptions import ENTITLED, UNKNOWN_LIFE
from clawhaven.instances.states import Reason, State
from clawhaven.notices.models import Notice
from clawhaven.workflows import lifecycle
from tests.workflows.customer import Customer
from tests.workflows.scene import Scene

WORDS = st.sampled_from(["active", "past_due", "unpaid", "trialing", "paused"])
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("vendor"), WORDS),
        st.tuples(st.just("days"), st.sampled_from([0.1, 1.0, 3.0, 6.0, 13.5, 14.0, 40.0])),
        st.tuples(st.just("again"), st.integers(1, 3)),
        st.tuples(st.just("up"), st.none()),
        st.tuples(st.just("owner"), st.booleans()),
    ),
    max_size=14,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=MOVES, is_ended=st.booleans())
def test_whatever_happens_who_pays_runs_and_who_does_not_stops_in_time(
    scene: Scene, moves: list[tuple[str, Any]], is_ended: bool
) -> None:
    customer, told = Customer(scene), "active"
    for kind, value in [*moves, *([("vendor", "canceled")] if is_ended else [])]:
        if kind == "vendor":
            customer.vendor_says(value)
            told = _meant(customer, value, told)
        elif kind == "days":
            customer.pass_days(value)
        elif kind == "again":
            for _ in range(value):
                customer.vendor_says(told)
        elif kind == "up" and customer.row.state == State.SUSPENDED and not customer.reasons:
            customer.come_back()
        elif kind == "owner" and customer.row.deletion_asked_at is None:
            _press(scene, customer, stop=value)
        check(customer, told)
    counted = Counter(notice.key for notice in _notices(customer))
    assert all(count == 1 for count in counted.values())
    per_episode = Counter(
        (key.split(":")[1], ":".join(key.split(":")[2:])) for key in counted if key.startswith("dunning:")
    )
    assert all(count == 1 for count in per_episode.values())


def _meant(customer: Customer, word: str, told: str) -> str:
    """The word that counts: one we do not know changes nothing until what was paid for is over."""
    if word != "paused":
        return word
    is_over = customer.scene.ctx.clock.now() > customer.subscription.period_end_at + UNKNOWN_LIFE
    return "past_due" if is_over and told in ENTITLED else told


def _press(scene: Scene, customer: Customer, *, stop: bool) -> None:
    with scene.ctx.db.tx() as db:
        row = lifecycle.locked(db, customer.instance_id)
        if stop and row.state in (State.ACTIVE, State.SUSPENDED):
            lifecycle.ask_suspend(db, scene.ctx, row.id, Reason.OWNER, "user:me")
        elif not stop and row.state == State.SUSPENDED:
            lifecycle.ask_resume(db, scene.ctx, row.id, Reason.OWNER, "user:me")


def _notices(customer: Customer) -> list[Notice]:
    with customer.scene.ctx.db.read() as db:
        return list(db.query(Notice).filter_by(account_id=customer.begun.owner.account.id))


def check(customer: Customer, told: str) -> None:
    """No unpaid one runs past its grace, none is down for a payment that was made, none is deleted before its day."""
    now, row, episodes = customer.scene.ctx.clock.now(), customer.row, customer.episodes
    opened = [one for one in episodes if one.ended_at is None]
    assert len(opened) <= 1
    if row.deletion_asked_at is not None:
        assert episodes[-1].state == DunningState.ENDED
        assert row.deletion_asked_at >= episodes[-1].delete_at
        return
    is_down = Reason.PAYMENT in customer.reasons
    if told in ("active", "trialing"):
        assert not is_down
        assert not opened
    elif told == "canceled":
        assert is_down
    else:
        assert opened
        assert is_down == (now >= opened[0].suspend_at)
    assert is_down == (not dunning.may_run(customer.subscription, opened[0] if opened else None))
