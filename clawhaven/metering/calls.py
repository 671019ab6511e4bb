"""One model call: admitted and reserved before it is forwarded, settled before its last byte is released.

What is fair when the process dies: an answer is acknowledged only by its last bytes, and those leave after the
settlement has been committed. So a call that is still open when its time is over was never acknowledged: the sweep
marks it `abandoned`, charges nothing (is_estimated says that the zero is not a report) and gives the hold back; what
the vendor charges for it is the operator's loss, visible in the margin.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.core.db import table_of
from clawhaven.core.errors import AppError
from clawhaven.core.statements import UpdateMany
from clawhaven.metering.batches import run_batch
from clawhaven.metering.jobs import Ask, ClosedCall, Closing, OpenCall, Opening
from clawhaven.metering.limits import IS_OPEN
from clawhaven.metering.models import CallState, UsageRow
from clawhaven.metering.prices import PriceTable
from clawhaven.ports.upstream import Usage

_CALL = table_of(UsageRow)


def open_call(
    db: Session,
    ask: Ask,
    *,
    key_hash: str,
    upstreams: Collection[str],
    now: datetime,
    prices: PriceTable | None = None,
) -> OpenCall:
    """Admit one call and set its worst case aside; raises what `run_batch` refuses with."""
    opening = Opening(ask, key_hash, upstreams)
    (done,) = run_batch(db, [opening], [], now=now, prices=prices).opened
    if isinstance(done, AppError):
        raise done
    return done


def close_call(
    db: Session,
    call_id: str,
    usage: Usage | None,
    *,
    now: datetime,
    http_status: int | None = None,
    error: str | None = None,
    prices: PriceTable | None = None,
) -> ClosedCall:
    """End a call: charge its usage, or (None) nothing. A repeat returns the first result. Raises NotFound."""
    closing = Closing(call_id, usage, http_status, error)
    (done,) = run_batch(db, [], [closing], now=now, prices=prices).closed
    if isinstance(done, AppError):
        raise done
    return done


def held_by_calls(db: Session) -> dict[str, int]:
    """Ledger account -> micro-dollars held for open calls (ledger.check_books wants to know)."""
    row = UsageRow
    query = (
        sa.select(row.ledger_account_id, sa.func.sum(row.held_micros))
        .where(IS_OPEN, row.ledger_account_id.is_not(None))
        .group_by(row.ledger_account_id)
    )
    return {account_id or "": int(held) for account_id, held in db.execute(query)}


def sweep(db: Session, *, now: datetime, limit: int = 500) -> list[str]:
    """Mark calls whose time is over as abandoned and give their holds back; returns their ids.

    For a periodic job, one at a time. Expired holds of other kinds are given back as well.
    """
    overdue = db.execute(
        sa.select(_CALL.c.id, _CALL.c.ledger_account_id, _CALL.c.held_micros)
        .where(IS_OPEN, _CALL.c.expires_at <= now)
        .order_by(_CALL.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    held_otherwise = ledger.overdue(db, now)
    pots = {row.ledger_account_id for row in overdue if row.ledger_account_id}
    purses = ledger.take_purses(db, pots.union(held_otherwise))
    for row in overdue:
        if (purse := purses.get(row.ledger_account_id or "")) is not None:
            # Books that are wrong already (ledger.check_books tells) must not keep everybody's holds from coming back.
            purse.free(min(row.held_micros, purse.held_micros))
    ended = {"state": CallState.ABANDONED.value, "now": now, "is_estimated": True, "error": "abandoned"}
    _ABANDON.run(db, [{"call_id": row.id, **ended} for row in overdue])
    ledger.write_purses(db, purses.values(), [], now=now)
    ledger.expire(db, now, held_otherwise)
    return [row.id for row in overdue]


_ABANDON = UpdateMany(
    _CALL,
    where={"id": "call_id"},
    values={"state": "state", "ended_at": "now", "is_estimated": "is_estimated", "error": "error"},
)
