"""Creating calls that a client may send twice: `Idempotency-Key` makes a repeat answer as the first one did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header, Request, Response
from pydantic import BaseModel

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
    if key is None:
        return make()
    with ctx.db.tx() as db:
        known = idempotency.begin(db, scope, key, fingerprint(request, body), ctx.clock.now())
    if known is not None:
        response.status_code = known.status
        response.headers[REPLAYED] = "true"
        return known.body
    try:
        answer = make()
    except AppError:
        with ctx.db.tx() as db:
            idempotency.release(db, scope, key)
        raise
    with ctx.db.tx() as db:
        idempotency.finish(db, scope, key, Answer(201, answer))
    return answer
