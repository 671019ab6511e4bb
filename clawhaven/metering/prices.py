"""What a request costs: a table that never changes, integer arithmetic, one rounding (up) per request."""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path

from clawhaven.metering.pricefile import read_prices
from clawhaven.metering.rates import Price, Rates
from clawhaven.ports.upstream import Usage

__all__ = [
    "Cost",
    "Price",
    "PriceTable",
    "Rates",
    "builtin_prices",
    "cost",
    "name_models",
    "read_prices",
    "worst_case_micros",
]

_SNAPSHOT = re.compile(r"-(?:[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}|latest)\Z")
_PER_MILLION = 1_000_000
_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class Cost:
    """One request in micro-dollars: at list price, and with the markup."""

    provider_micros: int
    price_micros: int


class PriceTable:
    """Every price there is or was. Built once and never changed: threads may share it.

    `retired` rows are found by id only: what open calls were admitted at and the files no longer say.
    """

    __slots__ = ("_by_id", "_by_name", "_changes", "_current", "_models", "_prices")

    def __init__(self, prices: Iterable[Price], retired: Iterable[Price] = ()) -> None:
        self._prices = tuple(prices)
        self._by_id: dict[str, Price] = {}
        for price in self._prices:
            if price.id in self._by_id:
                raise ValueError(f"price {price.id} is there twice")
            self._by_id[price.id] = price
        for price in retired:
            self._by_id.setdefault(price.id, price)
        self._models = _in_force(self._prices)
        self._by_name = {**_aliases(self._prices, self._models), **self._models}
        self._changes = sorted({price.effective_from for rows in self._models.values() for price in rows})
        self._current: dict[int, tuple[Price, ...]] = {}

    def find(self, model: str, now: datetime) -> Price | None:
        """The price of a model (by its name, another of its names, or a dated snapshot) at `now`, or None.

        Called for every request: a look into one dict, below a microsecond.
        """
        versions = self._by_name.get(model)
        if versions is None:
            versions = self._by_name.get(_SNAPSHOT.sub("", model), ())
        for price in versions:
            if price.effective_from <= now:
                return price if price.is_offered else None
        return None

    def by_id(self, price_id: str) -> Price | None:
        """The price that a usage row was opened with."""
        return self._by_id.get(price_id)

    def current(self, now: datetime) -> Sequence[Price]:
        """The price of every model at `now`, in the table's order; made once for the time between two changes."""
        period = bisect_right(self._changes, now)
        found = self._current.get(period)
        if found is None:
            prices = (self.find(model, now) for model in self._models)
            found = self._current[period] = tuple(price for price in prices if price is not None)
        return found

    def every(self) -> Sequence[Price]:
        """All rows, past and future ones too, in the table's order; without those found by id only."""
        return self._prices

    def history(self, model: str) -> Sequence[Price]:
        """The rows that are or will be in force for a model of exactly this name, newest first."""
        return self._models.get(model, ())

    def with_overrides(self, prices: Iterable[Price]) -> PriceTable:
        """This table and an operator's own rows: from the first of a model's own rows on, only those count for it."""
        return PriceTable([*self._prices, *prices], self._by_id.values())

    def with_retired(self, prices: Iterable[Price]) -> PriceTable:
        """This table, which also knows these rows by their ids."""
        return PriceTable(self._prices, [*self._by_id.values(), *prices])


@cache
def builtin_prices() -> PriceTable:
    """The table shipped with this version."""
    return PriceTable(read_prices(Path(__file__).with_name("prices.toml")))


def cost(price: Price, usage: Usage, markup_percent: int) -> Cost:
    """What a request cost. Both figures are rounded once, up, to the micro-dollar.

    Where the vendor took several passes, the tariff for long prompts is that of each by itself.
    """
    if usage.apart:
        total = sum(_list_price(price, one) for one in (*usage.apart, _less(usage, usage.apart)))
    else:
        total = _list_price(price, usage)
    return Cost(_round_up(total, _PER_MILLION), _round_up(total * markup_percent, _PER_MILLION * 100))


