"""One guarded UPDATE: of many concurrent callers exactly one moves a row."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from clawhaven.billing.checkouts import MACHINE, CheckoutState
from clawhaven.billing.models import Checkout
from clawhaven.core.db import Database
from clawhaven.core.errors import IllegalMove
from clawhaven.core.states import Machine

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def row(db: Database) -> str:
    from clawhaven.accounts.signup import register

    with db.tx() as session:
        owner = register(session, "a@example.com", NOW)
        session.add(
            Checkout(
                id="cho_1",
                account_id=owner.account.id,
                plan="personal",
                provider="sandbox",
                amount_micros=1,
                state=CheckoutState.OPEN,
                created_at=NOW,
            )
        )
    return "cho_1"


def test_exactly_one_of_many_moves_it(db: Database, row: str) -> None:
    outcomes: list[bool] = []

    def move() -> None:
        with db.tx() as session:
            outcomes.append(MACHINE.move(session, row, CheckoutState.COMPLETED, ended_at=NOW))

    threads = [threading.Thread(target=move) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]


def test_refuses_what_the_table_does_not_allow(db: Database, row: str) -> None:
    with db.tx() as session:
        MACHINE.move(session, row, CheckoutState.COMPLETED)
    with db.tx() as session, pytest.raises(IllegalMove, match="is completed and cannot become expired"):
        MACHINE.move(session, row, CheckoutState.EXPIRED)
    with db.tx() as session, pytest.raises(IllegalMove, match="gone"):
        MACHINE.move(session, "cho_2", CheckoutState.EXPIRED)


def test_values_move_with_the_state_and_the_session_sees_them(db: Database, row: str) -> None:
    with db.tx() as session:
        loaded = session.get_one(Checkout, row)
        assert MACHINE.move(session, row, CheckoutState.EXPIRED, ended_at=NOW)
        assert (loaded.state, loaded.ended_at) == (CheckoutState.EXPIRED, NOW)


def test_draws_itself() -> None:
    machine: Machine[CheckoutState] = MACHINE
    assert machine.mermaid().splitlines()[:3] == [
        "stateDiagram-v2",
        "    open --> completed",
        "    open --> expired",
    ]
    assert set(machine.sources(CheckoutState.COMPLETED)) == {CheckoutState.OPEN, CheckoutState.EXPIRED}
