"""Many calls in one transaction: first those that end, then those that want to begin.

A call is in the database twice, when it is opened and when it is closed, and each time that transaction is what it
waits for. So all that arrive while one transaction is under way share the next. The rows are locked first and in one
order (grants, limits of accounts, calls, wallets), then everything is decided in memory, in the order of arrival, then
written at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
from clawhaven.metering.jobs import Ask, ClosedCall, Closing, OpenCall, Opening, Outcome, most_input, most_output
from clawhaven.metering.limits import Tally, Terms, lock_account_limits
from clawhaven.metering.models import AccountLimit, CallState, Grant, PlanMode, Source, UsageRow, calls
from clawhaven.metering.offers import find_price
from clawhaven.metering.prices import Cost, Price, PriceTable, builtin_prices, cost, worst_case_micros
from clawhaven.metering.programs import grant_hashes
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
_ACCOUNT_LIMIT = (
    sa.select(AccountLimit.spend_per_day_micros)
    .where(AccountLimit.account_id == _GRANT.c.account_id)
    .scalar_subquery()
    .label("account_spend_per_day_micros")
)
_TAKE_GRANTS = Lookup(
    _GRANT.c.key_hash,
    sa.select(*(_ACCOUNT_LIMIT if name == _ACCOUNT_LIMIT.name else _GRANT.c[name] for name in Terms._fields))
    .order_by(_GRANT.c.instance_id)
    .with_for_update(key_share=True),
    # In the same statement: a key that is replaced while this waits for its row is found all the same.
    also=_GRANT.c.replaced_key_hash,
)
_TAKE_CALLS = Lookup(
    _CALL.c.id,
    sa.select(*(_CALL.c[name] for name in _Call._fields)).order_by(_CALL.c.id).with_for_update(key_share=True),
)


def run_batch(
    db: Session,
    openings: Sequence[Opening],
    closings: Sequence[Closing],
    *,
    now: datetime,
    prices: PriceTable | None = None,
    is_again: bool = False,
) -> Outcome:
    """Close and open these calls in the caller's transaction; a refusal of one leaves the others as they are.

    `is_again`: they may have been opened already, by a batch whose commit nobody heard of; such a call is given as it
    is, whatever the limits say now.

    An opening is refused in this order: Unauthorized (unknown key), Forbidden `instance_suspended` or `no_own_key` (an
    own-key plan whose customer has given no key; details.instance_id), RateLimited (see limits.py), Invalid
    `unknown_model` (details.models: the known ones) or `not_offered`, RateLimited for limits of money, PaymentRequired.
    A closing of an unknown call is NotFound; a repeat has the first result.
    """
    table = prices or builtin_prices()
    grants = _locked_grants(db, openings)
    lock_account_limits(db, grants.values())
    again = {opening.call_id for opening in openings if opening.call_id} if is_again else set()
    rows = _locked_calls(db, {closing.call_id for closing in closings} | again)
    pots = {row.ledger_account_id for row in rows.values()} | {grant.ledger_account_id for grant in grants.values()}
    purses = ledger.take_purses(db, {pot for pot in pots if pot}) if pots - {None} else {}
    closer = _Closer(rows, purses, table, now)
    closed = [closer.close(closing) for closing in closings]
    closer.write(db)
    known = {call_id: rows[call_id] for call_id in again if call_id in rows}
    opener = _Opener(grants, purses, table, Tally(db, list(grants.values()), now), now, known)
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
        self,
        grants: dict[str, Terms],
        purses: dict[str, Purse],
        prices: PriceTable,
        tally: Tally,
        now: datetime,
        known: dict[str, _Call],
    ) -> None:
        self._grants, self._purses, self._prices, self._tally, self._now = grants, purses, prices, tally, now
        self._known = known
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
        if (row := self._known.get(opening.call_id or "")) is not None:
            return self._as_opened(row, grant)
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
        read, written = most_input(ask, price), most_output(ask, price)
        held = 0
        if pot is not None:
            held = ask.passes * worst_case_micros(
                price, read, written, grant.markup_percent, may_cache_long=ask.may_cache_long
            )
            self._tally.check_money(grant, held, is_automatic=ask.source.is_idle)
            purse = self._purses.get(pot)
            if purse is None:
                raise NotFound("There is no such ledger account.", ledger_account_id=pot)
            purse.hold(held)
        tokens = ask.passes * (read + written)
        self._tally.admit(grant, held, tokens, is_message=ask.is_message, is_automatic=ask.source.is_idle)
        call_id = opening.call_id or new_call_id(now)
        self._rows.append(_new_row(call_id, grant, ask, price, pot, held, tokens, now))
        mode = PlanMode(grant.plan_mode)
        return OpenCall(call_id, grant.instance_id, grant.account_id, mode, price, held, _own_key(grant, mode, price))

    def _as_opened(self, row: _Call, grant: Terms) -> OpenCall:
        price, mode = self._prices.by_id(row.price_id), PlanMode(row.plan_mode)
        if price is None or row.state != CallState.OPEN or row.instance_id != grant.instance_id:
            raise NotFound("This call is over.", call_id=row.id)
        own_key = _own_key(grant, mode, price)
        return OpenCall(row.id, row.instance_id, row.account_id, mode, price, row.held_micros, own_key)


def new_call_id(now: datetime) -> str:
    """For a call that begins now."""
    return new_ordered_id("call", now)


def _own_key(grant: Terms, mode: PlanMode, price: Price) -> str | None:
    """The customer's own vendor key, sealed, where this call goes with it."""
    is_theirs = mode is PlanMode.OWN_KEY and price.upstream == grant.own_key_upstream
    return grant.own_key_sealed if is_theirs else None


_UNUSED = {
    **dict.fromkeys(_WRITTEN_AT_END, 0),
    "state": CallState.OPEN.value,
    "is_estimated": False,
    **dict.fromkeys(("http_status", "error", "ended_at")),
}


def _new_row(
    call_id: str, grant: Terms, ask: Ask, price: Price, pot: str | None, held: int, tokens: int, now: datetime
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
        "held_tokens": tokens,
        "started_at": now,
        "expires_at": now + CALL_LIFETIME,
    }


def _locked_grants(db: Session, openings: Sequence[Opening]) -> dict[str, Terms]:
    """By the hash of the key that was shown: a program's key leads to the grant of its assistant."""
    hashes = {opening.key_hash for opening in openings}
    shown = {opening.key_hash for opening in openings if opening.ask.source is Source.PROGRAM}
    programs = grant_hashes(db, shown) if shown else {}
    # The lock makes the counts of one instance exact; on SQLite the whole transaction is exclusive anyway.
    found: dict[str, Terms] = {}
    for row in _TAKE_GRANTS.fetch(db, hashes - shown | set(programs.values())):
        terms = Terms._make(row)
        found[terms.key_hash] = terms
        if terms.replaced_key_hash is not None:
            found[terms.replaced_key_hash] = terms
    if shown:
        found |= {program: found[own] for program, own in programs.items() if own in found}
    return found


def _locked_calls(db: Session, call_ids: Collection[str]) -> dict[str, _Call]:
    return {row[0]: _Call._make(row) for row in _TAKE_CALLS.fetch(db, call_ids)}
