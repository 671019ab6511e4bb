"""Usage credit: granted once per key, and what is left of it taken back once when its time is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.billing.models import CreditGrant
from clawhaven.core.ids import new_id
from clawhaven.ledger.entries import insert_once
from clawhaven.ledger.models import LedgerEntry

SOURCES = {"period": "included_credit", "coupon": "coupon", "operator": "credit"}
"""Where credit comes from, and the kind of its ledger entry."""

_NEVER = datetime.max.replace(tzinfo=UTC)


def grant(
    db: Session,
    *,
    key: str,
    account_id: str,
    wallet_id: str,
    amount_micros: int,
    source: str,
    expires_at: datetime | None,
    note: str,
    now: datetime,
) -> bool:
    """Credit a positive amount to the wallet. True the first time per `key` (at most 180 characters).

    `source`: period, coupon or operator. `expires_at` None: it stays.
    """
    if amount_micros <= 0:
        raise ValueError("a credit must be positive")
    kind = SOURCES[source]
    values = {
        "id": new_id("crd"),
        "key": key,
        "account_id": account_id,
        "source": source,
        "amount_micros": amount_micros,
        "granted_at": now,
        "expires_at": expires_at,
        "expired_micros": 0,
    }
    grant_id = insert_once(db, CreditGrant, values, "key")
    if grant_id is None:
        return False
    ledger.credit(
        db,
        key=f"credit:{key}",
        ledger_account_id=wallet_id,
        amount_micros=amount_micros,
        now=now,
        kind=kind,
        source="credits",
        ref=grant_id,
        note=note,
    )
    return True


def is_granted(db: Session, key: str) -> bool:
    """True when the credit of this key was given."""
    return db.scalar(select(CreditGrant.id).where(CreditGrant.key == key)) is not None


def find(db: Session, key: str) -> CreditGrant | None:
    """What was granted under this key."""
    return db.scalars(select(CreditGrant).where(CreditGrant.key == key)).one_or_none()


def due(db: Session, now: datetime, limit: int = 200) -> list[CreditGrant]:
    """Grants whose time is over and that were not taken back yet."""
    is_due = (CreditGrant.expires_at <= now, CreditGrant.expired_at.is_(None))
    return list(db.scalars(select(CreditGrant).where(*is_due).order_by(CreditGrant.expires_at).limit(limit)))


def expire(db: Session, grant_id: str, wallet_id: str, now: datetime) -> int:
    """Take back what is left of a grant, once; returns how much, in micro-dollars.

    Never more than the balance without what is held, so never below zero; the floor does not protect it. Credit is
    spent before topped-up money, and of several credits the one that expires first.
    """
    row = _end(db, (CreditGrant.id == grant_id) & (CreditGrant.expires_at <= now), now)
    if row is None or row.expires_at is None:
        return 0
    return _take(db, row, wallet_id, row.expires_at, now, "Unused credit expired")


def take_back(db: Session, key: str, wallet_id: str, now: datetime, note: str) -> int:
    """Take back what is left of the grant with this key before its time, once; returns how much, in micro-dollars.

    For what it was given for being paid back. Zero too when there is no such grant, or it is over already. The same
    rules as for `expire`. `note` is what the customer reads.
    """
    row = _end(db, CreditGrant.key == key, now)
    if row is None:
        return 0
    # Usage of this very moment was before.
    return _take(db, row, wallet_id, now + timedelta(microseconds=1), now, note)


def give_again(db: Session, key: str, wallet_id: str, now: datetime, note: str) -> int:
    """Undo a `take_back` whose reason is gone, once; returns how much was given, in micro-dollars.

    Zero when there is nothing to undo: no such grant, not taken back before its time, or its time is over meanwhile.
    """
    is_early = or_(CreditGrant.expires_at.is_(None), CreditGrant.expired_at < CreditGrant.expires_at)
    is_running = or_(CreditGrant.expires_at.is_(None), CreditGrant.expires_at > now)
    row = db.scalars(
        select(CreditGrant)
        .where(CreditGrant.key == key, CreditGrant.expired_at.is_not(None), is_early, is_running)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        return 0
    given, row.expired_micros, row.expired_at = row.expired_micros, 0, None
    db.flush()
    if given > 0:
        ledger.credit(
            db,
            key=_key(db, "credit-again", row),
            ledger_account_id=wallet_id,
            amount_micros=given,
            now=now,
            kind=SOURCES[row.source],
            source="credits",
            ref=row.id,
            note=note,
        )
    return given


def _key(db: Session, what: str, row: CreditGrant) -> str:
    """The name of the next entry of this kind about a grant: `what:id`, then `what:id:1` …"""
    like = select(func.count()).select_from(LedgerEntry)
    found = db.scalar(like.where(LedgerEntry.ref == row.id, LedgerEntry.idem_key.startswith(f"{what}:")))
    return f"{what}:{row.id}" + (f":{found}" if found else "")


def _end(db: Session, which: ColumnElement[bool], now: datetime) -> CreditGrant | None:
    """End a grant; None when it is over already, or there is none."""
    grant_id = db.scalar(
        update(CreditGrant)
        .where(which, CreditGrant.expired_at.is_(None))
        .values(expired_at=now)
        .returning(CreditGrant.id)
        .execution_options(synchronize_session="fetch")
    )
    return None if grant_id is None else db.get_one(CreditGrant, grant_id, populate_existing=True)


def _take(db: Session, row: CreditGrant, wallet_id: str, until: datetime, now: datetime, note: str) -> int:
    left = _left(db, row, wallet_id, until)
    if left <= 0:
        return 0
    taken = ledger.debit_at_most(
        db,
        key=_key(db, "credit-expired", row),
        ledger_account_id=wallet_id,
        amount_micros=left,
        now=now,
        kind="credit_expired",
        to="credits",
        ref=row.id,
        note=note,
    )
    row.expired_micros = taken
    db.flush()
    return taken


@dataclass(frozen=True, slots=True)
class Span:
    """A credit and the time in which it could be used. `expires_at`: when it was to end, if it was ended before."""

    id: str
    since: datetime
    until: datetime
    amount_micros: int
    expires_at: datetime | None = None


def overlapping(spans: Sequence[Span], target: Span) -> list[Span]:
    """The spans whose use can bear on what is left of `target`: those that share time with it, directly or through
    others, and began before it ended. Pure."""
    chosen, since = {target}, target.since
    while True:
        more = {one for one in spans if one.until > since and one.since < target.until} - chosen
        if not more:
            return sorted(chosen, key=lambda one: (one.expires_at or one.until, one.since, one.id))
        chosen |= more
        since = min(one.since for one in chosen)


def left_of(target: Span, spans: Sequence[Span], used: Sequence[tuple[datetime, int]]) -> int:
    """What is left of `target` when it ends: `used` is (beginning, amount) of each stretch in which no span begins or
    ends, oldest first. `spans` in the order in which they are spent. Pure."""
    rest = {one.id: one.amount_micros for one in spans}
    for moment, amount in used:
        for one in spans:
            if one.since <= moment < one.until:
                taken = min(rest[one.id], amount)
                rest[one.id] -= taken
                amount -= taken
    return rest[target.id]


def _left(db: Session, row: CreditGrant, wallet_id: str, until: datetime) -> int:
    """What is left of a grant at `until`. Credit that does not expire is spent last, and so bears on its like alone."""
    query = select(CreditGrant).where(CreditGrant.account_id == row.account_id)
    if row.expires_at is not None:
        query = query.where(CreditGrant.expires_at.is_not(None))
    every = {one.id: _span(one, until if one.id == row.id else one.expired_at) for one in db.scalars(query)}
    target = every[row.id]
    spans = overlapping(list(every.values()), target)
    moments = {moment for one in spans for moment in (one.since, one.until) if moment <= target.until}
    used = [
        (begin, -ledger.sum_moved(db, wallet_id, since=begin, until=end, kind="usage"))
        for begin, end in pairwise(sorted(moments))
    ]
    return left_of(target, spans, used)


def _span(row: CreditGrant, ended_at: datetime | None) -> Span:
    planned = row.expires_at or _NEVER
    return Span(row.id, row.granted_at, min(planned, ended_at or planned), row.amount_micros, planned)


def of_account(db: Session, account_id: str) -> list[CreditGrant]:
    """Every credit an account was given, newest first."""
    query = select(CreditGrant).where(CreditGrant.account_id == account_id)
    return list(db.scalars(query.order_by(CreditGrant.granted_at.desc(), CreditGrant.id)))
