"""The lifecycle: whatever is asked in whatever order, no illegal state is reached."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawhaven.core.db import Database
from clawhaven.core.errors import IllegalMove
from clawhaven.core.ids import new_id
from clawhaven.instances import states
from clawhaven.instances.models import Instance, InstanceEvent
from clawhaven.instances.states import Reason, State
from tests.house.test_states import make_row

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
VERBS = ["begin_provisioning", "activate", "fail", "mark_deleted"]
ASKED = st.one_of(st.sampled_from(VERBS), st.tuples(st.sampled_from(["suspend", "lift"]), st.sampled_from(Reason)))


def instance_in(db: Database, state: State = State.PENDING) -> str:
    with db.tx() as tx:
        name = new_id("ins")
        made: str = make_row(tx, Instance.__table__, id=name, slug=name, state=str(state))
        return made


def ask(db: Database, instance_id: str, what: object) -> bool | list[Reason] | None:
    """The verb's answer, or None when the move is illegal."""
    try:
        with db.tx() as tx:
            if isinstance(what, tuple):
                verb, reason = what
                if verb == "lift":
                    return states.lift(tx, instance_id, reason)
                return states.suspend(tx, instance_id, NOW, reason)
            if what == "fail":
                return states.fail(tx, instance_id, NOW, "code", "A sentence.")
            moved: bool = getattr(states, str(what))(tx, instance_id, NOW)
            return moved
    except IllegalMove:
        return None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(ASKED, max_size=14))
def test_no_order_of_verbs_reaches_an_illegal_state(db: Database, asked: list[object]) -> None:
    instance_id = instance_in(db)
    before = State.PENDING
    for what in asked:
        answer = ask(db, instance_id, what)
        with db.read() as tx:
            row = tx.get_one(Instance, instance_id)
            now, left = State(row.state), states.reasons(row)
        assert now == before or now in states.MACHINE.moves[before], (before, what, now)
        if answer is None:
            assert now == before, "a refused move changes nothing"
        if now == State.ACTIVE:
            assert left == [], "an active assistant has no reason to be suspended"
        if now == State.FAILED:
            assert row.placement is None
            assert row.failure_message
        if now == State.DELETED:
            assert (row.gateway_token, row.proxy_key, row.instructions) == ("", "", "")
        assert left == sorted(set(left))
        before = now


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reasons=st.lists(st.sampled_from(Reason), min_size=1, max_size=6), lifted=st.lists(st.sampled_from(Reason)))
def test_it_stays_suspended_until_the_last_reason_is_gone(
    db: Database, reasons: list[Reason], lifted: list[Reason]
) -> None:
    instance_id = instance_in(db, State.ACTIVE)
    known: set[Reason] = set()
    for reason in reasons:
        assert ask(db, instance_id, ("suspend", reason)) is (reason not in known)
        known.add(reason)
    for reason in lifted:
        known.discard(reason)
        assert ask(db, instance_id, ("lift", reason)) == sorted(known)
    with db.read() as tx:
        row = tx.get_one(Instance, instance_id)
        assert (row.state, states.reasons(row)) == (State.SUSPENDED, sorted(known))
        count = tx.query(InstanceEvent).filter_by(instance_id=instance_id, kind="suspended").count()
    assert count == len(set(reasons)), "a reason that is known is not told twice"


@pytest.mark.parametrize("verb", VERBS)
def test_a_replay_of_a_move_says_so(db: Database, verb: str) -> None:
    sources = {"begin_provisioning": State.FAILED, "fail": State.PROVISIONING, "activate": State.PROVISIONING}
    instance_id = instance_in(db, sources.get(verb, State.ACTIVE))
    assert ask(db, instance_id, verb) is True
    assert ask(db, instance_id, verb) is False
    with db.read() as tx:
        assert tx.query(InstanceEvent).filter_by(instance_id=instance_id).count() == 1


def test_a_new_try_forgets_the_failure(db: Database) -> None:
    instance_id = instance_in(db, State.PROVISIONING)
    ask(db, instance_id, "fail")
    ask(db, instance_id, "begin_provisioning")
    with db.read() as tx:
        row = tx.get_one(Instance, instance_id)
        assert (row.failure_code, row.failure_message) == (None, None)


def test_its_owner_reads_a_word_for_every_state_and_reason() -> None:
    assert set(states.CALLED) == set(State)
    assert set(states.BECAUSE) == set(Reason)
    assert "suspend" not in " ".join([*states.CALLED.values(), *states.BECAUSE.values()])


def test_the_history_says_why_it_is_paused(db: Database) -> None:
    instance_id = instance_in(db, State.ACTIVE)
    with db.tx() as tx:
        states.suspend(tx, instance_id, NOW, Reason.BALANCE)
        (event,) = tx.query(InstanceEvent).all()
        assert (event.kind, event.message) == ("suspended", "Paused: the balance is used up.")
