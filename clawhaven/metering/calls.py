"""One model call: admitted and reserved before it is forwarded, settled before its last byte is released.

What is fair when the process dies: an answer is acknowledged only by its last bytes, and those leave after the
settlement has been committed. So a call that is still open when its time is over was never acknowledged: the sweep
marks it `abandoned`, charges nothing (is_estimated says that the zero is not a report) and gives the hold back; what
the vendor charges for it is the operator's loss, visible in the margin.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.core.errors import Forbidden, Invalid, NotFound, Unauthorized
from clawhaven.core.ids import new_id
from clawhaven.metering.limits import check_limits
from clawhaven.metering.models import CallState, Grant, PlanMode, Source, UsageRow, calls
from clawhaven.metering.prices import Cost, Price, PriceTable, builtin_prices, cost, worst_case_micros
from clawhaven.ports.upstream import Usage

CALL_LIFETIME = timedelta(minutes=30)
"""After this a call that has not ended is taken for dead. The proxy cuts every call well before."""

SUSPENDED = "instance_suspended"
UNKNOWN_MODEL = "unknown_model"
NOT_OFFERED = "not_offered"
NO_OWN_KEY = "no_own_key"

_REVENUE = {PlanMode.METERED: "usage_revenue", PlanMode.INCLUDED: "included_usage"}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request wants. Token bounds are upper limits; `output_bound` None: the client set none.

    `output_bound` is that of one of the `choices` (alternative answers); the model's own limit holds for each as well.
    `extra` names something in it that vendors bill outside of the token prices (a server tool, a faster tier): only
    instances with their own vendor key may use it. `trace_id` is the W3C trace of the turn it belongs to.
    """

    model: str
    dialect: str
    input_bound: int
    output_bound: int | None
    source: Source = Source.UNKNOWN
    is_turn: bool = False
    may_cache_long: bool = True
    extra: str | None = None
    trace_id: str | None = None
    choices: int = 1


@dataclass(frozen=True, slots=True)
class OpenCall:
    """An admitted call. `own_key_sealed` is the customer's vendor key where the plan uses it."""

    id: str
    instance_id: str
    account_id: str
    plan_mode: PlanMode
    price: Price
    held_micros: int
    own_key_sealed: str | None


@dataclass(frozen=True, slots=True)
class ClosedCall:
    """What a call cost. `is_new` False: it was closed before and nothing moved now."""

    id: str
    account_id: str
    plan_mode: PlanMode
    provider_cost_micros: int
    price_micros: int
    uncovered_micros: int
    is_new: bool


def open_call(
    db: Session,
    ask: Ask,
    *,
    key_hash: str,
    upstreams: Collection[str],
    now: datetime,
    prices: PriceTable | None = None,
) -> OpenCall:
    """Admit a call and set its worst case aside. `upstreams` are the vendors this installation can reach.

    In this order: Unauthorized (unknown key), Forbidden `instance_suspended` or `no_own_key` (an own-key plan whose
    customer has given no key; details.instance_id), RateLimited (see limits.py), Invalid
    `unknown_model` (details.models: the known ones) or `not_offered`, PaymentRequired.
    """
    grant = _locked_grant(db, key_hash)
    if not grant.is_active:
        raise Forbidden("This assistant is paused.", code=SUSPENDED)
    mode = PlanMode(grant.plan_mode)
    if mode is PlanMode.OWN_KEY and not grant.own_key_sealed:
        raise Forbidden("This assistant has no model key yet.", code=NO_OWN_KEY, instance_id=grant.instance_id)
    is_message = ask.is_turn or ask.source is Source.AUTOMATIC
    check_limits(db, grant, is_message=is_message, now=now)
    price = find_price(grant, ask.model, upstreams=upstreams, now=now, prices=prices)
    if ask.extra and mode is not PlanMode.OWN_KEY:
        raise Invalid(f"{ask.extra} is not offered here.", code=NOT_OFFERED, field=ask.extra)
    call_id = new_id("call")
    held = _hold(db, grant, mode, call_id, ask, price, now)
    db.execute(
        sa.insert(UsageRow).values(
            id=call_id,
            instance_id=grant.instance_id,
            account_id=grant.account_id,
            plan_mode=mode.value,
            model=ask.model[:100],
            upstream=price.upstream,
            dialect=ask.dialect,
            price_id=price.id,
            markup_percent=grant.markup_percent,
            source=ask.source.value,
            is_turn=ask.is_turn,
            trace_id=ask.trace_id,
            reservation_key=None if held is None else call_id,
            started_at=now,
            expires_at=now + CALL_LIFETIME,
        )
    )
    own_key = grant.own_key_sealed if mode is PlanMode.OWN_KEY and price.upstream == grant.own_key_upstream else None
    return OpenCall(call_id, grant.instance_id, grant.account_id, mode, price, held or 0, own_key)


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
    row = db.execute(
        sa.select(UsageRow).where(UsageRow.id == call_id).with_for_update().execution_options(populate_existing=True)
    ).scalar_one_or_none()
    if row is None:
        raise NotFound("There is no such call.", call_id=call_id)
    mode = PlanMode(row.plan_mode)
    if not calls.move(
        db, call_id, CallState.CLOSED, ended_at=now, http_status=http_status, error=error and error[:200]
    ):
        return ClosedCall(
            row.id, row.account_id, mode, row.provider_cost_micros, row.price_micros, row.uncovered_micros, False
        )
    if usage is None:
        if row.reservation_key:
            ledger.release(db, row.reservation_key)
        return ClosedCall(row.id, row.account_id, mode, 0, 0, 0, True)
    price = (prices or builtin_prices()).by_id(row.price_id)
    if price is None:
        raise NotFound("The price of this call is no longer in the table.", price_id=row.price_id)
    # With the customer's own key the vendor charges the customer, so the call costs neither us nor the wallet anything.
    value = cost(price, usage, row.markup_percent) if mode in _REVENUE else Cost(0, 0)
    charged, uncovered = 0, 0
    if row.reservation_key:
        note = f"{row.model}: {usage.input_tokens + usage.cache_read_tokens} in, {usage.output_tokens} out"
        settlement = ledger.settle(
            db, row.reservation_key, value.price_micros, to=_REVENUE[mode], now=now, ref=call_id, note=note
        )
        charged, uncovered = settlement.charged_micros, settlement.uncovered_micros
    db.execute(
        sa.update(UsageRow)
        .where(UsageRow.id == call_id)
        .values(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_5m_tokens=usage.cache_write_5m_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            is_estimated=usage.is_estimated,
            provider_cost_micros=value.provider_micros,
            price_micros=charged,
            uncovered_micros=uncovered,
        )
        .execution_options(synchronize_session="fetch")
    )
    return ClosedCall(row.id, row.account_id, mode, value.provider_micros, charged, uncovered, True)


