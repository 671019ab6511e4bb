"""How often Python looks through the memory of a process that answers people."""

from __future__ import annotations

import gc


def collect_rarely() -> None:
    """What is there now stays: call this once everything is built, before the first request.

    Looking through all that a started installation has loaded holds up every thread for 150 ms of CPU, and by default
    comes again and again while many requests are under way (https://docs.python.org/3/library/gc.html#gc.freeze).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
