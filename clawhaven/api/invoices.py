"""Model vendors' usage exports beside our books, for the operator."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import StringConstraints

from clawhaven.api.bodies import Body, Line
from clawhaven.api.deps import Ctx, Operating
from clawhaven.metering.invoices import Compared, Figures
from clawhaven.workflows import invoices

router = APIRouter(prefix="/admin", tags=["admin"])

Day = Annotated[str | None, Query(pattern=r"^\d{4}-\d\d-\d\d$")]
Vendor = Annotated[str, Path(pattern=r"^[a-z0-9_-]{1,32}$")]


class ExportBody(Body):
    """A file of the vendor's console, or a page (or a list of pages) of its administration API, as text."""

    name: Line = ""
    content: Annotated[str, StringConstraints(strip_whitespace=False)]


@router.post("/usage/{vendor}")
def import_usage(vendor: Vendor, body: ExportBody, who: Operating, ctx: Ctx) -> dict[str, Any]:
    """Read an export and compare it with our books; a newer one for the same days takes its place."""
    found = invoices.import_export(ctx, vendor, body.name, body.content, who.actor)
    return {
        "lines": found.lines,
        "since": found.since,
        "until": found.until,
        "items": [_line(one) for one in found.compared],
        "next_cursor": None,
    }


@router.get("/usage")
def compare_usage(
    who: Operating, ctx: Ctx, since: Day = None, until: Day = None, vendor: str | None = None
) -> dict[str, Any]:
    """Every day and model that a vendor's export told about, beside our books; days are UTC, `until` is included."""
    found = invoices.compare(ctx, since, until, vendor)
    return {"items": [_line(one) for one in found], "next_cursor": None}


def _line(one: Compared) -> dict[str, Any]:
    return {
        "day": one.day,
        "upstream": one.upstream,
        "model": one.model,
        "theirs": _figures(one.theirs),
        "ours": _figures(one.ours),
        "is_off": one.is_off,
    }


def _figures(side: Figures) -> dict[str, Any]:
    return {**dataclasses.asdict(side), "tokens": side.tokens}
