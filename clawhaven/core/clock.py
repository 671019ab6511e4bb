"""The only source of the current time, so that tests can move it; and months, which differ in length."""

from __future__ import annotations

import calendar
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


def month_after(start: datetime, months: int) -> datetime:
    """The same day so many months later, or the month's last day where it has no such day."""
    years, month = divmod(start.month - 1 + months, 12)
    year = start.year + years
    last_day = calendar.monthrange(year, month + 1)[1]
    return start.replace(year=year, month=month + 1, day=min(start.day, last_day))
