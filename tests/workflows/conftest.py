"""The scene of the workflows' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clawhaven.core.clock import Clock
from clawhaven.core.settings import Settings
from tests.workflows.scene import Scene, set_up


@pytest.fixture
def scene(settings: Settings, clock: Clock) -> Iterator[Scene]:
    """An installation in this process, once on SQLite and once on PostgreSQL."""
    with set_up(settings, clock) as made:
        yield made
