"""Money set aside before something that costs: hold the worst case, then settle the real amount or release."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import count

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.errors import IllegalMove, NotFound
from clawhaven.core.ids import new_id
from clawhaven.ledger.entries import Posting, insert_once, platform_account, refuse, write_entry, write_posting
from clawhaven.ledger.models import (
    LedgerAccount,
    LedgerEntry,
    LedgerPosting,
    Reservation,
    ReservationState,
    reservations,
)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What was charged. `uncovered_micros`: the part of a charge above the hold that the account could not cover."""

    charged_micros: int
    uncovered_micros: int
    is_new: bool


def hold(
    db: Session, key: str, ledger_account_id: str, amount_micros: int, expires_at: datetime, *, now: datetime
) -> bool:
    """Set aside `amount_micros` until `expires_at`. True: held now; False: held before under this key.

    Raises PaymentRequired when the balance minus everything held would fall below the floor.
    """
    if amount_micros < 0:
        raise ValueError("a hold cannot be negative")
    values = {
        "id": new_id("res"),
        "key": key,
        "ledger_account_id": ledger_account_id,
        "amount_micros": amount_micros,
        "state": ReservationState.HELD.value,
        "expires_at": expires_at,
        "created_at": now,
    }
    account = LedgerAccount
    enough = account.balance_micros - account.held_micros - amount_micros >= account.floor_micros
    with db.begin_nested():
        _take(db, ledger_account_id)
        if insert_once(db, Reservation, values, "key") is None:
            return False
        held = db.execute(
            sa.update(account)
            .where(account.id == ledger_account_id, account.balance_micros.is_not(None))
            .where(sa.or_(account.floor_micros.is_(None), enough))
            .values(held_micros=account.held_micros + amount_micros)
            .returning(account.id)
            .execution_options(synchronize_session=False)
        ).first()
        if held is None:
            refuse(db, ledger_account_id, amount_micros)
    return True


@dataclass(frozen=True, slots=True)
class Held:
    """What is set aside under a key, and of whose account."""

    key: str
    owner_id: str
    amount_micros: int


def keep_held(
    db: Session, key: str, ledger_account_id: str, amount_micros: int, expires_at: datetime, *, now: datetime
) -> int:
    """Make what is set aside under `key` this amount, as far as the floor and other holds leave it; returns how much
    it is then. Zero gives all of it back. For what lasts and changes, unlike `hold`.

    What is added later has keys of its own (`key:2`, `key:3` …); with half of its time gone it is set aside anew.
    """
    if amount_micros < 0:
        raise ValueError("a hold cannot be negative")
    row, account = Reservation, LedgerAccount
    with db.begin_nested():
        _take(db, ledger_account_id)
        is_mine = sa.or_(row.key == key, row.key.startswith(f"{key}:", autoescape=True))
        is_held = sa.and_(row.ledger_account_id == ledger_account_id, row.state == ReservationState.HELD.value)
        mine = db.execute(sa.select(row.key, row.amount_micros, row.expires_at).where(is_held, is_mine)).all()
        held = int(sum(one.amount_micros for one in mine))
        if held > amount_micros or any(one.expires_at < now + (expires_at - now) / 2 for one in mine):
            for one in mine:
                release(db, one.key)
            held = 0
        figures = sa.select(account.balance_micros, account.held_micros, account.floor_micros)
        found = db.execute(figures.where(account.id == ledger_account_id)).one()
        missing = amount_micros - held
        if found.floor_micros is not None:
            missing = min(missing, (found.balance_micros or 0) - found.held_micros - found.floor_micros)
        if missing <= 0:
            return held
        names = (key if number == 1 else f"{key}:{number}" for number in count(1))
        unused = next(name for name in names if db.scalar(sa.select(row.id).where(row.key == name)) is None)
        hold(db, unused, ledger_account_id, missing, expires_at, now=now)
        return held + missing


def held_under(db: Session, prefix: str, owner_id: str | None = None) -> list[Held]:
    """What is set aside under keys that begin so; of one owner, or of all."""
    row, account = Reservation, LedgerAccount
    query = (
        sa.select(row.key, account.owner_id, row.amount_micros)
        .join(account, account.id == row.ledger_account_id)
        .where(row.state == ReservationState.HELD.value, row.key.startswith(prefix, autoescape=True))
        .order_by(row.key)
    )
    if owner_id is not None:
        query = query.where(account.owner_id == owner_id)
    return [Held(*found) for found in db.execute(query)]


def settle(
    db: Session,
    key: str,
    actual_micros: int,
    *,
    to: str,
    now: datetime,
    kind: str = "usage",
    ref: str = "",
    note: str = "",
) -> Settlement:
    """End a hold by charging `actual_micros` to its account in favour of the platform account `to`.

    More than was held is charged as far as the account covers it without touching its floor or other holds; the rest
    is `uncovered_micros`. A hold that has expired meanwhile is charged the same way. A repeat returns the first result.
    Raises NotFound for an unknown key and IllegalMove after `release`.
    """
    if actual_micros < 0:
        raise ValueError("a charge cannot be negative")
    with db.begin_nested():
        row = _locked(db, key)
        if not reservations.move(db, row.id, ReservationState.SETTLED):
            return Settlement(_charged(db, key), 0, is_new=False)
        freed = row.amount_micros if row.state == ReservationState.HELD else 0
        charge, balance = _charge(db, row.ledger_account_id, actual_micros, freed)
        if charge:
            _book(db, key, row.ledger_account_id, charge, balance, to=to, kind=kind, ref=ref, note=note, now=now)
    return Settlement(charge, actual_micros - charge, is_new=True)


