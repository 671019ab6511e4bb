"""Our prices beside somebody else's list: what differs, and what to take over into the file we ship."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum

from clawhaven.metering.prices import PriceTable
from clawhaven.metering.rates import Price, Rates
from clawhaven.ports.pricelist import ListedPrice, ListedRates, Listing

FIRST_DAY = date(2026, 1, 1)
"""What was never priced here before is priced from this day on."""

_NOT_SOLD = re.compile(
    # withdrawn by their vendor
    r"claude-(v?[12]|3).*|claude-(opus|sonnet)-4-0|claude-opus-4-1|gpt-3\.5.*|gpt-4(-.*)?|gpt-4\.5-preview"
    r"|o1-(mini|preview)|chatgpt-.*|codex-mini|computer-use.*|(text-)?(ada|babbage|curie|davinci).*"
    # behind other doors than the proxy's: pictures, speech, realtime
    r"|.*(audio-preview|image|realtime|transcribe|translate|tts|whisper|gpt-live|moderation).*"
    # every call costs more than its tokens
    r"|.*(search|deep-research).*"
    # by invitation, fine-tuned, or another vendor's
    r"|claude-mythos.*|.*-(cyber|rosalind.*)|gpt-rosalind.*|.*:.*|.*\.ft-.*|gpt-oss.*"
)
_SNAPSHOT = re.compile(r"-(?:[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}|latest)\Z")


class Kind(StrEnum):
    """`price`: another price now. `announced`: another price later. `missing`: we have no price for it.

    `unlisted`: the list does not know a model of ours; `unreadable`: its price there is of a kind we do not have.
    """

    PRICE = "price"
    ANNOUNCED = "announced"
    MISSING = "missing"
    UNLISTED = "unlisted"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Difference:
    """One model that differs. `changes`: rate -> (ours, theirs), micro-dollars per million tokens.

    `is_open`: somebody has to do something about it. Not so where the operator's file says another price on purpose.
    """

    model: str
    upstream: str
    kind: Kind
    changes: dict[str, tuple[int | None, int | None]]
    since: date | None
    is_open: bool
    listed: Price | None
    """The list's price as a row of ours; its bound of output is 0 where we do not know it."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The rows of a file with a list taken over; ids of the rows added; models whose output bound nobody has said."""

    prices: list[Price]
    added: list[str]
    unbounded: list[str]


def is_sold(model: str) -> bool:
    """False for models that a list may have and the proxy does not sell."""
    return not _NOT_SOLD.fullmatch(model)


def compare(table: PriceTable, listing: Listing, now: datetime) -> list[Difference]:
    """Every model whose price differs now or is announced to differ, in the list's order, then what it lacks."""
    found: list[Difference] = []
    listed = _by_model(listing)
    for versions in listed.values():
        found += _compare(table, versions, now)
    vendors = {price.upstream for price in listing.prices}
    for price in table.current(now):
        if price.upstream not in vendors or price.model in listed:
            continue
        kind = Kind.UNREADABLE if price.model in listing.unreadable else Kind.UNLISTED
        found.append(Difference(price.model, price.upstream, kind, {}, None, False, None))
    return found


def merge(prices: Sequence[Price], listing: Listing, today: date, bounds: Mapping[str, int]) -> Merged:
    """The rows of our file with what the list says taken over: rows are added, none is changed but for its names.

    `bounds`: model -> most tokens of an answer, for models that are new; lists do not say it.
    """
    rows = {price.model: [one for one in prices if one.model == price.model] for price in prices}
    added: list[str] = []
    unbounded: list[str] = []
    for model, versions in _by_model(listing).items():
        known = rows.get(model, [])
        bound = known[-1].max_output_tokens if known else bounds.get(model)
        if versions[-1].rates.output is None:
            bound = 0
        if bound is None:
            unbounded.append(model)
            continue
        wanted = [_row(version, bound) for version in versions]
        fresh = _missing_rows(known, wanted, today) if known else _first_rows(wanted)
        added += [price.id for price in fresh]
        rows[model] = _with_names([*known, *fresh], _other_names(versions[-1]))
    order = list(dict.fromkeys(price.upstream for one in rows.values() for price in one))
    merged = sorted((price for one in rows.values() for price in one), key=lambda price: order.index(price.upstream))
    return Merged(merged, added, unbounded)


