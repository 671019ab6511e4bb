"""Durable work on DBOS Transact; nothing else in this package knows which engine it is.

Rules (docs/explanation/workflows.md): a workflow calls steps and nothing else that touches the world, the clock or
randomness; a step can run twice, so its outside effect is named by our id; steps take and return plain JSON; an
expected failure is a value (StepFailed in the workflow), never an exception that the engine stores.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from dbos import DBOS, DBOSClient
from dbos._serialization import DBOSPortableJSONSerializer
from sqlalchemy.orm import Mapped, Session, mapped_column

from clawhaven.context import Context
from clawhaven.core.db import Base, Database
from clawhaven.core.ids import new_id
from clawhaven.core.logs import get_logger
from clawhaven.workflows.attempts import Interrupted as Interrupted
from clawhaven.workflows.attempts import StepFailed as StepFailed
from clawhaven.workflows.attempts import attempt, stopping
from clawhaven.workflows.attempts import is_stopping as is_stopping
from clawhaven.workflows.attempts import pause as pause

log = get_logger("clawhaven.workflows")

P = ParamSpec("P")
R = TypeVar("R")

APPLICATION = "clawhaven"
APPLICATION_VERSION = "1"
LEASE_SECONDS = 60
RENEW_SECONDS = 10
INSTANCES = "instances"
EVENTS = "payment-events"
NOTICES = "notices"
CLAIMS = "claims"
ACCOUNTS = "accounts"
SCHEDULE = "schedule-{}"
"""Each schedule has a queue of its own: one that is slow never holds the others up."""


class ExecutorLease(Base):
    """A living worker process. One that stops renewing is dead, and its workflows are taken over."""

    __tablename__ = "executor_lease"

    executor_id: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    host: Mapped[str] = mapped_column(sa.String(100))
    seen: Mapped[float] = mapped_column(sa.Float)


_context: Context | None = None


def context() -> Context:
    """The Context that steps of this process run with."""
    if _context is None:
        raise RuntimeError("the workflow engine was not launched in this process")
    return _context


def workflow(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A durable function. `name` is stored data: never rename it."""
    return DBOS.workflow(name=name, max_recovery_attempts=1000)


def step(name: str, *, attempts: int = 3, wait_seconds: float = 1.0) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A step of a workflow: retried while the outside says "not now", recorded once done.

    Raises StepFailed in the workflow when it is refused for good.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            return attempt(name, attempts, wait_seconds, lambda: function(*args, **kwargs))

        run.__name__ = run.__qualname__ = name
        recorded = DBOS.step(name=name)(run)

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            result = recorded(*args, **kwargs)
            _crash_after(name)
            if "failed" in result:
                raise StepFailed(**result["failed"])
            done: R = result["done"]
            return done

        return call

    return decorate


def sleep(seconds: float) -> None:
    """A durable wait between steps."""
    DBOS.sleep(seconds)


def _crash_after(name: str) -> None:
    """Rehearsal: CLAWHAVEN_CRASH_AFTER=<step>:<file> kills this process -9 once after that step."""
    wanted = os.environ.get("CLAWHAVEN_CRASH_AFTER")
    if not wanted or context().settings.is_production:
        return
    step_name, _, marker = wanted.partition(":")
    if step_name == name and marker and not Path(marker).exists():
        Path(marker).write_text(name)
        os.kill(os.getpid(), signal.SIGKILL)


def migrate(database_url: str) -> None:
    """Bring the engine's own tables to the pinned version; ours come from Alembic."""
    DBOS.migrate(database_url)


_clients: WeakKeyDictionary[Database, DBOSClient] = WeakKeyDictionary()


def _client(ctx: Context) -> DBOSClient:
    """This database's client; it shares our engine, so that it can join our transactions."""
    if ctx.db not in _clients:
        _clients[ctx.db] = DBOSClient(
            system_database_engine=ctx.db.engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            lazy=True,
        )
    return _clients[ctx.db]


def client_of(ctx: Context) -> Any:
    """The engine's own view of its records, for runs.py; it opens transactions of its own."""
    return _client(ctx)


def enqueue(
    db: Session,
    ctx: Context,
    name: str,
    workflow_id: str,
    *args: Any,
    queue: str,
    partition: str | None = None,
    after_seconds: float | None = None,
) -> None:
    """Ask for a workflow in the caller's transaction: it exists if and only if the caller's rows do.

    The same `workflow_id` again is the same run, and changes nothing. `after_seconds`: it begins then, and holds none
    of its queue's places until then, as one that sleeps would.
    """
    options: Any = {
        "workflow_name": name,
        "queue_name": queue,
        "workflow_id": workflow_id,
        "app_version": APPLICATION_VERSION,
    }
    if partition is not None:
        options["queue_partition_key"] = partition
    if after_seconds is not None:
        options["delay_seconds"] = after_seconds
    _client(ctx).enqueue_in_transaction(db, options, *args)


