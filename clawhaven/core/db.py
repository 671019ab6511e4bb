"""One database for rows and workflows: SQLite on one machine, PostgreSQL beyond it; same statements on both."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.types import TypeDecorator

BUSY_TIMEOUT_MS = 30_000
CHECKPOINT_PAGES = 1000
"""SQLite's own default: a log of 4 MB."""

CHECKPOINT_SECONDS = 1.0

HURRIED_OPTIONS = (
    "-c synchronous_commit=off -c enable_seqscan=off -c jit=off -c lock_timeout=2000 -c statement_timeout=15000"
)
HURRIED_CONNECT = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
"""PostgreSQL's settings for `Database.hurried_tx`. Its statements find rows by their keys; without the second, one
prepared while a table was empty goes on reading all of it until the table is analysed."""

MOST_URGENT_IN_A_ROW = 8
"""Urgent writers before one of the others has its turn, so that nobody waits for ever."""

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


def table_of(model: type[Base]) -> sa.Table:
    """The table behind a model, for statements about many rows."""
    return cast(sa.Table, model.__table__)


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
        is_urgent = connection.get_execution_options().get("is_urgent", False)
        _wait_for_disk(connection, not connection.get_execution_options().get("flushes_later", False))
        turns.take(connection.connection.dbapi_connection, is_urgent=is_urgent)
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _wait_for_disk(connection: sa.Connection, is_wanted: bool) -> None:
    """Whether this SQLite connection's next commit waits for the disk; a pool's connections go from hand to hand.

    Where it does not, it leaves moving the log into the database file to `Database.flush` as well.
    """
    if connection.info.get("waits_for_disk", True) is not is_wanted:
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if is_wanted else 'NORMAL'}")
        connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES if is_wanted else 0}")
        connection.info["waits_for_disk"] = is_wanted


class _Turns:
    """Writers of one process, one after the other, each woken when its turn comes; the urgent ones before the others.

    SQLite itself lets them sleep and look again, ever longer up to 100 ms (sqliteDefaultBusyCallback): who is unlucky
    waits for seconds. Other processes still meet there. A turn that is not ended is passed over after BUSY_TIMEOUT_MS.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._holder: object = None
        self._urgent: deque[_Ticket] = deque()
        self._others: deque[_Ticket] = deque()
        self._urgent_in_a_row = 0

    def take(self, connection: object, *, is_urgent: bool = False) -> None:
        """Wait for this connection's turn to write."""
        with self._mutex:
            if self._holder is None:
                self._holder = connection
                return
            ticket, line = _Ticket(connection), self._urgent if is_urgent else self._others
            line.append(ticket)
        if ticket.called.wait(BUSY_TIMEOUT_MS / 1000):
            return
        with self._mutex:
            if ticket in line:
                line.remove(ticket)
                self._holder = connection

    def ending(self, verb: Callable[[Any], None]) -> Callable[[Any], None]:
        """`verb` (commit or rollback), after which the next one writes."""

        def end(connection: Any) -> None:
            try:
                verb(connection)
            finally:
                held = getattr(connection, "dbapi_connection", connection)
                if held is not None and held is self._holder:
                    self._call_next()

        return end

    def _call_next(self) -> None:
        with self._mutex:
            is_urgent = bool(self._urgent) and not (self._others and self._urgent_in_a_row >= MOST_URGENT_IN_A_ROW)
            self._urgent_in_a_row = self._urgent_in_a_row + 1 if is_urgent else 0
            line = self._urgent if is_urgent else self._others
            ticket = line.popleft() if line else None
            self._holder = ticket.connection if ticket else None
        if ticket:
            ticket.called.set()


class _Ticket:
    """A writer that waits."""

    def __init__(self, connection: object) -> None:
        self.connection, self.called = connection, threading.Event()


_WAIT = sa.text("SET LOCAL synchronous_commit = on")


class Database:
    """The engine and its transactions."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        self._readers = sessionmaker(engine.execution_options(reads_only=True), expire_on_commit=False)
        self._urgent = sessionmaker(engine.execution_options(is_urgent=True), expire_on_commit=False)
        self._eager = self.engine
        if not self.is_sqlite:
            given = engine.url.query.get("options", "")
            options = " ".join([*([given] if isinstance(given, str) else given), HURRIED_OPTIONS]).strip()
            self._eager = sa.create_engine(
                engine.url, pool_size=2, pool_pre_ping=True, connect_args={**HURRIED_CONNECT, "options": options}
            )
        self._eager = self._eager.execution_options(is_urgent=True, flushes_later=True)
        self._own = threading.local()
        self._moved_at = 0.0

    @property
    def is_sqlite(self) -> bool:
        """True on the embedded database."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def tx(self, *, is_urgent: bool = False) -> Iterator[Session]:
        """One transaction: commits at the end, rolls back on any exception. Keep the network out of it.

        `is_urgent`: somebody outside waits for milliseconds; on SQLite it goes before this process's other writers.
        """
        with self._open(self._urgent if is_urgent else self._sessions) as session:
            yield session

    @contextmanager
    def hurried_tx(self, *, has_money: bool = True) -> Iterator[Session]:
        """An urgent transaction whose commit outlives every process.

        On SQLite it does not wait for the disk: a failure of the machine itself can lose it until `flush`. PostgreSQL
        keeps such commits in memory that dies with its server, so there only what moves no money does not wait. It
        gives up on a row that somebody else has locked for two seconds.
        """
        # Each thread keeps its connection: taking one and giving it back costs as much as a small transaction.
        kept: sa.Connection | None = getattr(self._own, "connection", None)
        connection = kept if kept is not None and not kept.closed else self._eager.connect()
        self._own.connection = connection
        token = _open_transactions.set(_open_transactions.get() + 1)
        try:
            with connection.begin(), Session(connection, expire_on_commit=False) as session:
                if has_money and not self.is_sqlite:
                    session.execute(_WAIT)
                yield session
                session.flush()
        except sa.exc.DBAPIError:
            # Whether the server is gone or only refused something: the next transaction has a fresh connection.
            self._own.connection = None
            connection.invalidate()
            connection.close()
            raise
        finally:
            _open_transactions.reset(token)

    def flush(self) -> None:
        """Wait until the disk has what was committed so far by `hurried_tx`; PostgreSQL does that by itself.

        About once a second it also moves the log into the database file.
        """
        if not self.is_sqlite:
            return
        try:
            log = os.open(f"{self.engine.url.database}-wal", os.O_RDONLY)
        except FileNotFoundError:
            return  # all of it is in the database file already, which SQLite flushed before it let go of its log
        try:
            os.fsync(log)
        finally:
            os.close(log)
        if time.monotonic() - self._moved_at > CHECKPOINT_SECONDS:
            self._moved_at = time.monotonic()
            try:
                with closing(sqlite3.connect(str(self.engine.url.database))) as connection:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").close()  # waits for nobody, and nobody for it
            except sqlite3.Error as error:
                raise OSError(f"the log could not be moved into the database: {error}") from error

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
        self._eager.dispose()


def in_transaction() -> bool:
    """True while the calling task holds a transaction of ours; no vendor may be called then."""
    return _open_transactions.get() > 0


def lock(db: Session, name: str) -> None:
    """Let one transaction at a time past this point, until it ends. SQLite's writers are alone already."""
    if db.get_bind().dialect.name == "postgresql":
        db.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(name))))
