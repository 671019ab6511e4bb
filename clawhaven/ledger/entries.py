"""Moving money: one entry, postings that sum to zero, one conditional UPDATE per customer account.

Customer accounts are touched first (in the order of their ids), platform accounts last. A repeat of an idempotency
key changes nothing, also when both tries run at the same time. All functions run in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from clawhaven.core.errors import NotFound, PaymentRequired
from clawhaven.core.ids import new_id
from clawhaven.core.money import format_usd
from clawhaven.ledger.models import PLATFORM, LedgerAccount, LedgerEntry, LedgerPosting

_PLATFORM_PREFIX = "lac_platform_"


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of an entry: a positive amount adds to the account."""

    ledger_account_id: str
    amount_micros: int


@dataclass(frozen=True, slots=True)
class Posted:
    """What came of `post`. `is_new` False: this key was booked before and nothing moved now."""

    entry_id: str
    is_new: bool


def open_account(db: Session, kind: str, owner_id: str, floor_micros: int | None, *, now: datetime) -> str:
    """The account of this kind and owner, made when missing (an existing floor stays); returns its id.

    `floor_micros` is the lowest balance a debit may leave; None: no floor (plans where the platform pays).
    """
    known = sa.select(LedgerAccount.id).where(LedgerAccount.kind == kind, LedgerAccount.owner_id == owner_id)
    found = db.execute(known).scalar_one_or_none()
    if found:
        return found
    is_platform = owner_id == PLATFORM
    values = {
        "id": f"{_PLATFORM_PREFIX}{kind}" if is_platform else new_id("lac"),
        "kind": kind,
        "owner_id": owner_id,
        "currency": "USD",
        "balance_micros": None if is_platform else 0,
        "held_micros": 0,
        "floor_micros": floor_micros,
        "created_at": now,
    }
    insert_once(db, LedgerAccount, values, "kind", "owner_id")
    return db.execute(known).scalar_one()


def platform_account(db: Session, kind: str, *, now: datetime) -> str:
    """The operator's own account of this kind (`usage_revenue`, `payments` …), made when missing."""
    return open_account(db, kind, PLATFORM, None, now=now)


def set_floor(db: Session, ledger_account_id: str, floor_micros: int | None) -> None:
    """Change the lowest balance that a debit may leave. It does not touch what is held already."""
    _set_floors(db, LedgerAccount.id == ledger_account_id, floor_micros)


def set_floors(db: Session, kind: str, floor_micros: int | None) -> None:
    """The same for every customer account of this kind."""
    _set_floors(db, sa.and_(LedgerAccount.kind == kind, LedgerAccount.owner_id != PLATFORM), floor_micros)


def post(
    db: Session,
    *,
    key: str,
    kind: str,
    postings: Sequence[Posting],
    now: datetime,
    ref: str = "",
    note: str = "",
    below_floor: bool = False,
) -> Posted:
    """Book one entry and move the balances with it. Raises PaymentRequired when a debit would go below a floor
    (nothing has moved then), NotFound for an unknown account, ValueError when the postings do not sum to zero.

    `below_floor`: book what has happened outside already (a refund by the vendor), whatever the floor says.
    """
    if sum(posting.amount_micros for posting in postings) != 0 or len(postings) < 2:
        raise ValueError(f"the postings of {key!r} do not sum to zero")
    with db.begin_nested():
        entry_id = write_entry(db, key=key, kind=kind, ref=ref, note=note, now=now)
        if entry_id is None:
            return Posted(entry_of(db, key), is_new=False)
        for posting in sorted(postings, key=_order):
            is_kept = not is_platform_id(posting.ledger_account_id)
            write_posting(db, entry_id, posting, move(db, posting, below_floor=below_floor) if is_kept else None)
    return Posted(entry_id, is_new=True)


def credit(
    db: Session,
    *,
    key: str,
    ledger_account_id: str,
    amount_micros: int,
    now: datetime,
    kind: str = "topup",
    source: str = "payments",
    ref: str = "",
    note: str = "",
) -> Posted:
    """Add a positive amount to a customer's account, taken from the platform account `source`."""
    _require_positive(amount_micros)
    other = Posting(platform_account(db, source, now=now), -amount_micros)
    postings = [Posting(ledger_account_id, amount_micros), other]
    return post(db, key=key, kind=kind, ref=ref, postings=postings, note=note, now=now)


def debit(
    db: Session,
    *,
    key: str,
    ledger_account_id: str,
    amount_micros: int,
    now: datetime,
    kind: str = "refund",
    to: str = "payments",
    ref: str = "",
    note: str = "",
    below_floor: bool = False,
) -> Posted:
    """Take a positive amount from a customer's account; raises PaymentRequired below its floor (see `post`)."""
    _require_positive(amount_micros)
    other = Posting(platform_account(db, to, now=now), amount_micros)
    postings = [Posting(ledger_account_id, -amount_micros), other]
    return post(db, key=key, kind=kind, ref=ref, postings=postings, note=note, now=now, below_floor=below_floor)


