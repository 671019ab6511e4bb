"""Reading the books: a balance, a customer's statement, and the proof that everything adds up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.errors import Invalid, NotFound
from clawhaven.ledger.models import LedgerAccount, LedgerEntry, LedgerPosting, Reservation, ReservationState


@dataclass(frozen=True, slots=True)
class Balance:
    """One account now, in micro-dollars. `available_micros` None: no floor, so no limit."""

    balance_micros: int
    held_micros: int
    floor_micros: int | None
    available_micros: int | None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a statement. `balance_after_micros` is the account's balance right after it."""

    id: int
    entry_id: str
    account_kind: str
    kind: str
    ref: str
    note: str
    amount_micros: int
    balance_after_micros: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Lines, newest first, and the cursor of the next page (None: this was the last)."""

    lines: list[Line]
    next_cursor: str | None


def balance(db: Session, ledger_account_id: str) -> Balance:
    """The account's balance; a platform account's is summed from its postings. Raises NotFound."""
    row = db.execute(sa.select(*_FIGURES).where(LedgerAccount.id == ledger_account_id)).one_or_none()
    if row is None:
        raise NotFound("There is no such ledger account.", ledger_account_id=ledger_account_id)
    if row.balance_micros is None:
        return Balance(_sum_of(db, ledger_account_id), 0, None, None)
    return _balance(row)


def balances(db: Session, kind: str, owner_id: str | None = None) -> dict[str, Balance]:
    """Owner -> balance of their account of this kind; of one owner, or of all customers."""
    account = LedgerAccount
    query = sa.select(account.owner_id, *_FIGURES).where(account.kind == kind, account.balance_micros.is_not(None))
    if owner_id is not None:
        query = query.where(account.owner_id == owner_id)
    return {row.owner_id: _balance(row) for row in db.execute(query)}


def sum_moved(
    db: Session,
    ledger_account_id: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    kind: str | None = None,
    except_kind: str | None = None,
) -> int:
    """What entries of a kind (or of all but one) moved from `since` up to, not including, `until`, in micro-dollars."""
    total = sa.func.coalesce(sa.func.sum(LedgerPosting.amount_micros), 0)
    query = sa.select(total).join(LedgerEntry, LedgerEntry.id == LedgerPosting.entry_id)
    query = query.where(LedgerPosting.ledger_account_id == ledger_account_id)
    if since is not None:
        query = query.where(LedgerEntry.created_at >= since)
    if until is not None:
        query = query.where(LedgerEntry.created_at < until)
    if kind is not None:
        query = query.where(LedgerEntry.kind == kind)
    if except_kind is not None:
        query = query.where(LedgerEntry.kind != except_kind)
    return int(db.execute(query).scalar_one())


def amount_of(db: Session, entry_id: str, ledger_account_id: str) -> int:
    """What an entry moved of an account, in micro-dollars."""
    total = sa.func.coalesce(sa.func.sum(LedgerPosting.amount_micros), 0)
    is_this = (LedgerPosting.entry_id == entry_id, LedgerPosting.ledger_account_id == ledger_account_id)
    return int(db.execute(sa.select(total).where(*is_this)).scalar_one())


def account_of(db: Session, kind: str, owner_id: str) -> str | None:
    """The id of an owner's account of this kind, or None."""
    return db.execute(
        sa.select(LedgerAccount.id).where(LedgerAccount.kind == kind, LedgerAccount.owner_id == owner_id)
    ).scalar_one_or_none()


