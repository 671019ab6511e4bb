"""Limits of money a day as a customer sees them: what is spent, what is left, a tap that lets automatic calls go on.

The limits themselves are kept at admission (limits.py). Days are UTC, money in micro-dollars.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from clawhaven.core.errors import Conflict, Invalid, NotFound
from clawhaven.core.money import MICROS_PER_CENT, MICROS_PER_DOLLAR
from clawhaven.metering.limits import (
    ACCOUNT_SPEND_PER_DAY,
    AUTOMATIC_PER_DAY,
    AUTOMATIC_SOURCES,
    SPEND_PER_DAY,
    automatic_allowance,
)
from clawhaven.metering.models import AccountLimit, Grant, LimitReached, UsageHour

MONEY_LIMITS = frozenset({SPEND_PER_DAY, ACCOUNT_SPEND_PER_DAY, AUTOMATIC_PER_DAY})
"""Codes of refusals that `note_reached` keeps."""

MOST_MICROS = 10_000 * MICROS_PER_DOLLAR
NO_ALLOWANCE = "no_allowance"


@dataclass(frozen=True, slots=True)
class Spending:
    """One assistant's day. A limit of None: none. `allowance_micros` is today's, what the customer added included;
    `step_micros` is what one tap adds."""

    instance_id: str
    account_id: str
    spent_micros: int
    limit_micros: int | None
    account_spent_micros: int
    account_limit_micros: int | None
    automatic_micros: int
    allowance_micros: int | None
    step_micros: int | None
    extra_micros: int
    resets_at: datetime

    @property
    def is_automatic_paused(self) -> bool:
        """True when automatic calls are refused until `resets_at`, or until the customer lets them go on."""
        return self.allowance_micros is not None and self.automatic_micros >= self.allowance_micros


def spending_of(
    db: Session, now: datetime, *, instance_ids: Collection[str] | None = None, account_id: str | None = None
) -> list[Spending]:
    """Today of these assistants, or of an account's, or (neither given) of all that have a limit, ordered by id."""
    query = sa.select(Grant).order_by(Grant.instance_id)
    if instance_ids is not None:
        query = query.where(Grant.instance_id.in_(sorted(instance_ids)))
    if account_id is not None:
        query = query.where(Grant.account_id == account_id)
    if instance_ids is None and account_id is None:
        columns = (Grant.spend_per_day_micros, Grant.automatic_per_day_micros)
        has_limit = Grant.account_id.in_(sa.select(AccountLimit.account_id))
        query = query.where(sa.or_(*(column.is_not(None) for column in columns), has_limit))
    grants = db.scalars(query.execution_options(populate_existing=True)).all()
    accounts = {grant.account_id for grant in grants}
    spent, automatic, of_account = _spent_today(db, now, accounts)
    limits = _account_limits(db, accounts)
    return [
        Spending(
            instance_id=grant.instance_id,
            account_id=grant.account_id,
            spent_micros=spent.get(grant.instance_id, 0),
            limit_micros=grant.spend_per_day_micros,
            account_spent_micros=of_account.get(grant.account_id, 0),
            account_limit_micros=limits.get(grant.account_id),
            automatic_micros=automatic.get(grant.instance_id, 0),
            allowance_micros=automatic_allowance(grant, now),
            step_micros=grant.automatic_per_day_micros,
            extra_micros=_extra(grant, now),
            resets_at=_midnight(now) + timedelta(days=1),
        )
        for grant in grants
    ]


def set_limit(db: Session, instance_id: str, limit_micros: int | None) -> None:
    """The customer's own limit a day for one assistant; None: none. Raises Invalid, NotFound."""
    _check(limit_micros)
    _change(db, Grant.instance_id == instance_id, spend_per_day_micros=limit_micros)


def set_account_limit(db: Session, account_id: str, limit_micros: int | None) -> None:
    """The same for all of an account's assistants together, those it will have included. Raises Invalid."""
    _check(limit_micros)
    if limit_micros is None:
        db.execute(sa.delete(AccountLimit).where(AccountLimit.account_id == account_id))
        return
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    values = {"spend_per_day_micros": limit_micros}
    statement = insert(AccountLimit).values(account_id=account_id, **values)
    db.execute(statement.on_conflict_do_update(index_elements=["account_id"], set_=values))


def account_limit(db: Session, account_id: str) -> int | None:
    """What all of an account's assistants together may cost a day; None: no limit."""
    return _account_limits(db, [account_id]).get(account_id)


