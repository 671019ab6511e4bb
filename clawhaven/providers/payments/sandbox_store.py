"""What the sandbox vendor remembers: one SQLite file of its own, apart from the product's database."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.sandbox_schema import prepare

_BUSY_TIMEOUT_SECONDS: Final = 30

Table = Literal["checkouts", "subscriptions", "payments", "customers", "invoices", "portals"]


class Store:
    """The file and its transactions. Connections are opened for each, so threads and forks need no care."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ready = False
        self._making = threading.Lock()

    @contextmanager
    def tx(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction: state and its events together or not at all. ProviderError when the file fails."""
        with self._connect() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.rollback()
                raise
            db.commit()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One snapshot for reading; waits for no writer. ProviderError when the file fails."""
        with self._connect() as db:
            db.execute("BEGIN")
            yield db

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            self._prepare()
            with closing(self._open()) as db:
                yield db
        except (sqlite3.Error, OSError) as error:
            raise ProviderError(f"The sandbox's payment store failed: {error}", code="sandbox_store") from error

    def _prepare(self) -> None:
        with self._making:
            if self._ready and self._path.exists():
                return
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600, exist_ok=True)
            with closing(self._open()) as db:
                db.execute("PRAGMA journal_mode=WAL").close()
                prepare(db)
            self._ready = True

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA synchronous=FULL").close()
        return db


def row_of(db: sqlite3.Connection, table: Table, reference: str) -> sqlite3.Row:
    """One row by its reference; a permanent ProviderError when the vendor has no such thing."""
    row = db.execute(f"SELECT * FROM {table} WHERE reference = ?", (reference,)).fetchone()  # noqa: S608 - a literal
    if row is None:
        noun = table.removesuffix("s")
        raise refused(f"unknown_{noun}", f"The sandbox has no such {noun}.")
    found: sqlite3.Row = row
    return found


def as_time(seconds: float) -> datetime:
    """Stored epoch seconds as aware UTC time."""
    return datetime.fromtimestamp(seconds, UTC)


def maybe_time(seconds: float | None) -> datetime | None:
    """The same for a column that may be empty."""
    return None if seconds is None else as_time(seconds)


def refused(code: str, message: str) -> ProviderError:
    """The vendor's answer to what it will never do."""
    return ProviderError(message, permanent=True, code=code)
