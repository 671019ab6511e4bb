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

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.types import TypeDecorator

BUSY_TIMEOUT_MS = 30_000
CHECKPOINT_PAGES = 1000
"""SQLite's own default: a log of 4 MB."""

CHECKPOINT_SECONDS = 1.0
MOST_LOG_BYTES = 128 * 2**20
"""A longer log is emptied while writers wait: where somebody writes all the time it never ends by itself."""

HURRIED_OPTIONS = (
    "-c synchronous_commit=off -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off"
    " -c lock_timeout=2000 -c statement_timeout=15000"
)
HURRIED_CONNECT = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
"""PostgreSQL's settings for `Database.hurried_tx`. Its statements find rows by their keys, one by one; without the
three from the second on, a plan made while a table was empty goes on reading all of it until the table is analysed."""

MOST_URGENT_IN_A_ROW = 8
"""Urgent writers before one of the others has its turn, so that nobody waits for ever."""

DRIVER = "clawhaven.core.driver"
"""In a session's `info`: (its transaction, or None where it is a hurried one; the dialect; the driver's connection)."""

_open_transactions: ContextVar[int] = ContextVar("open_transactions", default=0)


class Busy(Exception):
    """Somebody else is writing, and who asked does not want to wait."""


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
        shared = {"check_same_thread": False}
        engine = sa.create_engine(parsed, pool_size=pool_size, max_overflow=20, connect_args=shared)
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

    dialect: Any = engine.dialect
    turns = dialect.turns = _Turns()
    dialect.do_commit, dialect.do_rollback = turns.ending(dialect.do_commit), turns.ending(dialect.do_rollback)

    @event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        # A deferred BEGIN that upgrades to a write fails at once under concurrency (measured: 711 of 800).
        options = connection.get_execution_options()
        if options.get("reads_only", False):
            connection.exec_driver_sql("BEGIN")
            return
        waits = options.get("waits", True)
        _prepare(connection, waits_for_disk=not options.get("flushes_later", False), waits=waits)
        driver: Any = connection.connection.dbapi_connection
        if not turns.take(driver, is_urgent=options.get("is_urgent", False), waits=waits):
            raise Busy
        try:
            driver.execute("BEGIN IMMEDIATE").close()  # SQLAlchemy's way there is 40 µs longer
        except sqlite3.Error as error:
            turns.leave(driver)
            if not waits and isinstance(error, sqlite3.OperationalError):
                raise Busy from error
            raise sa.exc.DBAPIError.instance("BEGIN IMMEDIATE", None, error, sqlite3.Error) from error


def _prepare(connection: sa.Connection, *, waits_for_disk: bool, waits: bool) -> None:
    """How this SQLite connection waits, for the disk at its commit and for other processes that write; a pool's
    connections go from hand to hand.

    Where it does not wait for the disk, it leaves moving the log into the database file to `Database.flush` as well.
    """
    info = connection.info
    if info.get("waits_for_disk", True) is not waits_for_disk:
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if waits_for_disk else 'NORMAL'}")
        connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES if waits_for_disk else 0}")
        info["waits_for_disk"] = waits_for_disk
    if info.get("waits", True) is not waits:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS if waits else 0}")
        info["waits"] = waits


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

    def take(self, connection: object, *, is_urgent: bool = False, waits: bool = True) -> bool:
        """Wait for this connection's turn to write; False: it is not, and it does not want to wait."""
        with self._mutex:
            if self._holder is None:
                self._holder = connection
                return True
            if not waits:
                return False
            ticket, line = _Ticket(connection), self._urgent if is_urgent else self._others
            line.append(ticket)
        if ticket.called.wait(BUSY_TIMEOUT_MS / 1000):
            return True
        with self._mutex:
            if ticket in line:
                line.remove(ticket)
                self._holder = connection
        return True

    def ending(self, verb: Callable[[Any], None]) -> Callable[[Any], None]:
        """`verb` (commit or rollback), after which the next one writes."""

        def end(connection: Any) -> None:
            try:
                verb(connection)
            finally:
                self.leave(getattr(connection, "dbapi_connection", connection))

        return end

    def leave(self, connection: object) -> None:
        """The turn of this connection is over, if it has it."""
        if connection is not None and connection is self._holder:
            self._call_next()

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


