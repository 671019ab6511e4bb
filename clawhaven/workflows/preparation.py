"""Before the first customer comes: each runtime's software, and OpenClaw's word on the configuration we shall write."""

from __future__ import annotations

import threading

from clawhaven.context import Context
from clawhaven.core.errors import Unavailable
from clawhaven.core.logs import get_logger
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import checkout, files

log = get_logger("clawhaven.preparation")


def prepare(ctx: Context, runtime: str) -> None:
    """Install or build what `runtime` needs; have a new assistant's configuration checked; rehearse a first start.

    The check takes seconds and its verdict is kept, so the first customer need not wait for it. It is made again for
    every assistant: what is found wrong here stops nothing yet, and neither does a rehearsal that fails.
    Raises ProviderError when the software is not there.
    """
    place = ctx.runtime(runtime)
    place.prepare()
    try:
        model = checkout.default_model(ctx)
        files.check_default_shape(ctx, runtime, model)
        if hasattr(place, "warm_up"):
            memory_bytes = ctx.settings.instance_memory_mb * 1024**2
            place.warm_up(lambda layout: files.render_rehearsal(ctx, runtime, model, layout), memory_bytes)
    except Unavailable:
        return  # no model can be used yet, so nobody can sign up either
    except (ProviderError, OSError) as error:
        log.warning("the first assistant will take longer", runtime=runtime, error=str(error))


def begin(ctx: Context) -> threading.Thread:
    """Prepare every runtime of this installation in the background; it ends with this process."""
    thread = threading.Thread(target=_prepare_all, args=(ctx,), daemon=True, name="preparation")
    thread.start()
    return thread


def _prepare_all(ctx: Context) -> None:
    for name in ctx.runtimes:
        try:
            prepare(ctx, name)
        except ProviderError as error:
            # Every provisioning tries again, and says so to those whom it concerns.
            log.warning("a runtime could not be prepared", runtime=name, error=error.message)
