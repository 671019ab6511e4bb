"""The audit line stands or falls with the change it tells of."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from clawhaven.core import audit
from clawhaven.core.audit import AuditEntry
from clawhaven.core.clock import Clock
from clawhaven.core.db import Database


def test_a_line_is_written_with_its_transaction_and_only_with_it(db: Database, clock: Clock) -> None:
    def fail_after_writing() -> None:
        with db.tx() as session:
            audit.record(session, clock.now(), "user:u", "instance.delete", "ins_2", "acc_1")
            raise LookupError

    with pytest.raises(LookupError):
        fail_after_writing()
    with db.tx() as session:
        audit.record(session, clock.now(), "user:u", "instance.delete", "ins_1", "acc_1", reason="owner")
    with db.read() as session:
        (line,) = session.scalars(select(AuditEntry)).all()
    assert (line.actor, line.action, line.subject, line.details) == (
        "user:u",
        "instance.delete",
        "ins_1",
        {"reason": "owner"},
    )
