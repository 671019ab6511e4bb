"""Creating calls that a client may send twice: `Idempotency-Key` makes a repeat answer as the first one did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core import idempotency
from clawhaven.core.errors import AppError
from clawhaven.core.idempotency import Answer

REPLAYED = "idempotent-replayed"

RepeatKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern=r"^[!-~]+$",
        description="A name of your own for this request, best a UUID. Within 24 hours a repeat of the same request "
        "changes nothing and gets the same answer; another request with this key, and a repeat while the first is "
        "under way, get 409.",
    ),
]


Keep = Callable[[Session, dict[str, Any]], None]
"""Keeps an answer for whoever repeats the request, in the caller's transaction."""


def fingerprint(request: Request, body: BaseModel) -> str:
    """What makes a repeat a repeat: the same call with the same fields."""
    return idempotency.fingerprint(request.method, request.url.path, body.model_dump_json())


def once(
    ctx: Context,
    request: Request,
    response: Response,
    scope: str,
    key: str | None,
    body: BaseModel,
    make: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """What `make` answers; for a repeat what it answered. Raises Conflict, and what `make` raises.

    An AppError of `make` means that nothing was made, and the key may be used again. After anything else, a crash
    included, that is not known, and the key stays taken.
    """
    return once_within(ctx, request, response, scope, key, body, lambda _: make())


def once_within(
    ctx: Context,
    request: Request,
    response: Response,
    scope: str,
    key: str | None,
    body: BaseModel,
    make: Callable[[Keep], dict[str, Any]],
) -> dict[str, Any]:
    """`once` for a `make` that keeps an answer in the transaction that makes the rows: then a crash at any moment
    leaves both or neither. What it answers in the end, with what a vendor added, replaces the answer it kept.
    """

    def keep(db: Session, answer: dict[str, Any]) -> None:
        if key is not None:
            idempotency.finish(db, scope, key, Answer(201, answer))

    if key is None:
        return make(keep)
    with ctx.db.tx() as db:
        known = idempotency.begin(db, scope, key, fingerprint(request, body), ctx.clock.now())
    if known is not None:
        response.status_code = known.status
        response.headers[REPLAYED] = "true"
        return known.body
    try:
        answer = make(keep)
    except AppError:
        with ctx.db.tx() as db:
            idempotency.release(db, scope, key)
        raise
    with ctx.db.tx() as db:
        idempotency.finish(db, scope, key, Answer(201, answer))
    return answer