def _list_price(price: Price, usage: Usage) -> int:
    """Millionths of a micro-dollar."""
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    rates = price.rates_for(prompt)
    total = (
        usage.input_tokens * rates.input
        + usage.output_tokens * rates.output
        + usage.cache_read_tokens * rates.cache_read
        + usage.cache_write_5m_tokens * rates.cache_write_5m
        + usage.cache_write_1h_tokens * rates.cache_write_1h
    )
    if usage.input_audio_tokens and rates.audio_input is not None:
        total += min(usage.input_audio_tokens, usage.input_tokens) * (rates.audio_input - rates.input)
    if usage.output_audio_tokens and rates.audio_output is not None:
        total += min(usage.output_audio_tokens, usage.output_tokens) * (rates.audio_output - rates.output)
    return total


def _less(usage: Usage, parts: Iterable[Usage]) -> Usage:
    """What `usage` has beyond its parts."""
    rest = replace(usage, apart=())
    for part in parts:
        rest.input_tokens = max(0, rest.input_tokens - part.input_tokens)
        rest.output_tokens = max(0, rest.output_tokens - part.output_tokens)
        rest.cache_read_tokens = max(0, rest.cache_read_tokens - part.cache_read_tokens)
        rest.cache_write_5m_tokens = max(0, rest.cache_write_5m_tokens - part.cache_write_5m_tokens)
        rest.cache_write_1h_tokens = max(0, rest.cache_write_1h_tokens - part.cache_write_1h_tokens)
    return rest


def worst_case_micros(
    price: Price, input_tokens: int, output_tokens: int, markup_percent: int, *, may_cache_long: bool = True
) -> int:
    """The most a request can cost the customer, were all of its input written to the dearest cache it may use."""
    total = _worst(price.rates, input_tokens, output_tokens, may_cache_long)
    if price.long_rates is not None and input_tokens > (price.long_over_tokens or 0):
        total = max(total, _worst(price.long_rates, input_tokens, output_tokens, may_cache_long))
    return _round_up(total * markup_percent, _PER_MILLION * 100)


def name_models(prices: Iterable[Price], asked: str = "", most: int = _MOST_NAMED) -> str:
    """Names of models for a sentence: those like `asked` first, the rest in their order, cut to `most`; `none`."""
    names = [price.model for price in prices]
    alike = difflib.get_close_matches(asked[:100], names, n=3, cutoff=0.6) if asked else []
    ordered = [*alike, *(name for name in names if name not in alike)]
    cut = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return (", ".join(ordered[:most]) or "none") + cut


def _worst(rates: Rates, input_tokens: int, output_tokens: int, may_cache_long: bool) -> int:
    dearest = rates.dearest_input
    if not may_cache_long:
        dearest = max(rates.input, rates.cache_read, rates.cache_write_5m, rates.audio_input or 0)
    return input_tokens * dearest + output_tokens * rates.dearest_output


def _round_up(amount: int, unit: int) -> int:
    return -(-amount // unit)


def _in_force(prices: Sequence[Price]) -> dict[str, tuple[Price, ...]]:
    """Model -> its rows, newest first. Ours that come after the operator's first own one never come into force."""
    grouped: dict[str, list[Price]] = {}
    for price in prices:
        grouped.setdefault(price.model, []).append(price)
    found = {}
    for model, rows in grouped.items():
        starts = [price.effective_from for price in rows if price.is_own]
        kept = [price for price in rows if price.is_own or not starts or price.effective_from < min(starts)]
        found[model] = tuple(sorted(kept, key=lambda price: price.effective_from, reverse=True))
    return found


def _aliases(prices: Iterable[Price], models: dict[str, tuple[Price, ...]]) -> dict[str, tuple[Price, ...]]:
    owners: dict[str, str] = {}
    for price in prices:
        for alias in price.aliases:
            if owners.setdefault(alias, price.model) != price.model:
                raise ValueError(f"{owners[alias]} and {price.model} are both called {alias}")
    return {alias: models[model] for alias, model in owners.items()}
