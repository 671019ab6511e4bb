"""The only source of the current time, so that tests can move it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """UTC wall time. `advance` exists for tests and rehearsals; production never calls it."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def now(self) -> datetime:
        """Aware UTC time."""
        return datetime.now(UTC) + self._offset

    def advance(self, by: timedelta) -> None:
        """Move this clock forward by `by`."""
        self._offset += by
