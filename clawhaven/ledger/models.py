"""Tables of the ledger, and the triggers that make it append-only on both engines."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Mapped, mapped_column

from clawhaven.core.db import Base
from clawhaven.core.states import Machine

PLATFORM = "platform"
"""Owner of the operator's own accounts. Their balance is not kept in the row (a hot row) but summed."""


class ReservationState(StrEnum):
    """Life of a hold."""

    HELD = "held"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


class LedgerAccount(Base):
    """One pot of money. `balance_micros` is None for platform accounts; `floor_micros` None: no floor."""

    __tablename__ = "ledger_account"
    __table_args__ = (
        sa.UniqueConstraint("kind", "owner_id"),
        sa.CheckConstraint("held_micros >= 0", name="held_not_negative"),
    )

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(32))
    owner_id: Mapped[str] = mapped_column(sa.String(40))
    currency: Mapped[str] = mapped_column(sa.String(3), default="USD")
    balance_micros: Mapped[int | None]
    held_micros: Mapped[int] = mapped_column(default=0)
    floor_micros: Mapped[int | None]
    created_at: Mapped[datetime]


class LedgerEntry(Base):
    """One thing that happened. Its postings sum to zero; `idem_key` makes a repeat harmless."""

    __tablename__ = "ledger_entry"
    __table_args__ = (sa.UniqueConstraint("idem_key"), sa.Index(None, "ref"))

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    idem_key: Mapped[str] = mapped_column(sa.String(200))
    kind: Mapped[str] = mapped_column(sa.String(32))
    ref: Mapped[str] = mapped_column(sa.String(200), default="")
    note: Mapped[str] = mapped_column(sa.Text, default="")
    created_at: Mapped[datetime]


class LedgerPosting(Base):
    """One account's side of an entry. Ids of one account grow in the order in which its balance moved."""

    __tablename__ = "ledger_posting"
    __table_args__ = (sa.Index(None, "entry_id"), sa.Index(None, "ledger_account_id", "id"))

    id: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    entry_id: Mapped[str] = mapped_column(sa.ForeignKey("ledger_entry.id"))
    ledger_account_id: Mapped[str] = mapped_column(sa.ForeignKey("ledger_account.id"))
    amount_micros: Mapped[int]
    balance_after_micros: Mapped[int | None]


class Reservation(Base):
    """Money set aside for something under way. An end is certain: settled, released, or expired by the sweep."""

    __tablename__ = "reservation"
    __table_args__ = (
        sa.UniqueConstraint("key"),
        sa.Index(None, "state", "expires_at"),
        sa.Index(None, "ledger_account_id", "state"),
        sa.CheckConstraint("amount_micros >= 0", name="amount_not_negative"),
    )

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(200))
    ledger_account_id: Mapped[str] = mapped_column(sa.ForeignKey("ledger_account.id"))
    amount_micros: Mapped[int]
    state: Mapped[str] = mapped_column(sa.String(16), default=ReservationState.HELD.value)
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime]


reservations = Machine(
    "reservation",
    Reservation,
    "state",
    {
        ReservationState.HELD: frozenset(
            {ReservationState.SETTLED, ReservationState.RELEASED, ReservationState.EXPIRED}
        ),
        # A call that outlived its hold is still billed for what was used.
        ReservationState.EXPIRED: frozenset({ReservationState.SETTLED}),
        ReservationState.SETTLED: frozenset(),
        ReservationState.RELEASED: frozenset(),
    },
)

_TABLES = ("ledger_entry", "ledger_posting")

APPEND_ONLY_DDL: dict[str, list[str]] = {
    "sqlite": [
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for table in _TABLES
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$",
        *(
            f"CREATE OR REPLACE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()"
            for table in _TABLES
        ),
    ],
}
"""Statements per dialect, for migrations and for `create_all`. They contain neither `%` nor `:`."""

for _dialect, _statements in APPEND_ONLY_DDL.items():
    for _statement in _statements:
        _ddl = sa.DDL(_statement)  # type: ignore[no-untyped-call]
        event.listen(LedgerPosting.__table__, "after_create", _ddl.execute_if(dialect=_dialect))
