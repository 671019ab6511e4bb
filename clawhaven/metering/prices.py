"""What a token costs: a versioned table from prices.toml, integer arithmetic, one rounding (up) per request."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from clawhaven.ports.upstream import Usage

_SNAPSHOT = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2}|latest)$")
_PER_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Rates:
    """Micro-dollars per million tokens."""

    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int


@dataclass(frozen=True, slots=True)
class Price:
    """The list price of one model from one day on. `long_rates` apply to the whole request above `long_over_tokens`."""

    id: str
    model: str
    upstream: str
    effective_from: datetime
    rates: Rates
    context_window: int
    max_output_tokens: int
    long_over_tokens: int | None = None
    long_rates: Rates | None = None

    def rates_for(self, prompt_tokens: int) -> Rates:
        """The tariff for a request whose prompt, cache included, has so many tokens."""
        if self.long_rates and self.long_over_tokens is not None and prompt_tokens > self.long_over_tokens:
            return self.long_rates
        return self.rates


@dataclass(frozen=True, slots=True)
class Cost:
    """One request in micro-dollars: at list price, and with the markup."""

    provider_micros: int
    price_micros: int


class PriceTable:
    """Every price there is or was."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._by_model: dict[str, list[Price]] = {}
        self._by_id: dict[str, Price] = {}
        for price in sorted(prices, key=lambda price: price.effective_from):
            if price.id in self._by_id:
                raise ValueError(f"price {price.id} is there twice")
            self._by_id[price.id] = price
            self._by_model.setdefault(price.model, []).append(price)

    def find(self, model: str, now: datetime) -> Price | None:
        """The price of a model (or of a dated snapshot of it) at `now`; None when it has none."""
        versions = self._by_model.get(model) or self._by_model.get(_SNAPSHOT.sub("", model), [])
        return next((price for price in reversed(versions) if price.effective_from <= now), None)

    def by_id(self, price_id: str) -> Price | None:
        """The price that a usage row was opened with."""
        return self._by_id.get(price_id)

    def current(self, now: datetime) -> list[Price]:
        """The price of every model at `now`, in the table's order."""
        found = (self.find(model, now) for model in self._by_model)
        return [price for price in found if price is not None]

    def with_overrides(self, prices: Iterable[Price]) -> PriceTable:
        """This table and an operator's own rows; a row with the same id replaces ours."""
        merged = {**self._by_id, **{price.id: price for price in prices}}
        return PriceTable(merged.values())


def read_prices(path: Path) -> list[Price]:
    """The rows of a TOML file in the format of prices.toml; raises ValueError naming the row that is wrong."""
    with path.open("rb") as file:
        rows = tomllib.load(file).get("price", [])
    return [_price(row) for row in rows]


@cache
def builtin_prices() -> PriceTable:
    """The table shipped with this version."""
    return PriceTable(read_prices(Path(__file__).with_name("prices.toml")))


def cost(price: Price, usage: Usage, markup_percent: int) -> Cost:
    """What a request cost. Both figures are rounded once, up, to the micro-dollar."""
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    rates = price.rates_for(prompt)
    total = (
        usage.input_tokens * rates.input
        + usage.output_tokens * rates.output
        + usage.cache_read_tokens * rates.cache_read
        + usage.cache_write_5m_tokens * rates.cache_write_5m
        + usage.cache_write_1h_tokens * rates.cache_write_1h
    )
    return Cost(_round_up(total, _PER_MILLION), _round_up(total * markup_percent, _PER_MILLION * 100))


def worst_case_micros(
    price: Price, input_tokens: int, output_tokens: int, markup_percent: int, *, may_cache_long: bool = True
) -> int:
    """The most a request can cost the customer, were all of its input written to the dearest cache it may use."""
    rates = price.rates_for(input_tokens)
    dearest = max(rates.input, rates.cache_write_5m, rates.cache_write_1h if may_cache_long else 0)
    total = input_tokens * dearest + output_tokens * rates.output
    return _round_up(total * markup_percent, _PER_MILLION * 100)


def _round_up(amount: int, unit: int) -> int:
    return -(-amount // unit)


def _price(row: Mapping[str, Any]) -> Price:
    name = f"{row.get('model')}@{row.get('effective_from')}"
    try:
        start: date = row["effective_from"]
        long_prompt = row.get("long_prompt")
        return Price(
            id=f"{row['model']}@{start.isoformat()}",
            model=row["model"],
            upstream=row["upstream"],
            effective_from=datetime(start.year, start.month, start.day, tzinfo=UTC),
            rates=_rates(row),
            context_window=row["context_window"],
            max_output_tokens=row["max_output_tokens"],
            long_over_tokens=long_prompt["over_tokens"] if long_prompt else None,
            long_rates=_rates(long_prompt) if long_prompt else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"price {name}: {error!r}") from error


def _rates(row: Mapping[str, Any]) -> Rates:
    values = {name: row[name] for name in ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")}
    if any(type(value) is not int or value < 0 for value in values.values()):
        raise TypeError("a rate is a whole number of micro-dollars per million tokens")
    return Rates(**values)
