"""Reading an assistant's log of the last day, and what has been added to it since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from clawhaven.context import Context
from clawhaven.core.errors import Unavailable
from clawhaven.instances import logbook
from clawhaven.instances.logbook import Entry
from clawhaven.instances.models import Instance
from clawhaven.ports.errors import ProviderError

KEPT = timedelta(hours=24)
MOST = 2000
"""Lines of one look."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the log found. `position` leads the next one to what comes after it."""

    entries: Sequence[Entry]
    position: int


def read(
    ctx: Context, instance: Instance, *, level: str = "", words: str = "", most: int = MOST, position: int | None = None
) -> Look:
    """The newest lines of the last 24 hours, oldest first; with `position`, those that have come since.

    Raises Unavailable while the place it runs in does not answer. One that was never built has no lines.
    """
    if instance.placement is None:
        return Look((), 0)
    try:
        runtime = ctx.runtime(instance.runtime)
        text = runtime.read(instance.placement, logbook.PATH)
        if text is None:  # nothing in its own file yet: what it printed while it started
            lines = list(runtime.logs(instance.placement, MOST))
            fresh = lines[position:] if position is not None and position <= len(lines) else lines
            end = len(lines)
        else:
            end = text.rfind("\n") + 1  # the rest is still being written
            begun = position if position is not None and position <= end else 0
            fresh = text[begun:end].rsplit("\n", MOST + 1)[-MOST - 1 :]
    except ProviderError as error:
        raise Unavailable("The log cannot be read at the moment. Please try again in a minute.") from error
    since = ctx.clock.now() - KEPT
    return Look(logbook.pick(logbook.read_lines(fresh), level, words, since)[-most:], end)