def sweep(db: Session, *, now: datetime, limit: int = 500) -> list[str]:
    """Mark calls whose time is over as abandoned and give their holds back; returns their ids.

    For a periodic job, one at a time. Expired holds of other kinds are given back as well.
    """
    overdue = db.execute(
        sa.select(UsageRow.id)
        .where(UsageRow.state == CallState.OPEN.value, UsageRow.expires_at <= now)
        .order_by(UsageRow.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).scalars()
    ids = list(overdue)
    for call_id in ids:
        calls.move(db, call_id, CallState.ABANDONED, ended_at=now, is_estimated=True, error="abandoned")
    ledger.expire(db, now)
    return ids


def find_price(
    grant: Grant, model: str, *, upstreams: Collection[str], now: datetime, prices: PriceTable | None = None
) -> Price:
    """The price of a model this grant may use. Raises Invalid `unknown_model` with the list of those it may."""
    table = prices or builtin_prices()
    price = table.find(model, now)
    offered = offered_prices(grant, upstreams=upstreams, now=now, prices=table)
    if price is None or price not in offered:
        known = [offer.model for offer in offered]
        raise Invalid(
            f"The model {model[:100]!r} is not known here. Known models: {', '.join(known) or 'none'}.",
            code=UNKNOWN_MODEL,
            field="model",
            models=known,
        )
    return price


def offered_prices(
    grant: Grant, *, upstreams: Collection[str], now: datetime, prices: PriceTable | None = None
) -> list[Price]:
    """The models a grant may use now, with their prices."""
    is_own_key = grant.plan_mode == PlanMode.OWN_KEY
    return [
        price
        for price in (prices or builtin_prices()).current(now)
        if price.upstream in upstreams
        and (grant.models is None or price.model in grant.models)
        and (not is_own_key or price.upstream == grant.own_key_upstream)
    ]


def _locked_grant(db: Session, key_hash: str) -> Grant:
    # The row lock makes the counts of one instance exact; on SQLite the whole transaction is exclusive anyway.
    query = sa.select(Grant).where(Grant.key_hash == key_hash).with_for_update()
    grant = db.execute(query.execution_options(populate_existing=True)).scalar_one_or_none()
    if grant is None:
        raise Unauthorized("This model key is not valid.")
    return grant


def _hold(db: Session, grant: Grant, mode: PlanMode, call_id: str, ask: Ask, price: Price, now: datetime) -> int | None:
    """Hold the worst case; None where nothing is charged per token (the customer's own key)."""
    if mode is PlanMode.OWN_KEY or grant.ledger_account_id is None:
        return None
    most = price.max_output_tokens
    output = ask.choices * (most if ask.output_bound is None else min(ask.output_bound, most))
    worst = worst_case_micros(
        price,
        min(ask.input_bound, price.context_window),
        output,
        grant.markup_percent,
        may_cache_long=ask.may_cache_long,
    )
    ledger.hold(db, call_id, grant.ledger_account_id, worst, now + CALL_LIFETIME, now=now)
    return worst
