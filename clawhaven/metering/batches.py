"""Many calls in one transaction: first those that end, then those that want to begin.

A call is in the database twice, when it is opened and when it is closed, and each time that transaction is what it
waits for. So all that arrive while one transaction is under way share the next. The rows are locked first and in one
order (grants, calls, accounts), then everything is decided in memory, in the order of arrival, then written at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.core.db import table_of
from clawhaven.core.errors import AppError, Forbidden, Invalid, NotFound, Unauthorized
from clawhaven.core.ids import new_ordered_id
from clawhaven.core.statements import InsertMany, Lookup, UpdateMany
from clawhaven.ledger import Charge, Purse
from clawhaven.metering.hours import add_to_hours
from clawhaven.metering.limits import Tally, Terms
from clawhaven.metering.models import CallState, Grant, PlanMode, Source, UsageRow, calls
from clawhaven.metering.offers import find_price
from clawhaven.metering.prices import Cost, Price, PriceTable, builtin_prices, cost, worst_case_micros
from clawhaven.ports.upstream import Usage

CALL_LIFETIME = timedelta(minutes=30)
"""After this a call that has not ended is taken for dead. The proxy cuts every call well before."""

SUSPENDED = "instance_suspended"
NOT_OFFERED = "not_offered"
NO_OWN_KEY = "no_own_key"

REVENUE = {PlanMode.METERED.value: "usage_revenue", PlanMode.INCLUDED.value: "included_usage"}
"""Platform accounts that are paid. With the customer's own key the vendor charges the customer, and we nobody."""

_ENDABLE = frozenset(calls.sources(CallState.CLOSED))
_CALL = table_of(UsageRow)


class _Call(NamedTuple):
    """What closing needs to know of a call."""

    id: str
    state: str
    instance_id: str
    account_id: str
    plan_mode: str
    model: str
    price_id: str
    markup_percent: int
    source: str
    ledger_account_id: str | None
    held_micros: int
    price_micros: int
    provider_cost_micros: int
    uncovered_micros: int
    started_at: datetime


_GRANT = table_of(Grant)
_TAKE_GRANTS = Lookup(
    _GRANT.c.key_hash,
    sa.select(*(_GRANT.c[name] for name in Terms._fields))
    .order_by(_GRANT.c.instance_id)
    .with_for_update(key_share=True),
)
_TAKE_CALLS = Lookup(
    _CALL.c.id,
    sa.select(*(_CALL.c[name] for name in _Call._fields)).order_by(_CALL.c.id).with_for_update(key_share=True),
)


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

    @property
    def is_message(self) -> bool:
        """True when it counts as a message."""
        return self.is_turn or self.source.is_automatic


@dataclass(frozen=True, slots=True)
class Opening:
    """A call that wants to begin. `upstreams` are the vendors this installation can reach."""

    ask: Ask
    key_hash: str
    upstreams: Collection[str]