class Engine:
    """The durable engine of one process: launched, it runs workflows."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.executor_id = f"{socket.gethostname()}-{os.getpid()}-{new_id('exe')[-8:]}"
        self._lock: Any = None
        self._threads: list[threading.Thread] = []
        self._is_launched = False

    def launch(self) -> None:
        """Start running workflows here, after taking over those of dead workers.

        Raises RuntimeError when another worker already runs on the same SQLite file.
        """
        global _context
        self._hold_sqlite_lock()
        stopping.clear()
        _context = self._ctx
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_engine": self._ctx.db.engine,
                "application_version": APPLICATION_VERSION,
                "executor_id": self.executor_id,
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "WARNING",
                "scheduler_polling_interval_sec": 5.0,
                "run_migrations": False,
            }
        )
        self._refuse_other_hosts()
        self._renew()
        DBOS.launch()
        self._is_launched = True
        DBOS.register_queue(INSTANCES, partition_concurrency=1, worker_concurrency=32, polling_interval_sec=0.2)
        DBOS.register_queue(EVENTS, partition_concurrency=1, worker_concurrency=8, polling_interval_sec=0.2)
        DBOS.register_queue(NOTICES, worker_concurrency=4, polling_interval_sec=0.5)
        DBOS.register_queue(ACCOUNTS, partition_concurrency=1, worker_concurrency=16, polling_interval_sec=0.5)
        DBOS.register_queue(CLAIMS, partition_concurrency=1, worker_concurrency=64, polling_interval_sec=1.0)
        self._reap()
        for target in (self._keep_lease, self._keep_reaping):
            thread = threading.Thread(target=target, daemon=True, name=target.__name__.strip("_"))
            thread.start()
            self._threads.append(thread)

    def apply_schedules(self, schedules: list[dict[str, Any]]) -> None:
        """Create or replace the schedules (name, function, cron in UTC)."""
        for entry in schedules:
            DBOS.register_queue(SCHEDULE.format(entry["name"]), global_concurrency=1, polling_interval_sec=2.0)
        DBOS.apply_schedules(
            [
                {
                    "schedule_name": entry["name"],
                    "workflow_fn": entry["function"],
                    "schedule": entry["cron"],
                    "context": None,
                    "queue_name": SCHEDULE.format(entry["name"]),
                    "automatic_backfill": False,
                }
                for entry in schedules
            ]
        )

    def close(self, wait_seconds: int = 10) -> None:
        """Stop taking work; steps in flight get `wait_seconds`, the rest goes on at the next launch."""
        global _context
        stopping.set()
        if self._is_launched:
            DBOS.destroy(workflow_completion_timeout_sec=wait_seconds)
            self._is_launched = False
            with self._ctx.db.tx() as db:
                db.execute(sa.delete(ExecutorLease).where(ExecutorLease.executor_id == self.executor_id))
        client = _clients.pop(self._ctx.db, None)
        if client is not None:
            client.destroy()
        for thread in self._threads:
            thread.join(timeout=2)
        if self._lock is not None:
            self._lock.close()
        _context = None

    def _hold_sqlite_lock(self) -> None:
        if not self._ctx.db.is_sqlite:
            return
        path = Path(str(self._ctx.db.engine.url.database) + ".worker-lock")
        self._lock = path.open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise RuntimeError(
                "Another Clawhaven worker runs on this SQLite database. One is enough; "
                "for several workers use PostgreSQL (DATABASE_URL)."
            ) from None

    def _refuse_other_hosts(self) -> None:
        """Gateways live on one host; a worker elsewhere would take them for gone. Raises RuntimeError."""
        with self._ctx.db.tx() as db:
            other = db.scalar(
                sa.select(ExecutorLease.host).where(
                    ExecutorLease.host != self._ctx.host, ExecutorLease.seen > _seconds(db) - LEASE_SECONDS
                )
            )
        if other is not None:
            raise RuntimeError(
                f"A worker runs on the host {other!r}, this one is {self._ctx.host!r}. The assistants of an"
                " installation live on one host: run all workers there, or give them the same HOST_NAME."
            )

    def _renew(self) -> None:
        with self._ctx.db.tx() as db:
            db.merge(ExecutorLease(executor_id=self.executor_id, host=self._ctx.host, seen=_seconds(db)))

    def _keep_lease(self) -> None:
        last = time.monotonic()
        while not stopping.wait(RENEW_SECONDS):
            try:
                self._renew()
                last = time.monotonic()
            except sa.exc.SQLAlchemyError:
                log.exception("the worker's lease could not be renewed")
                if time.monotonic() - last > LEASE_SECONDS / 2 and not self._ctx.db.is_sqlite:
                    log.error("this worker steps down: others will think it is dead")
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

    def _keep_reaping(self) -> None:
        while not stopping.wait(RENEW_SECONDS):
            try:
                self._reap()
            except sa.exc.SQLAlchemyError:
                log.exception("dead workers could not be looked for")

    def _reap(self) -> None:
        """Take over the workflows of workers that are dead. On SQLite every other worker is."""
        # The running ones first: a worker that begins between the two looks must not be taken for dead.
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        with self._ctx.db.tx() as db:
            if not self._ctx.db.is_sqlite and not db.scalar(
                sa.select(sa.func.pg_try_advisory_xact_lock(sa.func.hashtext("clawhaven-reaper")))
            ):
                return
            horizon = _seconds(db) + (1 if self._ctx.db.is_sqlite else -LEASE_SECONDS)
            db.execute(
                sa.delete(ExecutorLease).where(
                    ExecutorLease.seen < horizon, ExecutorLease.executor_id != self.executor_id
                )
            )
            alive = set(db.scalars(sa.select(ExecutorLease.executor_id)))
        dead = sorted({str(found.executor_id) for found in pending if found.executor_id} - alive)
        if dead:
            log.info("taking over from dead workers", executors=dead)
            # Private, but the only call that keeps deadline and attempts; dbos is pinned and a chaos test watches it.
            DBOS._recover_pending_workflows(dead)


def is_over(ctx: Context, workflow_id: str) -> bool:
    """True when this workflow and every repeat of it (`<workflow_id>:<more>`) ended, or none was ever asked for."""
    found = _client(ctx).list_workflows(
        workflow_id_prefix=workflow_id, status=["PENDING", "ENQUEUED", "DELAYED"], load_input=False, load_output=False
    )
    return not any(one.workflow_id == workflow_id or one.workflow_id.startswith(f"{workflow_id}:") for one in found)


def last_word(ctx: Context, workflow_id: str) -> str:
    """What the newest of this workflow and its repeats returned, where that is a word; empty: none, or it broke."""
    found = _client(ctx).list_workflows(workflow_id_prefix=workflow_id, sort_desc=True, load_input=False)
    mine = (one for one in found if one.workflow_id == workflow_id or one.workflow_id.startswith(f"{workflow_id}:"))
    newest = next(mine, None)
    return newest.output if newest is not None and isinstance(newest.output, str) else ""


def unfinished(db: Session) -> dict[tuple[str, str], int]:
    """(queue, state) -> how many workflows have not ended, or broke; a workflow without a queue has the queue "-"."""
    schema = None if db.get_bind().dialect.name == "sqlite" else "dbos"
    row = sa.table("workflow_status", sa.column("queue_name"), sa.column("status"), schema=schema).c
    queue_name = sa.func.coalesce(row.queue_name, "-").label("queue")
    query = sa.select(queue_name, row.status, sa.func.count()).where(row.status.not_in(["SUCCESS", "CANCELLED"]))
    found = db.execute(query.group_by(queue_name, row.status)).all()
    return {(str(queue), str(status).lower()): int(number) for queue, status, number in found}


def count_workers(db: Session) -> int:
    """How many worker processes have renewed their lease."""
    living = sa.select(sa.func.count()).where(ExecutorLease.seen > _seconds(db) - LEASE_SECONDS)
    return int(db.scalar(living) or 0)


def forget_old(ctx: Context, before: str) -> int:
    """Delete the records of workflows that ended before then (ISO 8601); returns how many."""
    done = _client(ctx).list_workflows(
        status=["SUCCESS", "ERROR", "CANCELLED"],
        completed_before=before,
        limit=1000,
        load_input=False,
        load_output=False,
    )
    _client(ctx).delete_workflows([found.workflow_id for found in done])
    return len(done)


def _seconds(db: Session) -> float:
    """The database's clock where there is one, so that hosts whose clocks differ agree on who is late."""
    if db.get_bind().dialect.name == "sqlite":
        return time.time()
    return float(db.scalar(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))) or 0)


@contextmanager
def running(ctx: Context) -> Iterator[Engine]:
    """A launched engine, closed at the end."""
    engine = Engine(ctx)
    engine.launch()
    try:
        yield engine
    finally:
        engine.close()


BOOT_LIFE = timedelta(minutes=6)
"""A boot slot older than this was left behind by a crash that nobody came back from."""
