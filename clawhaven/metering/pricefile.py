"""Files of prices: ours (prices.toml) and the operator's (MODEL_PRICES_FILE), read strictly; and ours written again.

Amounts are US dollars per million tokens, in quotes as on the vendors' pages, down to a millionth of a dollar.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from clawhaven.core.money import MICROS_PER_DOLLAR, format_usd, parse_usd
from clawhaven.metering.rates import Price, Rates

NAMED = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
SPOKEN = ("audio_input", "audio_output")
MOST_MICROS = 100_000 * MICROS_PER_DOLLAR
MOST_TOKENS = 100_000_000
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,78}")
"""A model's name: its row's id, with day and digest, stays within the hundred characters of a usage row."""


def read_prices(path: Path) -> list[Price]:
    """The rows of a file like prices.toml, every key there. Raises ValueError naming the row and key that is wrong."""
    return [_Row(table).whole() for table in _tables(path.read_text())]


def read_own_prices(text: str, known: Mapping[str, Price], upstreams: Collection[str]) -> list[Price]:
    """The rows of an operator's file. `known`: the newest row of each model of ours; `upstreams`: names of vendors.

    Raises ValueError naming the row and key that is wrong. A row's id has a digest of what it says, so that a call
    which was admitted at it keeps its price when the file changes.
    """
    found: dict[str, Price] = {}
    days: set[tuple[str, datetime]] = set()
    for table in _tables(text):
        row = _Row(table)
        price = row.own(known.get(row.model), upstreams)
        if (price.model, price.effective_from) in days:
            raise row.wrong("effective_from", "is the same day as in another row of this model")
        days.add((price.model, price.effective_from))
        found[price.id] = price
    return list(found.values())


def describe(price: Price) -> dict[str, Any]:
    """Everything a price says, as plain JSON; `restore` reads it."""
    return {
        "model": price.model,
        "upstream": price.upstream,
        "effective_from": price.effective_from.date().isoformat(),
        "rates": _plain(price.rates),
        "context_window": price.context_window,
        "max_output_tokens": price.max_output_tokens,
        "long_over_tokens": price.long_over_tokens,
        "long_rates": _plain(price.long_rates) if price.long_rates else None,
        "aliases": list(price.aliases),
        "is_offered": price.is_offered,
    }


def tell(price: Price) -> str:
    """The price in one line for the operator."""
    since = f"from {price.effective_from.date().isoformat()}"
    if not price.is_offered:
        return f"not sold {since}"
    rates = price.rates
    facts = [
        f"{format_usd(rates.input)} in",
        f"{format_usd(rates.output)} out",
        f"{format_usd(rates.cache_read)} from the cache",
        f"{format_usd(rates.cache_write_5m)} and {format_usd(rates.cache_write_1h)} into it",
    ]
    if price.long_rates:
        facts.append(f"{format_usd(price.long_rates.input)} in beyond {price.long_over_tokens:,} tokens")
    return f"{', '.join(facts)} per million tokens, at {price.upstream}, {since}"


def restore(price_id: str, said: Mapping[str, Any], *, is_own: bool) -> Price:
    """The price that `describe` described."""
    values = dict(said)
    return Price(
        **{
            **values,
            "id": price_id,
            "effective_from": datetime.fromisoformat(values["effective_from"]).replace(tzinfo=UTC),
            "rates": Rates(**values["rates"]),
            "long_rates": Rates(**values["long_rates"]) if values["long_rates"] else None,
            "aliases": tuple(values["aliases"]),
            "is_own": is_own,
        }
    )


def digest(price: Price) -> str:
    """Eight characters that differ between prices that cost or allow different things; other names do neither."""
    said = json.dumps({**describe(price), "aliases": []}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def render(prices: Iterable[Price]) -> str:
    """The rows as TOML, as `read_prices` reads them."""
    return "\n".join(_render(price) for price in prices)


def _render(price: Price) -> str:
    lines = ["[[price]]", f"model = {json.dumps(price.model)}"]
    if price.aliases:
        lines.append(f"aliases = [{', '.join(json.dumps(alias) for alias in price.aliases)}]")
    lines += [f"upstream = {json.dumps(price.upstream)}", f"effective_from = {price.effective_from.date().isoformat()}"]
    if not price.is_offered:
        return "\n".join([*lines, "is_offered = false", ""])
    lines += _render_rates(price.rates)
    lines += [f"context_window = {price.context_window:_}", f"max_output_tokens = {price.max_output_tokens:_}"]
    if price.long_rates:
        lines += ["[price.long_prompt]", f"over_tokens = {price.long_over_tokens:_}", *_render_rates(price.long_rates)]
    return "\n".join([*lines, ""])


def _render_rates(rates: Rates) -> list[str]:
    said = _plain(rates)
    return [f'{name} = "{format_usd(value).removeprefix("$")}"' for name, value in said.items() if value is not None]


def _plain(rates: Rates) -> dict[str, int | None]:
    return {name: getattr(rates, name) for name in (*NAMED, *SPOKEN)}


def _tables(text: str) -> list[dict[str, Any]]:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"this is not TOML: {error}") from None
    tables = found.pop("price", [])
    if found:
        raise ValueError(f"{next(iter(found))} stands outside of a price; a price begins with the line [[price]]")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError("a price begins with the line [[price]], in two brackets")
    return tables


class _Row:
    """One price's table while it is read: every key is asked for once, and what is left over is a mistake."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._left = dict(table)
        self._name = f"price {str(table.get('model', '?'))[:100]} ({table.get('effective_from', 'no day')})"
        self.model = self._word("model")

    def whole(self) -> Price:
        """The row with nothing left out. Raises ValueError."""
        price = self._price(None, self._word("upstream"), self._rates(self._left, is_whole=True))
        return replace(price, id=f"{price.model}@{price.effective_from.date().isoformat()}")

    def own(self, known: Price | None, upstreams: Collection[str]) -> Price:
        """The row of an operator, `known` being ours of this model. Raises ValueError."""
        if self._left.get("is_offered") is False:
            price = self._withdrawal(known)
        else:
            self._flag("is_offered", True)
            upstream = self._word("upstream", known.upstream if known else None)
            if upstream not in upstreams:
                raise self.wrong("upstream", f"is one of {', '.join(sorted(upstreams))}")
            price = self._price(known, upstream, self._rates(self._left, is_whole=known is not None))
        price = replace(price, is_own=True)
        return replace(price, id=f"{price.model}@{price.effective_from.date().isoformat()}#{digest(price)}")

    def wrong(self, key: str, why: str) -> ValueError:
        """What to raise about a key."""
        return ValueError(f"{self._name}: {key} {why}")

    def _price(self, known: Price | None, upstream: str, rates: Rates) -> Price:
        over, long_rates = self._long_prompt(known)
        price = Price(
            id="",
            model=self.model,
            upstream=upstream,
            effective_from=self._day(),
            rates=rates,
            context_window=self._tokens("context_window", 1, known.context_window if known else None),
            max_output_tokens=self._tokens("max_output_tokens", 0, known.max_output_tokens if known else None),
            long_over_tokens=over,
            long_rates=long_rates,
            aliases=self._names("aliases"),
        )
        self._refuse_rest(self._left)
        return price

    def _withdrawal(self, known: Price | None) -> Price:
        self._flag("is_offered", True)
        if known is None:
            raise self.wrong("model", "is none of ours, so there is nothing to withdraw: take its rows out instead")
        price = replace(known, effective_from=self._day(), is_offered=False, aliases=())
        self._left.pop("upstream", None)
        if self._left:
            raise self.wrong(next(iter(self._left)), "says nothing about a model that is not offered; leave it out")
        return price

    def _long_prompt(self, known: Price | None) -> tuple[int | None, Rates | None]:
        value = self._left.pop("long_prompt", None)
        if value is False or (value is None and (known is None or known.long_rates is None)):
            return None, None
        if value is None:
            raise self.wrong("long_prompt", "is missing: ours costs more then. Give it, or say long_prompt = false")
        if not isinstance(value, dict):
            raise self.wrong("long_prompt", "is a table [price.long_prompt], or false")
        inside = dict(value)
        over = self._whole(inside, "over_tokens", 1, None)
        rates = self._rates(inside, is_whole=True)
        self._refuse_rest(inside, "long_prompt.")
        return over, rates

    def _rates(self, table: dict[str, Any], *, is_whole: bool) -> Rates:
        """`is_whole` False: a cache price that is left out is that of plain input."""
        given = {name: table.pop(name) for name in (*NAMED, *SPOKEN) if name in table}
        amounts = {name: self._amount(name, value) for name, value in given.items()}
        for name in NAMED:
            if name not in amounts and (is_whole or name in ("input", "output")):
                raise self.wrong(name, "is missing")
        return Rates(
            input=amounts["input"],
            output=amounts["output"],
            cache_read=amounts.get("cache_read", amounts["input"]),
            cache_write_5m=amounts.get("cache_write_5m", amounts["input"]),
            cache_write_1h=amounts.get("cache_write_1h", amounts["input"]),
            audio_input=amounts.get("audio_input"),
            audio_output=amounts.get("audio_output"),
        )

    def _amount(self, key: str, value: Any) -> int:
        try:
            if not isinstance(value, str):
                raise ValueError
            micros = parse_usd(value)
        except ValueError:
            raise self.wrong(key, 'is US dollars per million tokens in quotes, like "2.50"') from None
        if micros > MOST_MICROS:
            raise self.wrong(key, f"is at most {format_usd(MOST_MICROS)} per million tokens")
        return micros

    def _day(self) -> datetime:
        value = self._left.pop("effective_from", None)
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self.wrong("effective_from", "is a day without quotes, like 2026-11-21; it begins at midnight UTC")
        return datetime(value.year, value.month, value.day, tzinfo=UTC)

    def _word(self, key: str, default: str | None = None) -> str:
        value = self._left.pop(key, default)
        if not isinstance(value, str) or not _MODEL.fullmatch(value):
            raise self.wrong(key, "is a name in quotes: 1 to 79 of letters, digits and ._:/@+-")
        return value

    def _names(self, key: str) -> tuple[str, ...]:
        value = self._left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) and _MODEL.fullmatch(one) for one in value):
            raise self.wrong(key, 'is a list of names like ["gpt-5.6"]')
        return tuple(value)

    def _flag(self, key: str, default: bool) -> bool:
        value = self._left.pop(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "is true or false")
        return value

    def _tokens(self, key: str, least: int, default: int | None) -> int:
        return self._whole(self._left, key, least, default)

    def _whole(self, table: dict[str, Any], key: str, least: int, default: int | None) -> int:
        value = table.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_TOKENS:
            raise self.wrong(key, f"is a whole number of tokens from {least} to {MOST_TOKENS:,}")
        return value

    def _refuse_rest(self, table: Mapping[str, Any], prefix: str = "") -> None:
        if table:
            raise self.wrong(prefix + next(iter(table)), "is not a key of a price")
