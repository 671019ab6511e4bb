"""How the installation is, in numbers for Prometheus; read from the database when somebody asks."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from clawhaven import __version__
from clawhaven.billing.models import InboxEvent
from clawhaven.context import Context
from clawhaven.core.logs import get_logger
from clawhaven.core.metrics import Counts, Series
from clawhaven.instances import backups
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.metering.limits import IS_OPEN
from clawhaven.metering.models import UsageRow
from clawhaven.notices.models import Notice
from clawhaven.workflows import engine

log = get_logger("clawhaven.figures")

BUILD = Series("clawhaven_build_info", "The version that runs; always 1.", "gauge", ("version",))
DATABASE_UP = Series("clawhaven_database_up", "1 while the database answers.", "gauge")
DATABASE_SECONDS = Series("clawhaven_database_answer_seconds", "How long it took to answer just now.", "gauge")
DATABASE_BYTES = Series("clawhaven_database_bytes", "Size of the database.", "gauge")
CONNECTIONS = Series("clawhaven_database_connections_in_use", "Of this process.", "gauge")
WORKERS = Series("clawhaven_workers", "Worker processes that live.", "gauge")
WORKFLOWS = Series(
    "clawhaven_workflows", "Durable workflows that have not ended, and those that broke.", "gauge", ("queue", "state")
)
INSTANCES = Series("clawhaven_instances", "Assistants by state.", "gauge", ("state",))
CALLS = Series("clawhaven_calls_open", "Model calls under way.", "gauge")
NOTICES = Series("clawhaven_notices", "Letters by state: pending ones wait to be sent.", "gauge", ("state",))
NOTICE_AGE = Series("clawhaven_notice_oldest_seconds", "Age of the oldest letter that waits.", "gauge")
EVENTS = Series("clawhaven_payment_events", "Payment events by vendor and state.", "gauge", ("provider", "state"))
BACKUPS = Series("clawhaven_backups", "Backups of assistants by state.", "gauge", ("state",))
BACKUP_BYTES = Series("clawhaven_backups_bytes", "What all backups together take.", "gauge")
EVENT_AGE = Series("clawhaven_payment_event_oldest_seconds", "Age of the oldest event that is not applied.", "gauge")

SERIES = (
    BUILD,
    DATABASE_UP,
    DATABASE_SECONDS,
    DATABASE_BYTES,
    CONNECTIONS,
    WORKERS,
    WORKFLOWS,
    INSTANCES,
    CALLS,
    NOTICES,
    NOTICE_AGE,
    EVENTS,
    EVENT_AGE,
    BACKUPS,
    BACKUP_BYTES,
)


def read(ctx: Context) -> Counts:
    """All figures as they are now. A database that does not answer leaves `clawhaven_database_up` at 0, and no more."""
    counts = Counts(SERIES)
    counts.add(BUILD, (__version__,))
    began = time.perf_counter()
    try:
        with ctx.db.read() as db:
            db.execute(text("SELECT 1"))
            counts.add(DATABASE_SECONDS, (), time.perf_counter() - began)
            _read(db, ctx, counts)
        counts.add(DATABASE_UP, (), 1)
    except SQLAlchemyError as error:
        log.warning("figures_unread", reason=type(error).__name__)
        counts.add(DATABASE_UP, (), 0)
    return counts


def _read(db: Session, ctx: Context, counts: Counts) -> None:
    now = ctx.clock.now()
    counts.add(DATABASE_BYTES, (), _size(db))
    pool = ctx.db.engine.pool
    counts.add(CONNECTIONS, (), pool.checkedout() if hasattr(pool, "checkedout") else 0)
    counts.add(WORKERS, (), engine.count_workers(db))
    for (queue, state), number in engine.unfinished(db).items():
        counts.add(WORKFLOWS, (queue, state), number)
    by_state = dict(db.execute(select(Instance.state, func.count()).group_by(Instance.state)).tuples().all())
    for state in State:
        counts.add(INSTANCES, (state.value,), by_state.get(state.value, 0))
    counts.add(CALLS, (), int(db.scalar(select(func.count()).select_from(UsageRow).where(IS_OPEN)) or 0))
    notices = dict(db.execute(select(Notice.state, func.count()).group_by(Notice.state)).tuples().all())
    for state in _with(notices, ("pending", "sent", "failed")):
        counts.add(NOTICES, (state,), notices.get(state, 0))
    counts.add(
        NOTICE_AGE, (), _age(db.scalar(select(func.min(Notice.created_at)).where(Notice.state == "pending")), now)
    )
    event = InboxEvent
    events = db.execute(select(event.provider, event.state, func.count()).group_by(event.provider, event.state)).all()
    for provider, state, number in events:
        counts.add(EVENTS, (provider, state), number)
    waiting = db.scalar(select(func.min(event.received_at)).where(event.state == "received"))
    counts.add(EVENT_AGE, (), _age(waiting, now))
    for state, number in sorted(backups.count_states(db).items()):
        counts.add(BACKUPS, (state,), number)
    counts.add(BACKUP_BYTES, (), backups.sum_bytes(db))


def _with(found: Iterable[str], known: tuple[str, ...]) -> list[str]:
    return sorted({*found, *known})


def _age(begun: datetime | None, now: datetime) -> float:
    return 0.0 if begun is None else max(0.0, (now - begun).total_seconds())


def _size(db: Session) -> int:
    if db.get_bind().dialect.name == "sqlite":
        pages, size = db.scalar(text("PRAGMA page_count")), db.scalar(text("PRAGMA page_size"))
        return int(pages or 0) * int(size or 0)
    return int(db.scalar(text("SELECT pg_database_size(current_database())")) or 0)
