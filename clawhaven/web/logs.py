"""An assistant's log of the last 24 hours: filtered, followed, downloaded. What looks like a secret is masked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated
from urllib.parse import urlencode

import anyio
from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response

from clawhaven.accounts.ownership import owned
from clawhaven.context import Context
from clawhaven.core.errors import Unavailable
from clawhaven.instances.logbook import LEVELS, Entry
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.web import deps, streams, words
from clawhaven.web.deps import Ctx, RowId, SignedIn
from clawhaven.web.render import page
from clawhaven.workflows import logs

router = APIRouter(prefix="/instances/{instance_id}/logs")

SHOWN = 500
LOOK_SECONDS = 2.0

Level = Annotated[str, Query(max_length=10)]
Words = Annotated[str, Query(max_length=100)]


@router.get("")
def show_logs(
    request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId, level: Level = "", q: Words = ""
) -> Response:
    """The newest lines, oldest first."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
    problem = ""
    look = logs.Look((), 0)
    try:
        look = logs.read(ctx, instance, level=level, words=q, most=SHOWN)
    except Unavailable as error:
        problem = error.message
    query = {"level": level, "q": q}
    at = f"/instances/{instance_id}/logs"
    return page(
        request,
        "instance_logs.html",
        tab="logs",
        instance=instance,
        entries=look.entries,
        problem=problem,
        level=level if level in LEVELS else "",
        levels=[("", words.LOG_FILTERS[""]), *((one, words.LOG_FILTERS[one]) for one in LEVELS[:-1])],
        asked=query,
        is_followed=instance.state == State.ACTIVE and not problem,
        refresh_url=f"{at}?{urlencode(query)}",
        follow_url=f"{at}/follow?{urlencode({**query, 'position': look.position})}",
        download_url=f"{at}/download?{urlencode(query)}",
        most=SHOWN,
    )


@router.get("/follow")
async def follow_log(
    request: Request,
    ctx: Ctx,
    owner: SignedIn,
    instance_id: RowId,
    level: Level = "",
    q: Words = "",
    position: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """New lines as server-sent events; the id of each is where the next connection goes on."""
    last = request.headers.get("last-event-id", "")
    begun = int(last) if last.isdecimal() and len(last) < 16 else position

    def look(position: int) -> logs.Look:
        with ctx.db.read() as db:
            instance = owned(db, Instance, instance_id, owner.account.id)
        return logs.read(ctx, instance, level=level, words=q, most=SHOWN, position=position)

    await streams.in_thread(_find, ctx, instance_id, owner.account.id)
    events = _stream(request, look, begun, partial(deps.may_still_look, request))
    return streams.respond_to(owner.account.id, events)


@router.get("/download")
def download_log(ctx: Ctx, owner: SignedIn, instance_id: RowId, level: Level = "", q: Words = "") -> Response:
    """The same lines as a file of text. Raises Unavailable while they cannot be read."""
    instance = _find(ctx, instance_id, owner.account.id)
    look = logs.read(ctx, instance, level=level, words=q)
    name = f"{instance.slug}-{ctx.clock.now():%Y-%m-%d-%H%M}.log"
    text = "".join(f"{entry.as_line()}\n" for entry in look.entries)
    return PlainTextResponse(text, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _find(ctx: Context, instance_id: str, account_id: str) -> Instance:
    with ctx.db.read() as db:
        return owned(db, Instance, instance_id, account_id)


async def _stream(
    request: Request, look: Callable[[int], logs.Look], position: int, holds: Callable[[], bool]
) -> AsyncIterator[bytes]:
    right, quiet, lived = streams.Right(holds), 0.0, 0.0
    while lived < streams.LONGEST_SECONDS and not await request.is_disconnected() and not await right.is_over():
        try:
            seen: logs.Look = await streams.in_thread(look, position)
        except Unavailable:
            seen = logs.Look((), position)
        if seen.entries or seen.position < position:
            lines = [_row(entry) for entry in seen.entries]
            yield f"id: {seen.position}\n".encode() + streams.event("lines", {"lines": lines})
            quiet = 0.0
        elif quiet >= streams.HEARTBEAT_SECONDS:
            yield b": still here\n\n"
            quiet = 0.0
        position = seen.position
        await anyio.sleep(LOOK_SECONDS)
        quiet += LOOK_SECONDS
        lived += LOOK_SECONDS


def _row(entry: Entry) -> dict[str, str]:
    return {
        "at": entry.at.isoformat() if entry.at else "",
        "time": f"{entry.at:%m-%d %H:%M:%S}" if entry.at else "",
        "level": entry.level,
        "word": words.LOG_LEVELS.get(entry.level, entry.level),
        "source": entry.source,
        "text": entry.text,
    }