def list_entries(db: Session, owner_id: str, cursor: str | None = None, limit: int = 50) -> Page:
    """What moved the owner's accounts, newest first, with the running balance. Raises Invalid for a bad cursor."""
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise Invalid("This cursor is not one of ours.", field="cursor")
    query = (
        sa.select(
            LedgerPosting.id.label("id"),
            LedgerEntry.id.label("entry_id"),
            LedgerAccount.kind.label("account_kind"),
            LedgerEntry.kind.label("kind"),
            LedgerEntry.ref,
            LedgerEntry.note,
            LedgerPosting.amount_micros,
            LedgerPosting.balance_after_micros,
            LedgerEntry.created_at,
        )
        .join(LedgerEntry, LedgerEntry.id == LedgerPosting.entry_id)
        .join(LedgerAccount, LedgerAccount.id == LedgerPosting.ledger_account_id)
        .where(LedgerAccount.owner_id == owner_id, LedgerAccount.balance_micros.is_not(None))
        .order_by(LedgerPosting.id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(LedgerPosting.id < int(cursor))
    lines = [Line(**row) for row in db.execute(query).mappings()]
    has_more = len(lines) > limit
    return Page(lines[:limit], str(lines[limit - 1].id) if has_more else None)


def check_books(db: Session, also_held: Mapping[str, int] | None = None) -> list[str]:
    """Sentences about everything that does not add up; empty when the books are right. Reads all of them.

    `also_held`: ledger account -> micro-dollars set aside by rows of others (model calls: metering.held_by_calls).
    """
    return _unbalanced_entries(db) + _wrong_balances(db) + _wrong_holds(db, also_held or {})


_FIGURES = (LedgerAccount.balance_micros, LedgerAccount.held_micros, LedgerAccount.floor_micros)
"""Columns instead of the row: what a conditional UPDATE of this transaction changed is seen."""


def _balance(row: Any) -> Balance:
    free = row.balance_micros - row.held_micros
    available = None if row.floor_micros is None else free - row.floor_micros
    return Balance(row.balance_micros, row.held_micros, row.floor_micros, available)


def _sum_of(db: Session, account_id: str) -> int:
    total = sa.func.coalesce(sa.func.sum(LedgerPosting.amount_micros), 0)
    return int(db.execute(sa.select(total).where(LedgerPosting.ledger_account_id == account_id)).scalar_one())


def _unbalanced_entries(db: Session) -> list[str]:
    total = sa.func.coalesce(sa.func.sum(LedgerPosting.amount_micros), 0)
    rows = db.execute(
        sa.select(LedgerEntry.id, total, sa.func.count(LedgerPosting.id))
        .outerjoin(LedgerPosting, LedgerPosting.entry_id == LedgerEntry.id)
        .group_by(LedgerEntry.id)
        .having(sa.or_(total != 0, sa.func.count(LedgerPosting.id) < 2))
    ).all()
    return [f"entry {entry} has {count} postings with a sum of {total}" for entry, total, count in rows]


def _wrong_balances(db: Session) -> list[str]:
    total = sa.func.coalesce(sa.func.sum(LedgerPosting.amount_micros), 0)
    rows = db.execute(
        sa.select(LedgerAccount.id, LedgerAccount.balance_micros, total)
        .outerjoin(LedgerPosting, LedgerPosting.ledger_account_id == LedgerAccount.id)
        .where(LedgerAccount.balance_micros.is_not(None))
        .group_by(LedgerAccount.id, LedgerAccount.balance_micros)
        .having(LedgerAccount.balance_micros != total)
    ).all()
    return [f"account {account} says {kept}, its postings say {total}" for account, kept, total in rows]


def _wrong_holds(db: Session, also_held: Mapping[str, int]) -> list[str]:
    total = sa.func.coalesce(sa.func.sum(Reservation.amount_micros), 0)
    is_held = sa.and_(
        Reservation.ledger_account_id == LedgerAccount.id, Reservation.state == ReservationState.HELD.value
    )
    rows = db.execute(
        sa.select(LedgerAccount.id, LedgerAccount.held_micros, total)
        .outerjoin(Reservation, is_held)
        .group_by(LedgerAccount.id, LedgerAccount.held_micros)
    ).all()
    sums = [(account, kept, int(total) + also_held.get(account, 0)) for account, kept, total in rows]
    return [f"account {account} holds {kept}, its holds say {total}" for account, kept, total in sums if kept != total]
