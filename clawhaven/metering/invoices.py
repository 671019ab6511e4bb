"""What model vendors say was used, kept by day and model, and compared with what our calls say.

Calls with customers' own keys are not compared: their vendor account is the customer's.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from clawhaven.core.money import MICROS_PER_CENT
from clawhaven.metering.models import CallState, PlanMode, UsageRow, VendorUsage
from clawhaven.ports.upstream import VendorDay

ALL_MODELS = "*"
FIGURES = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_micros")
SMALL_MICROS = 10 * MICROS_PER_CENT
SMALL_TOKENS = 10_000
"""Differences up to these are none, whatever they are in per cent."""

_SNAPSHOT = re.compile(r"-(?:\d{8}|\d{4}-\d\d-\d\d|latest)$")


@dataclass(frozen=True, slots=True)
class Figures:
    """One side's figures of a day and model. None: this side does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_micros: int | None = None

    @property
    def tokens(self) -> int | None:
        """All tokens together."""
        found = [self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_tokens]
        return None if all(value is None for value in found) else sum(value or 0 for value in found)


@dataclass(frozen=True, slots=True)
class Compared:
    """One day and model of a vendor, in its figures and ours. `is_off`: further apart than is tolerated."""

    day: str
    upstream: str
    model: str
    theirs: Figures
    ours: Figures
    is_off: bool


def keep(db: Session, upstream: str, days: Sequence[VendorDay], now: datetime) -> list[str]:
    """Write what an export says over what an earlier one said; returns its days in order. Reading the same export again
    changes nothing. Tokens and cost replace only their own kind, for every model of a day that the export is about."""
    merged: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for one in days:
        known = merged[one.day, comparable(one.model)]
        for name in FIGURES:
            value = getattr(one, name)
            if value is not None:
                known[name] = known.get(name, 0) + value
    kinds = {name for figures in merged.values() for name in figures}
    about = sorted({day for day, _ in merged})
    for start in range(0, len(about), 500):
        db.execute(
            sa.update(VendorUsage)
            .where(VendorUsage.upstream == upstream, VendorUsage.day.in_(about[start : start + 500]))
            .values(dict.fromkeys(kinds, None))
            .execution_options(synchronize_session=False)
        )
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    for (day, model), figures in sorted(merged.items()):
        values: dict[str, Any] = {"upstream": upstream, "day": day, "model": model, "imported_at": now, **figures}
        changed = {**figures, "imported_at": now}
        statement = insert(VendorUsage).values(**values)
        db.execute(statement.on_conflict_do_update(index_elements=["upstream", "day", "model"], set_=changed))
    return about


def compare(
    db: Session, *, since: str | None = None, until: str | None = None, upstream: str | None = None, tolerance: float
) -> list[Compared]:
    """Every day and model of the days (`2026-11-21`, `until` included) of which a vendor's figures are known, the
    newest day first. `tolerance` is in per cent of the larger figure."""
    row = VendorUsage
    query = sa.select(row).order_by(row.day.desc(), row.upstream, row.model)
    query = query if since is None else query.where(row.day >= since)
    query = query if until is None else query.where(row.day <= until)
    query = query if upstream is None else query.where(row.upstream == upstream)
    known = [one for one in db.scalars(query) if any(getattr(one, name) is not None for name in FIGURES)]
    if not known:
        return []
    theirs = {(one.day, one.upstream, one.model): Figures(*(getattr(one, name) for name in FIGURES)) for one in known}
    days = sorted({one.day for one in known})
    ours = _ours(db, days[0], days[-1])
    told = {(day, vendor) for day, vendor, _ in theirs}
    keys = set(theirs) | {key for key in ours if key[:2] in told and (*key[:2], ALL_MODELS) not in theirs}
    lines = []
    for key in sorted(keys, key=lambda key: ([-ord(sign) for sign in key[0]], key[1:])):
        mine = _sum(ours, key) if key[2] == ALL_MODELS else ours.get(key, Figures(0, 0, 0, 0, 0))
        other = theirs.get(key, _silent(theirs, key))
        lines.append(Compared(*key, other, mine, _is_off(other, mine, tolerance)))
    return lines


def comparable(model: str) -> str:
    """A model's name in the one form that both sides can be brought to. Pure.

    Without its date; `Claude Opus 4.6`, as Anthropic's cost export says, is `claude-opus-4-6`, and so are older ids
    that have the number before the name.
    """
    name = _SNAPSHOT.sub("", model.strip().lower())
    if not name.startswith("claude"):
        return name[:100] or ALL_MODELS
    parts = [part for part in re.split(r"[^a-z0-9]+", name) if part]
    words = [part for part in parts if not part.isdigit()]
    return "-".join([*words, *(part for part in parts if part.isdigit())])[:100]


def _ours(db: Session, first: str, last: str) -> dict[tuple[str, str, str], Figures]:
    row = UsageRow
    begin = datetime.combine(date.fromisoformat(first), datetime.min.time(), UTC)
    end = datetime.combine(date.fromisoformat(last), datetime.min.time(), UTC) + timedelta(days=1)
    if db.get_bind().dialect.name == "sqlite":
        day = sa.func.strftime("%Y-%m-%d", row.started_at).label("usage_day")
    else:
        day = sa.func.to_char(sa.func.timezone("UTC", row.started_at), "YYYY-MM-DD").label("usage_day")
    written = row.cache_write_5m_tokens + row.cache_write_1h_tokens
    columns = (row.input_tokens, row.output_tokens, row.cache_read_tokens, written, row.provider_cost_micros)
    query = (
        sa.select(day, row.upstream, row.model, *(sa.func.sum(column) for column in columns))
        .where(
            row.started_at >= begin,
            row.started_at < end,
            row.state != CallState.ABANDONED.value,
            row.plan_mode != PlanMode.OWN_KEY.value,
        )
        .group_by(day, row.upstream, row.model)
    )
    found: dict[tuple[str, str, str], Figures] = {}
    for name, upstream, model, *values in db.execute(query):
        key = (str(name), str(upstream), comparable(model))
        found[key] = _add(found.get(key), Figures(*(int(value or 0) for value in values)))
    return found


def _sum(found: dict[tuple[str, str, str], Figures], key: tuple[str, str, str]) -> Figures:
    whole = Figures(0, 0, 0, 0, 0)
    for other, figures in found.items():
        if other[:2] == key[:2]:
            whole = _add(whole, figures)
    return whole


def _silent(theirs: dict[tuple[str, str, str], Figures], key: tuple[str, str, str]) -> Figures:
    """The vendor's figures of a model it does not name on a day it tells about: nothing, of what it tells about."""
    told: Iterable[Figures] = (figures for other, figures in theirs.items() if other[:2] == key[:2])
    names = {name for figures in told for name in FIGURES if getattr(figures, name) is not None}
    return Figures(**dict.fromkeys(names, 0))


def _add(a: Figures | None, b: Figures) -> Figures:
    if a is None:
        return b
    return Figures(*(x + y for x, y in zip(dataclasses.astuple(a), dataclasses.astuple(b), strict=True)))


def _is_off(theirs: Figures, ours: Figures, tolerance: float) -> bool:
    pairs = ((theirs.tokens, ours.tokens, SMALL_TOKENS), (theirs.cost_micros, ours.cost_micros, SMALL_MICROS))
    for a, b, small in pairs:
        if a is not None and b is not None and abs(a - b) > small and abs(a - b) * 100 > tolerance * max(a, b):
            return True
    return False