@dataclass(frozen=True, slots=True)
class Closing:
    """A call that ends. `usage` None: nothing is charged."""

    call_id: str
    usage: Usage | None
    http_status: int | None = None
    error: str | None = None


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a batch, in its order: the result of each, or why it was refused."""

    opened: list[OpenCall | AppError]
    closed: list[ClosedCall | AppError]


def run_batch(
    db: Session,
    openings: Sequence[Opening],
    closings: Sequence[Closing],
    *,
    now: datetime,
    prices: PriceTable | None = None,
) -> Outcome:
    """Close and open these calls in the caller's transaction; a refusal of one leaves the others as they are.

    An opening is refused in this order: Unauthorized (unknown key), Forbidden `instance_suspended` or `no_own_key` (an
    own-key plan whose customer has given no key; details.instance_id), RateLimited (see limits.py), Invalid
    `unknown_model` (details.models: the known ones) or `not_offered`, RateLimited for limits of money, PaymentRequired.
    A closing of an unknown call is NotFound; a repeat has the first result.
    """
    table = prices or builtin_prices()
    grants = _locked_grants(db, {opening.key_hash for opening in openings})
    rows = _locked_calls(db, {closing.call_id for closing in closings})
    pots = {row.ledger_account_id for row in rows.values()} | {grant.ledger_account_id for grant in grants.values()}
    purses = ledger.take_purses(db, {pot for pot in pots if pot}) if pots - {None} else {}
    closer = _Closer(rows, purses, table, now)
    closed = [closer.close(closing) for closing in closings]
    closer.write(db)
    opener = _Opener(grants, purses, table, Tally(db, list(grants.values()), now), now)
    opened = [opener.try_open(opening) for opening in openings]
    opener.write(db)
    ledger.write_purses(db, purses.values(), closer.charges, now=now)
    return Outcome(opened, closed)


class _Closer:
    """Ends calls in memory, then writes them."""

    def __init__(self, rows: dict[str, _Call], purses: dict[str, Purse], prices: PriceTable, now: datetime) -> None:
        self._rows, self._purses, self._prices, self._now = rows, purses, prices, now
        self._done: dict[str, ClosedCall] = {}
        self._changes: list[dict[str, Any]] = []
        self._used: list[tuple[_Call, Usage | None, Cost]] = []
        self.charges: list[Charge] = []

    def close(self, closing: Closing) -> ClosedCall | AppError:
        """The call's end, or the result of the first."""
        row = self._rows.get(closing.call_id)
        if row is None:
            return NotFound("There is no such call.", call_id=closing.call_id)
        mode = PlanMode(row.plan_mode)
        if CallState(row.state) not in _ENDABLE:
            known = (row.provider_cost_micros, row.price_micros, row.uncovered_micros)
            return ClosedCall(row.id, row.account_id, mode, *known, is_new=False)
        if before := self._done.get(row.id):
            known = (before.provider_cost_micros, before.price_micros, before.uncovered_micros)
            return ClosedCall(row.id, row.account_id, mode, *known, is_new=False)
        value = Cost(0, 0)
        if closing.usage is not None:
            price = self._prices.by_id(row.price_id)
            if price is None:
                return NotFound("The price of this call is no longer in the table.", price_id=row.price_id)
            if row.plan_mode in REVENUE:
                value = cost(price, closing.usage, row.markup_percent)
        charged = self._charge(row, value.price_micros, closing.usage)
        done = ClosedCall(
            row.id, row.account_id, mode, value.provider_micros, charged, value.price_micros - charged, is_new=True
        )
        self._done[row.id] = done
        self._changes.append(_change(closing, done, self._now))
        self._used.append((row, closing.usage, Cost(value.provider_micros, charged)))
        return done

    def write(self, db: Session) -> None:
        """The calls' rows and the sums of their hours."""
        _CLOSE.run(db, self._changes)
        add_to_hours(db, self._used)

    def _charge(self, row: _Call, price_micros: int, usage: Usage | None) -> int:
        purse = self._purses.get(row.ledger_account_id or "")
        if purse is None:
            return 0
        freed = row.held_micros if row.state == CallState.OPEN else 0
        charged = purse.charge(price_micros, freed)
        if charged and usage is not None:
            read = (
                usage.input_tokens + usage.cache_read_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
            )
            note = f"{row.model}: {read:,} tokens in, {usage.output_tokens:,} out"
            to = REVENUE[row.plan_mode]
            self.charges.append(
                Charge(f"settle:{row.id}", purse.id, charged, purse.balance_micros, to, ref=row.id, note=note)
            )
        return charged


_WRITTEN_AT_END = (
    "state",
    "ended_at",
    "http_status",
    "error",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "is_estimated",
    "provider_cost_micros",
    "price_micros",
    "uncovered_micros",
)
_OPEN = InsertMany(_CALL)
_CLOSE = UpdateMany(_CALL, where={"id": "call_id"}, values={name: name for name in _WRITTEN_AT_END})


def _change(closing: Closing, done: ClosedCall, now: datetime) -> dict[str, Any]:
    usage = closing.usage or Usage()
    return {
        "call_id": closing.call_id,
        "state": CallState.CLOSED.value,
        "ended_at": now,
        "http_status": closing.http_status,
        "error": closing.error and closing.error[:200],
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "is_estimated": usage.is_estimated,
        "provider_cost_micros": done.provider_cost_micros,
        "price_micros": done.price_micros,
        "uncovered_micros": done.uncovered_micros,
    }