_FLUSH = "SELECT pg_logical_emit_message(true, 'clawhaven', '')"
"""A transaction that changes nothing and waits for the disk; what was committed before it is on the disk then too.
https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION"""


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
        self._at_once = self._eager.execution_options(waits=False)
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
    def hurried_tx(self, *, waits: bool = True) -> Iterator[Session]:
        """An urgent transaction whose commit does not wait for the disk.

        Until `flush` a failure of the machine can lose it, on PostgreSQL one of the database's server as well. It gives
        up on a row that somebody else has locked for two seconds; with `waits` False, on SQLite, it raises Busy at once
        where somebody else is writing.
        """
        connection, session = self._hurried(waits)
        token = _open_transactions.set(_open_transactions.get() + 1)
        try:
            with connection.begin():
                session.info[DRIVER] = (None, connection.dialect, connection.connection.dbapi_connection)
                try:
                    yield session
                    if session.in_transaction():
                        session.flush()
                finally:
                    del session.info[DRIVER]
                    if session.in_transaction():
                        session.close()
        except sa.exc.DBAPIError:
            # Whether the server is gone or only refused something: the next transaction has a fresh connection.
            del self._own.hurried[waits]
            connection.invalidate()
            connection.close()
            raise
        finally:
            _open_transactions.reset(token)

    def _hurried(self, waits: bool) -> tuple[sa.Connection, Session]:
        """This thread's own: making them costs as much as a small transaction."""
        known: dict[bool, tuple[sa.Connection, Session]] | None = getattr(self._own, "hurried", None)
        if known is None:
            known = self._own.hurried = {}
        kept = known.get(waits)
        if kept is None or kept[0].closed:
            connection = (self._eager if waits else self._at_once).connect()
            kept = known[waits] = connection, Session(connection, expire_on_commit=False)
        return kept

    def flush(self) -> None:
        """Wait until the disk has what was committed so far by `hurried_tx`. Raises OSError, DBAPIError.

        On SQLite it also moves the log into the database file, about once a second.
        """
        if not self.is_sqlite:
            self._flush_server()
            return
        try:
            log = os.open(f"{self.engine.url.database}-wal", os.O_RDONLY)
        except FileNotFoundError:
            return  # all of it is in the database file already, which SQLite flushed before it let go of its log
        try:
            os.fsync(log)
            is_long = os.fstat(log).st_size > MOST_LOG_BYTES
        finally:
            os.close(log)
        if time.monotonic() - self._moved_at > CHECKPOINT_SECONDS:
            self._moved_at = time.monotonic()
            try:
                with closing(sqlite3.connect(str(self.engine.url.database))) as connection:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").close()  # waits for nobody, and nobody for it
                    if is_long:
                        self._shorten_log(connection)
            except sqlite3.Error as error:
                raise OSError(f"the log could not be moved into the database: {error}") from error

    def _shorten_log(self, connection: sqlite3.Connection) -> None:
        turns: _Turns = cast(Any, self.engine.dialect).turns  # without one it hardly ever comes in between
        turns.take(connection, is_urgent=True)
        try:
            connection.execute("PRAGMA busy_timeout=50").close()  # for who still reads from it
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        finally:
            turns.leave(connection)

    def _flush_server(self) -> None:
        connection: sa.Connection | None = getattr(self._own, "flushing", None)
        try:
            if connection is None or connection.closed:
                connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                connection.execute(sa.text("SET synchronous_commit = on"))
                connection.commit()
                self._own.flushing = connection
            driver: Any = connection.connection.dbapi_connection
            driver.execute(_FLUSH).close()  # SQLAlchemy's way there takes the counter's thread a tenth of a millisecond
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            self._own.flushing = None
            if connection is not None:
                connection.invalidate()
                connection.close()
            if isinstance(error, psycopg.Error):
                raise sa.exc.DBAPIError.instance(_FLUSH, None, error, psycopg.Error) from error
            raise

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
