"""Model vendors' own figures joined to ours: an export is read, kept, compared, and what differs is told."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Invalid
from clawhaven.core.money import format_usd
from clawhaven.core.secrets import hash_token
from clawhaven.metering import invoices
from clawhaven.metering.invoices import Compared
from clawhaven.notices import spending as letters_of
from clawhaven.workflows import letters

TOLD = 20
"""So many differences are listed in the letter."""


@dataclass(frozen=True, slots=True)
class Imported:
    """An export that was read: its days and models, from when to when, and how they compare."""

    lines: int
    since: str
    until: str
    compared: list[Compared]


def import_export(ctx: Context, vendor: str, name: str, text: str, actor: str) -> Imported:
    """Keep what a vendor's export says and compare it. Any number of times: what is told is told once.

    Raises Invalid naming `vendor` or `content`.
    """
    upstream = ctx.upstreams.get(vendor)
    read = getattr(upstream, "read_export", None)
    if upstream is None or read is None:
        known = sorted(one for one, other in ctx.upstreams.items() if hasattr(other, "read_export"))
        raise Invalid(f"Vendors with exports are {', '.join(known)}.", field="vendor", reason="unknown")
    try:
        days = read(text)
    except ValueError as problem:
        told = f"{name or 'This export'} cannot be read: {problem}."
        raise Invalid(told, field="content", reason=str(problem)) from None
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        about = invoices.keep(db, vendor, days, now)
        compared = _compare(ctx, db, about[0], about[-1], vendor)
        audit.record(db, now, actor, "usage.import", vendor, since=about[0], until=about[-1], lines=len(days))
        off = [one for one in compared if one.is_off]
        if off:
            lines = [_line(one) for one in off]
            url = f"{ctx.settings.base_url}/admin"
            letter = letters_of.invoice_differs(upstream.label, lines[:TOLD], max(0, len(lines) - TOLD), url)
            key = f"vendor-usage:{vendor}:{hash_token(chr(10).join(lines))}"
            letters.post_to(db, ctx, key, letter, ctx.settings.support_address)
    return Imported(len(days), about[0], about[-1], compared)


def compare(ctx: Context, since: str | None, until: str | None, vendor: str | None) -> list[Compared]:
    """What was read so far, beside our books."""
    with ctx.db.read() as db:
        return _compare(ctx, db, since, until, vendor)


def _compare(ctx: Context, db: Session, since: str | None, until: str | None, vendor: str | None) -> list[Compared]:
    tolerance = float(ctx.settings.invoice_tolerance_percent)
    return invoices.compare(db, since=since, until=until, upstream=vendor, tolerance=tolerance)


def _line(one: Compared) -> str:
    parts = []
    if one.theirs.tokens is not None:
        parts.append(f"{one.theirs.tokens:,} tokens, ours {one.ours.tokens or 0:,}")
    if one.theirs.cost_micros is not None:
        parts.append(f"{format_usd(one.theirs.cost_micros)}, ours {format_usd(one.ours.cost_micros or 0)}")
    return f"{one.day} {one.model}: {'; '.join(parts)}"
