"""A throw-away PostgreSQL server for benchmarks, the tests' own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

from tests import conftest


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """Its URL; it ends with the block."""
    fixture = cast(Any, conftest.postgres_url)
    start = getattr(fixture, "__wrapped__", None) or fixture.__pytest_wrapped__.obj
    yield from start()
