"""Trouble that a person has asked the sandbox for. It is kept in the vendor's file until it is taken back."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Any, Final, Literal

from clawhaven.ports.errors import ProviderError

Card = Literal["works", "declined", "needs_3ds"]
"""How a saved card behaves: it pays, it is declined, or its bank wants the customer to confirm (3-D Secure)."""

CARDS: Final[tuple[Card, ...]] = ("works", "declined", "needs_3ds")
MOST_COPIES: Final = 20
LONGEST_DELAY_SECONDS: Final = 7 * 86_400
_AHEAD: Final = "ahead_seconds"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong at the vendor at present; as made, nothing does."""

    next_card: Card | None = None
    """What happens to the next payment with a saved card, once, whatever that card does by itself."""
    delay_seconds: float = 0
    duplicate: int = 0
    is_reordering: bool = False
    is_dropping: bool = False
    """Events are kept for `unseen` and never sent."""
    is_down: bool = False
    """Every verb fails and no event is sent."""

    def __post_init__(self) -> None:
        if self.next_card not in (None, *CARDS):
            raise _wrong("next_card", f"is one of {', '.join(CARDS)}")
        if not 0 <= self.delay_seconds <= LONGEST_DELAY_SECONDS:
            raise _wrong("delay_seconds", f"is a number from 0 to {LONGEST_DELAY_SECONDS}")
        if not 0 <= self.duplicate <= MOST_COPIES:
            raise _wrong("duplicate", f"is a number from 0 to {MOST_COPIES}")


def read_trouble(db: sqlite3.Connection) -> Trouble:
    """The trouble asked for at present."""
    found = {row["name"]: json.loads(row["value"]) for row in db.execute("SELECT name, value FROM trouble")}
    known = {field.name for field in fields(Trouble)}
    kept: dict[str, Any] = {name: value for name, value in found.items() if name in known}
    return Trouble(**kept)


def write_trouble(db: sqlite3.Connection, trouble: Trouble) -> None:
    """Keep it in the caller's transaction."""
    for name, value in asdict(trouble).items():
        _write(db, name, value)


def take_next_card(db: sqlite3.Connection) -> Card | None:
    """What was asked for the next payment with a saved card; asked for once, it happens once."""
    found = read_trouble(db).next_card
    if found is not None:
        _write(db, "next_card", None)
    return found


def ahead(db: sqlite3.Connection) -> timedelta:
    """How far the vendor's calendar runs before the real one."""
    row = db.execute("SELECT value FROM trouble WHERE name = ?", (_AHEAD,)).fetchone()
    return timedelta(seconds=float(json.loads(row["value"])) if row else 0)


def push_clock(db: sqlite3.Connection, by: timedelta) -> None:
    """Move the vendor's calendar on; there is no way back, as periods have ended meanwhile."""
    if by < timedelta():
        raise _wrong("days", "cannot be negative: time does not go back")
    _write(db, _AHEAD, (ahead(db) + by).total_seconds())


def refuse_when_down(db: sqlite3.Connection) -> None:
    """Raises ProviderError, worth a retry, while the vendor plays dead."""
    if read_trouble(db).is_down:
        raise ProviderError("The sandbox vendor is switched off on its page /sandbox.", code="sandbox_down")


def _write(db: sqlite3.Connection, name: str, value: object) -> None:
    db.execute("INSERT OR REPLACE INTO trouble (name, value) VALUES (?, ?)", (name, json.dumps(value)))


def _wrong(field: str, sentence: str) -> ProviderError:
    return ProviderError(f"{field} {sentence}.", permanent=True, code=f"invalid_{field}")
