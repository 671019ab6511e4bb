"""Model vendors' usage exports beside our books, for the operator."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import StringConstraints, ValidationError
from starlette.concurrency import run_in_threadpool

from clawhaven.api.bodies import Body, Line
from clawhaven.api.deps import Ctx, Operating
from clawhaven.context import Context
from clawhaven.metering.invoices import Compared, Figures
from clawhaven.workflows import invoices

router = APIRouter(prefix="/admin", tags=["admin"])

Day = Annotated[str | None, Query(pattern=r"^\d{4}-\d\d-\d\d$")]
Vendor = Annotated[str, Path(pattern=r"^[a-z0-9_-]{1,32}$")]


class ExportBody(Body):
    """A file of the vendor's console, or a page (or a list of pages) of its administration API, as text."""

    name: Line = ""
    content: Annotated[str, StringConstraints(strip_whitespace=False)]


@router.post(
    "/usage/{vendor}",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ExportBody.model_json_schema()}},
        }
    },
)
async def import_usage(vendor: Vendor, request: Request, who: Operating, ctx: Ctx) -> dict[str, Any]:
    """Read an export and compare it with our books; a newer one for the same days takes its place."""
    # Up to eight megabytes, which are read only once it is known who sends them.
    raw = await request.body()
    return await run_in_threadpool(_import, ctx, vendor, _body(request, raw), who.actor)


def _body(request: Request, raw: bytes) -> ExportBody:
    """Raises RequestValidationError, as for any other body."""
    try:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raw = b'"not sent as application/json"'
        return ExportBody.model_validate_json(raw)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False)) from None


def _import(ctx: Context, vendor: str, body: ExportBody, actor: str) -> dict[str, Any]:
    found = invoices.import_export(ctx, vendor, body.name, body.content, actor)
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
