"""What may be asked in which state, and that it stays suspended until the last reason is gone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from clawhaven.core.errors import AppError, IllegalMove
from clawhaven.core.ids import new_id
from clawhaven.instances import operations, states
from clawhaven.instances.states import Reason, State
from clawhaven.workflows import lifecycle, wake
from tests.workflows.scene import Scene

ME = "user:me"
Ask = Callable[[Session, Scene, str], Any]
ACTIONS: dict[str, Ask] = {
    "start": lambda db, scene, i: wake.ask_start(db, scene.ctx, i, ME),
    "stop": lambda db, scene, i: lifecycle.ask_suspend(db, scene.ctx, i, Reason.OWNER, ME),
    "lock": lambda db, scene, i: lifecycle.ask_suspend(db, scene.ctx, i, Reason.ABUSE, ME),
    "resume": lambda db, scene, i: lifecycle.ask_resume(db, scene.ctx, i, Reason.OWNER, ME),
    "restart": lambda db, scene, i: lifecycle.ask_restart(db, scene.ctx, i, ME),
    "configure": lambda db, scene, i: lifecycle.ask_configure(db, scene.ctx, i, ME, ["persona"]),
    "delete": lambda db, scene, i: lifecycle.ask_delete(db, scene.ctx, i, ME),
}

TABLE = """
              start             stop          lock          resume        restart       configure     delete
pending       illegal_move      illegal_move  illegal_move  illegal_move  illegal_move  none          delete
provisioning  illegal_move      illegal_move  illegal_move  illegal_move  illegal_move  configure     delete
active        provision         suspend       suspend       illegal_move  restart       configure     delete
suspended     resume            none          suspend       resume        illegal_move  configure     delete
failed        payment_required  illegal_move  illegal_move  illegal_move  illegal_move  none          delete
deleted       illegal_move      illegal_move  illegal_move  illegal_move  illegal_move  illegal_move  illegal_move
"""
"""State x action: the operation that is asked for, `none`, or the error. A failed one that is not paid for stays so;
an active one is running already: start shows what brought it there."""


def table() -> dict[tuple[str, str], str]:
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return {(row[0], action): word for row in rows for action, word in zip(head, row[1:], strict=True)}


def test_the_table_is_whole() -> None:
    assert set(table()) == set(itertools.product(State, ACTIONS))


@pytest.mark.parametrize("state", list(State))
def test_every_state_answers_every_action(scene: Scene, state: State) -> None:
    for action, ask in ACTIONS.items():
        begun = scene.put_in(state)
        before = scene.count("operation"), scene.count("workflow_status")
        try:
            with scene.ctx.db.tx() as db:
                asked = ask(db, scene, begun.instance.id)
                said = asked.kind if asked is not None else "none"
        except AppError as error:
            said = error.error_code
        if said in ("illegal_move", "payment_required"):
            assert (scene.count("operation"), scene.count("workflow_status")) == before
            assert scene.instance(begun.instance.id).state == state
        assert said == table()[state, action], (state, action)


def test_one_asked_for_twice_is_one(scene: Scene) -> None:
    begun = scene.live()
    for verb, kind in ((ACTIONS["stop"], "suspend"), (ACTIONS["delete"], "delete")):
        for _ in range(3):
            with scene.ctx.db.tx() as db:
                verb(db, scene, begun.instance.id)
        assert scene.count("operation", f"kind = '{kind}'") == 1
    assert scene.count("model_grant", "is_active") == 0


def test_restarts_that_wait_are_one_and_changes_are_bounded(scene: Scene) -> None:
    begun = scene.live()
    refused = []
    for number in range(12):
        try:
            with scene.ctx.db.tx() as db:
                ACTIONS["restart" if number % 2 else "configure"](db, scene, begun.instance.id)
        except AppError as error:
            refused.append(error.error_code)
    assert set(refused) == {"rate_limited"}
    assert scene.count("operation", "kind = 'restart'") == 1
    assert scene.count("operation", "state = 'queued'") == lifecycle.MAX_WAITING


REASONED = st.lists(st.tuples(st.sampled_from(["suspend", "resume"]), st.sampled_from(Reason)), max_size=10)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=REASONED)
def test_only_the_last_reason_wakes_it(scene: Scene, asked: list[tuple[str, Reason]]) -> None:
    begun = scene.live(f"{new_id('u')}@example.com")
    known: set[Reason] = set()
    state = State.ACTIVE
    for verb, reason in asked:
        try:
            with scene.ctx.db.tx() as db:
                ask = lifecycle.ask_suspend if verb == "suspend" else lifecycle.ask_resume
                operation = ask(db, scene.ctx, begun.instance.id, reason, ME)
                kind = operation.kind if operation is not None else None
        except IllegalMove:
            assert (verb, state) == ("resume", State.ACTIVE)
            continue
        state = State.SUSPENDED
        if verb == "suspend":
            assert (kind == "suspend") is (reason not in known)
            known.add(reason)
        else:
            known.discard(reason)
            assert (kind == "resume") is (not known)
        row = scene.instance(begun.instance.id)
        assert (row.state, states.reasons(row)) == (state, sorted(known))
    with scene.ctx.db.read() as db:
        opened = operations.latest(db, begun.instance.id, "suspend") is not None
    assert opened is any(verb == "suspend" for verb, _ in asked)
    assert scene.instance(begun.instance.id).state == state


def test_the_owner_does_not_lift_what_others_have_laid(scene: Scene) -> None:
    begun = scene.live()
    for reason in (Reason.OWNER, Reason.PAYMENT, Reason.ABUSE):
        with scene.ctx.db.tx() as db:
            lifecycle.ask_suspend(db, scene.ctx, begun.instance.id, reason, ME)
    with scene.ctx.db.tx() as db, pytest.raises(AppError) as caught:
        wake.ask_start(db, scene.ctx, begun.instance.id, ME)
    assert (caught.value.error_code, caught.value.details["reasons"]) == ("suspended", ["abuse", "payment"])
    assert states.reasons(scene.instance(begun.instance.id)) == [Reason.ABUSE, Reason.OWNER, Reason.PAYMENT]
    assert scene.count("notice", "kind = 'suspended'") >= 1