def _compare(table: PriceTable, versions: list[ListedPrice], now: datetime) -> Iterable[Difference]:
    first = versions[0]
    current = [one for one in versions if one.since is None or one.since <= now.date()] or versions[:1]
    ours = table.find(first.model, now)
    if ours is None:
        if not table.history(first.model):
            yield Difference(first.model, first.upstream, Kind.MISSING, {}, None, True, _row(current[-1], 0))
        return
    theirs = _row(current[-1], ours.max_output_tokens)
    changes = _changes(ours, theirs)
    if changes:
        yield Difference(first.model, ours.upstream, Kind.PRICE, changes, None, not ours.is_own, theirs)
    for version in versions:
        if version.since is None or version.since <= now.date():
            continue
        later = _row(version, ours.max_output_tokens)
        then = table.find(first.model, later.effective_from)
        changes = _changes(then, later) if then else {}
        if then and changes:
            yield Difference(first.model, ours.upstream, Kind.ANNOUNCED, changes, version.since, not then.is_own, later)


def _by_model(listing: Listing) -> dict[str, list[ListedPrice]]:
    found: dict[str, list[ListedPrice]] = {}
    for price in listing.prices:
        if is_sold(price.model) and price.context_window is not None:
            found.setdefault(price.model, []).append(price)
    return {model: sorted(versions, key=lambda one: one.since or date.min) for model, versions in found.items()}


def _row(listed: ListedPrice, max_output_tokens: int) -> Price:
    day = listed.since or FIRST_DAY
    return Price(
        id=f"{listed.model}@{day.isoformat()}",
        model=listed.model,
        upstream=listed.upstream,
        effective_from=datetime(day.year, day.month, day.day, tzinfo=UTC),
        rates=_rates(listed.rates),
        context_window=listed.context_window or 0,
        max_output_tokens=max_output_tokens,
        long_over_tokens=listed.long_over_tokens if listed.long_rates else None,
        long_rates=_rates(listed.long_rates) if listed.long_rates else None,
    )


def _rates(listed: ListedRates) -> Rates:
    """Where writing to a cache costs extra, keeping it for long (OpenAI: 12 hours) costs twice the input."""
    write = listed.input if listed.cache_write is None else listed.cache_write
    long = listed.cache_write_1h
    if long is None:
        long = listed.input if listed.cache_write is None else 2 * listed.input
    return Rates(
        input=listed.input,
        output=listed.output or 0,
        cache_read=listed.input if listed.cache_read is None else listed.cache_read,
        cache_write_5m=write,
        cache_write_1h=long,
        audio_input=listed.audio_input,
        audio_output=listed.audio_output,
    )


def _changes(ours: Price, theirs: Price) -> dict[str, tuple[int | None, int | None]]:
    mine, listed = _flat(ours), _flat(theirs)
    names = dict.fromkeys([*mine, *listed])
    return {name: (mine.get(name), listed.get(name)) for name in names if mine.get(name) != listed.get(name)}


def _flat(price: Price) -> dict[str, int]:
    found = {name: getattr(price.rates, name) for name in Rates.__dataclass_fields__}
    if price.long_rates:
        found["long_prompt.over_tokens"] = price.long_over_tokens
        found |= {f"long_prompt.{name}": getattr(price.long_rates, name) for name in Rates.__dataclass_fields__}
    return {name: value for name, value in found.items() if value is not None}


def _first_rows(wanted: list[Price]) -> list[Price]:
    """Of a model that was never priced: what holds on the first day, and what comes after it."""
    start = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC)
    before = [price for price in wanted if price.effective_from <= start][-1:]
    after = [price for price in wanted if price.effective_from > start]
    return [_on(price, FIRST_DAY) for price in before] + after


def _missing_rows(known: list[Price], wanted: list[Price], today: date) -> list[Price]:
    """What is in force today and differs from ours, and what is announced. The past stays as it was charged."""
    newest = known[-1]
    current = [price for price in wanted if price.effective_from.date() <= today][-1:]
    fresh = []
    for price in current:
        ours = [one for one in known if one.effective_from.date() <= today][-1:]
        if ours and _changes(ours[0], price):
            late = price.effective_from > newest.effective_from
            fresh.append(price if late else _on(price, today))
    days = {one.effective_from for one in known}
    fresh += [price for price in wanted if price.effective_from.date() > today and price.effective_from not in days]
    return fresh


def _on(price: Price, day: date) -> Price:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return replace(price, id=f"{price.model}@{day.isoformat()}", effective_from=start)


def _other_names(listed: ListedPrice) -> tuple[str, ...]:
    """Without those that stand for a dated snapshot of another of its names."""
    names = {listed.model, *listed.aliases}
    return tuple(
        name
        for name in listed.aliases
        if is_sold(name) and not (_SNAPSHOT.search(name) and _SNAPSHOT.sub("", name) in names)
    )


def _with_names(rows: list[Price], names: tuple[str, ...]) -> list[Price]:
    bare = [replace(price, aliases=()) for price in rows]
    return [*bare[:-1], replace(bare[-1], aliases=names)]
