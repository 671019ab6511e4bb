"""One database for rows and workflows: SQLite on one machine, PostgreSQL beyond it; same statements on both."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.types import TypeDecorator

BUSY_TIMEOUT_MS = 30_000

_open_transactions: ContextVar[int] = ContextVar("open_transactions", default=0)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC times on both engines; a naive value is a bug and is refused."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of every table of ours. Names are given by rule so that migrations can find them."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        int: sa.BigInteger,
        dict[str, Any]: sa.JSON(none_as_null=True),
    }


def make_engine(url: str, *, foreign_keys: bool = True, pool_size: int = 20) -> sa.Engine:
    """An engine with the guarantees this product needs: WAL, synchronous=FULL, BEGIN IMMEDIATE, foreign keys.

    `foreign_keys=False` is for migrations only (SQLite's batch mode recreates parent tables).
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise ValueError("DATABASE_URL: SQLite needs a file; an in-memory database would lose money")
        engine = sa.create_engine(
            parsed, pool_size=pool_size, max_overflow=20, connect_args={"check_same_thread": False}
        )
        _make_sqlite_durable(engine, foreign_keys)
        return engine
    if parsed.get_backend_name() != "postgresql":
        raise ValueError("DATABASE_URL must be sqlite:///… or postgresql://…")
    parsed = parsed.set(drivername="postgresql+psycopg")
    return sa.create_engine(parsed, pool_size=pool_size, max_overflow=20, pool_pre_ping=True)


def _make_sqlite_durable(engine: sa.Engine, foreign_keys: bool) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        if sqlite3.sqlite_version_info < (3, 42):
            # DBOS asks for unixepoch('subsec'), which SQLite before 3.42 answers with NULL on Python >= 3.12.
            connection.create_function("unixepoch", -1, lambda *_: time.time())
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    turns = _Turns()
    dialect: Any = engine.dialect
    dialect.do_commit, dialect.do_rollback = turns.ending(dialect.do_commit), turns.ending(dialect.do_rollback)

    @event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        # A deferred BEGIN that upgrades to a write fails at once under concurrency (measured: 711 of 800).
        if connection.get_execution_options().get("reads_only", False):
            connection.exec_driver_sql("BEGIN")
            return
        turns.take(connection.connection.dbapi_connection)
        connection.exec_driver_sql("BEGIN IMMEDIATE")


class _Turns:
    """Writers of one process, one after the other, each woken when its turn comes.

    SQLite itself lets them sleep and look again, ever longer up to 100 ms (sqliteDefaultBusyCallback): who is unlucky
    waits for seconds. Other processes still meet there. A turn that is not ended is passed over after BUSY_TIMEOUT_MS.
    """

    def __init__(self) -> None:
        self._free = threading.Lock()
        self._holder: object = None

    def take(self, connection: object) -> None:
        """Wait for this connection's turn to write."""
        self._free.acquire(timeout=BUSY_TIMEOUT_MS / 1000)
        self._holder = connection

    def ending(self, verb: Callable[[Any], None]) -> Callable[[Any], None]:
        """`verb` (commit or rollback), after which the next one writes."""

        def end(connection: Any) -> None:
            try:
                verb(connection)
            finally:
                held = getattr(connection, "dbapi_connection", connection)
                if held is not None and held is self._holder:
                    self._holder = None
                    self._free.release()

        return end


class Database:
    """The engine and its transactions."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        self._readers = sessionmaker(engine.execution_options(reads_only=True), expire_on_commit=False)

    @property
    def is_sqlite(self) -> bool:
        """True on the embedded database."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def tx(self) -> Iterator[Session]:
        """One transaction: commits at the end, rolls back on any exception. Keep the network out of it."""
        with self._open(self._sessions) as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads: on SQLite it waits for no writer and blocks none."""
        with self._open(self._readers) as session:
            yield session

    @contextmanager
    def _open(self, sessions: sessionmaker[Session]) -> Iterator[Session]:
        token = _open_transactions.set(_open_transactions.get() + 1)
        try:
            with sessions.begin() as session:
                yield session
        finally:
            _open_transactions.reset(token)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def in_transaction() -> bool:
    """True while the calling task holds a transaction of ours; no vendor may be called then."""
    return _open_transactions.get() > 0


def lock(db: Session, name: str) -> None:
    """Let one transaction at a time past this point, until it ends. SQLite's writers are alone already."""
    if db.get_bind().dialect.name == "postgresql":
        db.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(name))))