def release(db: Session, key: str) -> bool:
    """End a hold without charging. False: released, expired or unknown already. IllegalMove: it was settled."""
    with db.begin_nested():
        row = _find(db, key)
        if row is None or row.state == ReservationState.EXPIRED:
            return False
        if not reservations.move(db, row.id, ReservationState.RELEASED):
            return False
        _free(db, row.ledger_account_id, row.amount_micros)
    return True


def overdue(db: Session, now: datetime) -> list[str]:
    """The accounts that have holds whose time is over. Nothing is locked."""
    return list(db.scalars(sa.select(Reservation.ledger_account_id).where(_is_overdue(now)).distinct()))


def expire(db: Session, now: datetime, accounts: Collection[str] | None = None) -> list[str]:
    """Give back every hold whose time is over (of these accounts alone); returns their keys. For a periodic sweep, one
    at a time. A transaction that locks other accounts too locks all of them first, in the order of their ids."""
    is_overdue = _is_overdue(now)
    accounts = overdue(db, now) if accounts is None else accounts
    _take(db, *accounts)
    rows = db.execute(
        sa.update(Reservation)
        .where(is_overdue, Reservation.ledger_account_id.in_(accounts))
        .values(state=ReservationState.EXPIRED.value)
        .returning(Reservation.key, Reservation.ledger_account_id, Reservation.amount_micros)
        .execution_options(synchronize_session=False)
    ).all()
    freed: dict[str, int] = {}
    for _, account_id, amount in rows:
        freed[account_id] = freed.get(account_id, 0) + amount
    for account_id in sorted(freed):
        _free(db, account_id, freed[account_id])
    return [key for key, _, _ in rows]


def _is_overdue(now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(Reservation.state == ReservationState.HELD, Reservation.expires_at <= now)


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    ledger_account_id: str
    amount_micros: int
    state: str


def _take(db: Session, *accounts: str) -> None:
    """Everybody locks the account first and its reservations after it, so that on PostgreSQL nobody deadlocks: not on
    the lock that a reservation's foreign key shares and the UPDATE has to upgrade, and not on a repeated key."""
    query = sa.select(LedgerAccount.id).where(LedgerAccount.id.in_(accounts)).order_by(LedgerAccount.id)
    db.execute(query.with_for_update(key_share=True))


def _find(db: Session, key: str) -> _Row | None:
    row = Reservation
    account_id = db.scalar(sa.select(row.ledger_account_id).where(row.key == key))
    if account_id is None:
        return None
    _take(db, account_id)
    query = sa.select(row.id, row.ledger_account_id, row.amount_micros, row.state).where(row.key == key)
    found = db.execute(query.with_for_update()).mappings().one_or_none()
    return None if found is None else _Row(**found)


def _locked(db: Session, key: str) -> _Row:
    row = _find(db, key)
    if row is None:
        raise NotFound("There is no such hold.", key=key)
    if row.state == ReservationState.RELEASED:
        raise IllegalMove("This hold was released and cannot be settled.", key=key)
    return row


def _charge(db: Session, account_id: str, actual: int, freed: int) -> tuple[int, int]:
    """Charge and new balance, by one conditional UPDATE; by a second one when the first would break the floor."""
    balance = _debit(db, account_id, actual, freed, within_floor=actual > freed)
    if balance is not None:
        return actual, balance
    account = db.execute(
        sa.select(LedgerAccount.balance_micros, LedgerAccount.held_micros, LedgerAccount.floor_micros)
        .where(LedgerAccount.id == account_id)
        .with_for_update()
    ).one()
    available = (account.balance_micros or 0) - account.held_micros - (account.floor_micros or 0)
    charge = min(actual, max(freed, freed + available))
    balance = _debit(db, account_id, charge, freed, within_floor=False)
    if balance is None:
        raise RuntimeError(f"ledger account {account_id} holds less than its reservations")
    return charge, balance


def _debit(db: Session, account_id: str, charge: int, freed: int, *, within_floor: bool) -> int | None:
    account = LedgerAccount
    statement = sa.update(account).where(account.id == account_id, account.held_micros >= freed)
    if within_floor:
        enough = account.balance_micros - account.held_micros + (freed - charge) >= account.floor_micros
        statement = statement.where(sa.or_(account.floor_micros.is_(None), enough))
    changed = statement.values(
        balance_micros=account.balance_micros - charge, held_micros=account.held_micros - freed
    ).returning(account.balance_micros)
    return db.execute(changed.execution_options(synchronize_session=False)).scalar_one_or_none()


def _free(db: Session, account_id: str, amount: int) -> None:
    account = LedgerAccount
    db.execute(
        sa.update(account)
        .where(account.id == account_id)
        .values(held_micros=account.held_micros - amount)
        .execution_options(synchronize_session=False)
    )


def _book(
    db: Session,
    key: str,
    account_id: str,
    charge: int,
    balance: int,
    *,
    to: str,
    kind: str,
    ref: str,
    note: str,
    now: datetime,
) -> None:
    entry_id = write_entry(db, key=f"settle:{key}", kind=kind, ref=ref, note=note, now=now)
    if entry_id is None:
        raise RuntimeError(f"hold {key!r} was settled twice")
    write_posting(db, entry_id, Posting(account_id, -charge), balance)
    write_posting(db, entry_id, Posting(platform_account(db, to, now=now), charge), None)


def _charged(db: Session, key: str) -> int:
    amount = db.execute(
        sa.select(LedgerPosting.amount_micros)
        .join(LedgerEntry, LedgerEntry.id == LedgerPosting.entry_id)
        .where(LedgerEntry.idem_key == f"settle:{key}", LedgerPosting.amount_micros < 0)
    ).scalar_one_or_none()
    return -(amount or 0)