def debit_at_most(
    db: Session,
    *,
    key: str,
    ledger_account_id: str,
    amount_micros: int,
    now: datetime,
    kind: str,
    to: str,
    ref: str = "",
    note: str = "",
) -> int:
    """Take up to a positive amount, whatever the floor, but nothing that is held and nothing that is not there.

    Returns what was taken, which may be zero; zero too when the key was booked before. Raises NotFound.
    """
    _require_positive(amount_micros)
    query = sa.select(LedgerAccount.balance_micros, LedgerAccount.held_micros)
    row = db.execute(query.where(LedgerAccount.id == ledger_account_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("There is no such ledger account.", ledger_account_id=ledger_account_id)
    amount = min(amount_micros, (row.balance_micros or 0) - row.held_micros)
    if amount <= 0:
        return 0
    done = debit(
        db,
        key=key,
        ledger_account_id=ledger_account_id,
        amount_micros=amount,
        now=now,
        kind=kind,
        to=to,
        ref=ref,
        note=note,
        below_floor=True,
    )
    return amount if done.is_new else 0


def insert_once(db: Session, model: Any, values: dict[str, Any], *unique: str) -> str | None:
    """Insert unless the unique columns exist already, also when two do it at once; the new id, or None."""
    dialect = db.get_bind().dialect.name
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    statement = insert(model).values(**values).on_conflict_do_nothing(index_elements=list(unique)).returning(model.id)
    return db.execute(statement).scalar_one_or_none()


def write_entry(db: Session, *, key: str, kind: str, ref: str, note: str, now: datetime) -> str | None:
    """The entry's row; None when the key is known. Only for code of this room."""
    values = {"id": new_id("ent"), "idem_key": key, "kind": kind, "ref": ref, "note": note, "created_at": now}
    return insert_once(db, LedgerEntry, values, "idem_key")


def write_posting(db: Session, entry_id: str, posting: Posting, balance_after_micros: int | None) -> None:
    """One posting's row. Only for code of this room."""
    values = {
        "entry_id": entry_id,
        "ledger_account_id": posting.ledger_account_id,
        "amount_micros": posting.amount_micros,
        "balance_after_micros": balance_after_micros,
    }
    db.execute(sa.insert(LedgerPosting).values(**values))


def entry_of(db: Session, key: str) -> str:
    """The id of the entry with this key."""
    return db.execute(sa.select(LedgerEntry.id).where(LedgerEntry.idem_key == key)).scalar_one()


def is_platform_id(ledger_account_id: str) -> bool:
    """True for the operator's own accounts, whose balance is summed instead of kept."""
    return ledger_account_id.startswith(_PLATFORM_PREFIX)


def move(db: Session, posting: Posting, *, below_floor: bool = False) -> int:
    """Change one customer balance by the posting's amount; returns the new balance. Credits always go through."""
    account, amount = LedgerAccount, posting.amount_micros
    allowed: sa.ColumnElement[bool] = sa.true()
    if amount < 0 and not below_floor:
        enough = account.balance_micros - account.held_micros + amount >= account.floor_micros
        allowed = sa.or_(account.floor_micros.is_(None), enough)
    balance = db.execute(
        sa.update(account)
        .where(account.id == posting.ledger_account_id, account.balance_micros.is_not(None), allowed)
        .values(balance_micros=account.balance_micros + amount)
        .returning(account.balance_micros)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if balance is None:
        refuse(db, posting.ledger_account_id, -amount)
    return int(balance or 0)


def refuse(db: Session, ledger_account_id: str, wanted_micros: int) -> None:
    """Raise PaymentRequired with the figures, or NotFound when there is no such account."""
    account = db.execute(sa.select(LedgerAccount).where(LedgerAccount.id == ledger_account_id)).scalar_one_or_none()
    if account is None or account.balance_micros is None:
        raise NotFound("There is no such ledger account.", ledger_account_id=ledger_account_id)
    available = account.balance_micros - account.held_micros - (account.floor_micros or 0)
    raise PaymentRequired(
        f"This needs up to {format_usd(wanted_micros)}; {format_usd(max(available, 0))} can be used.",
        needed_micros=wanted_micros,
        available_micros=available,
        balance_micros=account.balance_micros,
    )


def _order(posting: Posting) -> tuple[bool, str]:
    return is_platform_id(posting.ledger_account_id), posting.ledger_account_id


def _set_floors(db: Session, which: sa.ColumnElement[bool], floor_micros: int | None) -> None:
    # Rows that have this floor already are not locked: model calls wait for nobody. The others are locked in the order
    # of their ids, as they are everywhere; an UPDATE of many rows by itself locks them as it finds them.
    others = sa.and_(which, LedgerAccount.floor_micros.is_distinct_from(floor_micros))
    query = sa.select(LedgerAccount.id).where(others).order_by(LedgerAccount.id)
    db.execute(query.with_for_update(key_share=True)).all()
    db.execute(
        sa.update(LedgerAccount)
        .where(others)
        .values(floor_micros=floor_micros)
        .execution_options(synchronize_session=False)
    )


def _require_positive(amount_micros: int) -> None:
    if amount_micros <= 0:
        raise ValueError("an amount must be positive")