class _Opener:
    """Admits calls in memory, then writes them."""

    def __init__(
        self, grants: dict[str, Terms], purses: dict[str, Purse], prices: PriceTable, tally: Tally, now: datetime
    ) -> None:
        self._grants, self._purses, self._prices, self._tally, self._now = grants, purses, prices, tally, now
        self._rows: list[dict[str, Any]] = []

    def try_open(self, opening: Opening) -> OpenCall | AppError:
        """The admitted call, or the refusal."""
        try:
            return self._open(opening)
        except AppError as refusal:
            return refusal

    def write(self, db: Session) -> None:
        """The rows of the admitted calls."""
        _OPEN.run(db, self._rows)

    def _open(self, opening: Opening) -> OpenCall:
        ask, grant, now = opening.ask, self._grants.get(opening.key_hash), self._now
        if grant is None:
            raise Unauthorized("This model key is not valid.")
        if not grant.is_active:
            raise Forbidden("This assistant is paused.", code=SUSPENDED)
        is_own_key = grant.plan_mode == PlanMode.OWN_KEY
        if is_own_key and not grant.own_key_sealed:
            raise Forbidden("This assistant has no model key yet.", code=NO_OWN_KEY, instance_id=grant.instance_id)
        self._tally.check(grant, is_message=ask.is_message)
        price = find_price(grant, ask.model, upstreams=opening.upstreams, now=now, prices=self._prices)
        if ask.extra and not is_own_key:
            raise Invalid(f"{ask.extra} is not offered here.", code=NOT_OFFERED, field=ask.extra)
        pot = None if is_own_key else grant.ledger_account_id
        held = 0
        if pot is not None:
            held = _worst_case(price, ask, grant.markup_percent)
            self._tally.check_money(grant, held, is_automatic=ask.source.is_idle)
            purse = self._purses.get(pot)
            if purse is None:
                raise NotFound("There is no such ledger account.", ledger_account_id=pot)
            purse.hold(held)
        self._tally.admit(grant, held, is_message=ask.is_message)
        call_id = new_ordered_id("call", now)
        self._rows.append(_new_row(call_id, grant, ask, price, pot, held, now))
        own_key = grant.own_key_sealed if is_own_key and price.upstream == grant.own_key_upstream else None
        mode = PlanMode(grant.plan_mode)
        return OpenCall(call_id, grant.instance_id, grant.account_id, mode, price, held, own_key)


def _worst_case(price: Price, ask: Ask, markup_percent: int) -> int:
    most = price.max_output_tokens
    output = ask.choices * (most if ask.output_bound is None else min(ask.output_bound, most))
    read = min(ask.input_bound, price.context_window)
    return worst_case_micros(price, read, output, markup_percent, may_cache_long=ask.may_cache_long)


_UNUSED = {
    **dict.fromkeys(_WRITTEN_AT_END, 0),
    "state": CallState.OPEN.value,
    "is_estimated": False,
    **dict.fromkeys(("http_status", "error", "ended_at")),
}


def _new_row(
    call_id: str, grant: Terms, ask: Ask, price: Price, pot: str | None, held: int, now: datetime
) -> dict[str, Any]:
    return {
        **_UNUSED,
        "id": call_id,
        "instance_id": grant.instance_id,
        "account_id": grant.account_id,
        "plan_mode": grant.plan_mode,
        "model": ask.model[:100],
        "upstream": price.upstream,
        "dialect": ask.dialect,
        "price_id": price.id,
        "markup_percent": grant.markup_percent,
        "source": ask.source.value,
        "is_turn": ask.is_turn,
        "is_message": ask.is_message,
        "trace_id": ask.trace_id,
        "ledger_account_id": pot,
        "held_micros": held,
        "started_at": now,
        "expires_at": now + CALL_LIFETIME,
    }


def _locked_grants(db: Session, key_hashes: Collection[str]) -> dict[str, Terms]:
    # The lock makes the counts of one instance exact; on SQLite the whole transaction is exclusive anyway.
    return {row[0]: Terms._make(row) for row in _TAKE_GRANTS.fetch(db, key_hashes)}


def _locked_calls(db: Session, call_ids: Collection[str]) -> dict[str, _Call]:
    return {row[0]: _Call._make(row) for row in _TAKE_CALLS.fetch(db, call_ids)}
