"""Operations on an instance and their steps, as a person watches them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from clawhaven.core.ids import new_id
from clawhaven.instances.models import Operation, Progress

STEPS: dict[str, tuple[str, ...]] = {
    "provision": (
        "payment_confirmed",
        "reserve_place",
        "write_files",
        "start_gateway",
        "wait_ready",
        "connect_channels",
        "activate",
    ),
    "configure": ("write_files", "wait_ready"),
    "restart": ("drain_and_stop", "start_gateway", "wait_ready"),
    "suspend": ("close_access", "drain_and_stop"),
    "resume": ("start_gateway", "wait_ready", "open_access"),
    "delete": ("close_access", "remove_gateway", "forget"),
    "backup": ("copy_state",),
    "restore": ("drain_and_stop", "keep_safety", "bring_back", "start_gateway", "wait_ready"),
    "upgrade": ("drain_and_stop", "keep_safety", "change_version", "start_gateway", "wait_ready"),
    "replace_key": ("make_key", "drain_and_stop", "start_gateway", "wait_ready"),
}
"""The steps of each kind of operation, in order. Names are stored data: add, never rename."""


def open_operation(db: Session, instance_id: str, kind: str, now: datetime, *, done: Sequence[str] = ()) -> Operation:
    """A queued operation with its steps waiting; those in `done` are done already."""
    operation = Operation(id=new_id("op"), instance_id=instance_id, kind=kind, state="queued", created_at=now)
    db.add(operation)
    db.flush()
    for position, name in enumerate(STEPS[kind]):
        is_done = name in done
        db.add(
            Progress(
                operation_id=operation.id,
                position=position,
                name=name,
                state="done" if is_done else "waiting",
                started_at=now if is_done else None,
                ended_at=now if is_done else None,
            )
        )
    db.flush()
    return operation


def begin_step(db: Session, operation_id: str, name: str, now: datetime) -> None:
    """The step runs now (again, after a crash)."""
    db.execute(
        update(Operation).where(Operation.id == operation_id, Operation.state == "queued").values(state="running")
    )
    db.execute(
        update(Progress)
        .where(Progress.operation_id == operation_id, Progress.name == name, Progress.state != "done")
        .values(state="running", started_at=now)
    )


def end_step(db: Session, operation_id: str, name: str, now: datetime, state: str = "done") -> None:
    """The step is `done`, `failed` or `undone`."""
    db.execute(
        update(Progress)
        .where(Progress.operation_id == operation_id, Progress.name == name)
        .values(state=state, ended_at=now)
    )


def undo_steps(db: Session, operation_id: str, now: datetime) -> None:
    """What was done before the failure has been undone."""
    db.execute(
        update(Progress)
        .where(Progress.operation_id == operation_id, Progress.state == "done", Progress.name != "payment_confirmed")
        .values(state="undone", ended_at=now)
    )


def close(db: Session, operation_id: str, now: datetime, code: str | None = None, message: str | None = None) -> None:
    """The operation is over: done, or failed with `code` and `message`."""
    db.execute(
        update(Operation)
        .where(Operation.id == operation_id, Operation.state.in_(["queued", "running"]))
        .values(state="failed" if code else "done", error_code=code, error_message=message, ended_at=now)
    )


def latest(db: Session, instance_id: str, kind: str | None = None) -> Operation | None:
    """The newest operation of an instance, of one kind if given."""
    query = select(Operation).where(Operation.instance_id == instance_id)
    if kind:
        query = query.where(Operation.kind == kind)
    return db.scalars(query.order_by(Operation.created_at.desc(), Operation.id.desc()).limit(1)).first()


def under_way(db: Session, instance_id: str) -> Operation | None:
    """The operation that is queued or running for this instance, if any."""
    return db.scalars(
        select(Operation)
        .where(Operation.instance_id == instance_id, Operation.state.in_(["queued", "running"]))
        .order_by(Operation.created_at)
        .limit(1)
    ).first()


def failures(db: Session, instance_id: str, kind: str, since: datetime) -> int:
    """How often this kind of operation has failed since then."""
    counted = select(func.count()).where(
        Operation.instance_id == instance_id,
        Operation.kind == kind,
        Operation.state == "failed",
        Operation.created_at >= since,
    )
    return int(db.scalar(counted) or 0)


def queued(db: Session, instance_id: str) -> list[Operation]:
    """Operations that wait for their turn, oldest first."""
    return list(
        db.scalars(
            select(Operation)
            .where(Operation.instance_id == instance_id, Operation.state == "queued")
            .order_by(Operation.created_at, Operation.id)
        )
    )


def steps(db: Session, operation_id: str) -> list[Progress]:
    """The steps in order."""
    return list(db.scalars(select(Progress).where(Progress.operation_id == operation_id).order_by(Progress.position)))


def as_json(db: Session, operation: Operation) -> dict[str, Any]:
    """The wire form of an operation with its steps; times are ISO 8601 UTC."""
    return {
        "id": operation.id,
        "instance_id": operation.instance_id,
        "kind": operation.kind,
        "state": operation.state,
        "error": operation.error_code,
        "message": operation.error_message,
        "created_at": operation.created_at.isoformat(),
        "ended_at": operation.ended_at.isoformat() if operation.ended_at else None,
        "steps": [{"name": step.name, "state": step.state, "at": _moment(step)} for step in steps(db, operation.id)],
    }


def _moment(step: Progress) -> str | None:
    at = step.ended_at or step.started_at
    return at.isoformat() if at else None