def continue_automatic(db: Session, instance_id: str, now: datetime, seen_extra_micros: int | None = None) -> bool:
    """Add one allowance to today's. With `seen_extra_micros` (what was added already when the customer was asked) a
    second tap on the same button changes nothing: False. Raises NotFound; Conflict where nothing is limited."""
    query = sa.select(Grant).where(Grant.instance_id == instance_id).with_for_update()
    grant = db.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if grant is None:
        raise NotFound("This assistant makes no model calls yet.", instance_id=instance_id)
    if grant.automatic_per_day_micros is None:
        raise Conflict("Automatic calls of this assistant have no limit.", code=NO_ALLOWANCE)
    extra = _extra(grant, now)
    if seen_extra_micros is not None and seen_extra_micros != extra:
        return False
    added = extra + grant.automatic_per_day_micros
    _change(db, Grant.instance_id == instance_id, automatic_extra_micros=added, automatic_extra_day=day_of(now))
    return True


def note_reached(db: Session, grant: Grant, limit: str, now: datetime) -> None:
    """Remember that a limit of money refused a call today; the first time of the day counts."""
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    values = {"instance_id": grant.instance_id, "day": day_of(now), "limit": limit, "account_id": grant.account_id}
    db.execute(insert(LimitReached).values(**values, at=now).on_conflict_do_nothing())


def untold(db: Session, since: datetime, limit: int = 200) -> Sequence[LimitReached]:
    """Limits that refused calls since then and that nobody was told of yet, the oldest first."""
    row = LimitReached
    query = sa.select(row).where(row.told_at.is_(None), row.at >= since).order_by(row.at, row.instance_id)
    return db.scalars(query.limit(limit)).all()


def mark_told(db: Session, row: LimitReached, now: datetime) -> None:
    """The customer was told, or does not need to be."""
    db.execute(
        sa.update(LimitReached)
        .where(
            LimitReached.instance_id == row.instance_id, LimitReached.day == row.day, LimitReached.limit == row.limit
        )
        .values(told_at=now)
    )


def set_allowances(db: Session, wanted: dict[str, int | None]) -> int:
    """Bring grants to their plan's allowance: instance -> micro-dollars a day. Returns how many changed."""
    changed = 0
    known = sa.select(Grant.instance_id, Grant.automatic_per_day_micros).where(Grant.instance_id.in_(sorted(wanted)))
    for instance_id, micros in db.execute(known.order_by(Grant.instance_id)).all():  # in the order of everybody's locks
        if micros != wanted[instance_id]:
            _change(db, Grant.instance_id == instance_id, automatic_per_day_micros=wanted[instance_id])
            changed += 1
    return changed


def allowances(db: Session) -> dict[str, int | None]:
    """Instance -> allowance a day, as the grants have it."""
    return dict(db.execute(sa.select(Grant.instance_id, Grant.automatic_per_day_micros)).tuples().all())


def day_of(now: datetime) -> str:
    """`2026-11-21`, in UTC."""
    return _midnight(now).date().isoformat()


def _spent_today(
    db: Session, now: datetime, accounts: Collection[str]
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    hours = UsageHour
    is_automatic = sa.case((hours.source.in_(AUTOMATIC_SOURCES), hours.price_micros), else_=0)
    spent: dict[str, int] = {}
    automatic: dict[str, int] = {}
    of_account: dict[str, int] = {}
    ordered = sorted(accounts)
    for start in range(0, len(ordered), 500):
        query = (
            sa.select(hours.account_id, hours.instance_id, sa.func.sum(hours.price_micros), sa.func.sum(is_automatic))
            .where(hours.account_id.in_(ordered[start : start + 500]), hours.hour_at >= _midnight(now))
            .group_by(hours.account_id, hours.instance_id)
        )
        for account_id, instance_id, whole, part in db.execute(query):
            spent[instance_id], automatic[instance_id] = int(whole), int(part)
            of_account[account_id] = of_account.get(account_id, 0) + int(whole)
    return spent, automatic, of_account


def _account_limits(db: Session, accounts: Collection[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    ordered, row = sorted(accounts), AccountLimit
    for start in range(0, len(ordered), 500):
        some = row.account_id.in_(ordered[start : start + 500])
        found |= dict(db.execute(sa.select(row.account_id, row.spend_per_day_micros).where(some)).tuples().all())
    return found


def _extra(grant: Grant, now: datetime) -> int:
    return grant.automatic_extra_micros if grant.automatic_extra_day == day_of(now) else 0


def _check(limit_micros: int | None) -> None:
    if limit_micros is not None and (not 0 <= limit_micros <= MOST_MICROS or limit_micros % MICROS_PER_CENT):
        raise Invalid(
            "A limit a day is in whole cents, at most $10,000; null is none.",
            field="spend_per_day_micros",
            reason="not an amount",
        )


def _change(db: Session, where: sa.ColumnElement[bool], **values: object) -> None:
    statement = sa.update(Grant).where(where).values(**values).returning(Grant.instance_id)
    if not db.execute(statement.execution_options(synchronize_session="fetch")).all():
        raise NotFound("There is no assistant that makes model calls yet.")


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
