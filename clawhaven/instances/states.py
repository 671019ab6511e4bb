"""The lifecycle of an instance: the only writer of `Instance.state`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.core.ids import new_id
from clawhaven.core.languages import N_
from clawhaven.core.states import Machine
from clawhaven.instances.models import Instance, InstanceEvent


class State(StrEnum):
    """Where an instance is in its life."""

    PENDING = "pending"
    PROVISIONING = "provisioning"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    FAILED = "failed"
    DELETED = "deleted"


class Reason(StrEnum):
    """Why an instance is suspended."""

    PAYMENT = "payment"
    BALANCE = "balance"
    ABUSE = "abuse"
    OWNER = "owner"
    OPERATOR = "operator"


CALLED: dict[str, str] = {
    State.PENDING: "waiting for its payment",
    State.PROVISIONING: "being built",
    State.ACTIVE: "running",
    State.SUSPENDED: "paused",
    State.FAILED: "not running because it could not be started",
    State.DELETED: "deleted",
}
"""What a state is called where its owner reads it: "The assistant is …"."""

BECAUSE: dict[str, str] = {
    Reason.PAYMENT: N_("a payment is missing"),
    Reason.BALANCE: N_("the balance is used up"),
    Reason.ABUSE: N_("it was used in an unusual way"),
    Reason.OWNER: N_("stopped by its owner"),
    Reason.OPERATOR: N_("stopped by the operator"),
}
"""The reasons, in the same place: "Paused: …"."""

MACHINE: Machine[State] = Machine(
    "assistant",
    Instance,
    "state",
    {
        State.PENDING: frozenset({State.PROVISIONING, State.DELETED}),
        State.PROVISIONING: frozenset({State.ACTIVE, State.FAILED, State.DELETED}),
        State.FAILED: frozenset({State.PROVISIONING, State.DELETED}),
        State.ACTIVE: frozenset({State.SUSPENDED, State.DELETED}),
        State.SUSPENDED: frozenset({State.ACTIVE, State.DELETED}),
        State.DELETED: frozenset(),
    },
)


def begin_provisioning(db: Session, instance_id: str, now: datetime) -> bool:
    """Paid, or asked again after a failure."""
    moved = MACHINE.move(db, instance_id, State.PROVISIONING, failure_code=None, failure_message=None)
    return moved and note(db, instance_id, now, "provisioning", "Building the assistant.")


def activate(db: Session, instance_id: str, now: datetime) -> bool:
    """The gateway is ready, and nothing keeps the assistant suspended."""
    moved = MACHINE.move(db, instance_id, State.ACTIVE, active_at=now, suspended_for=None)
    return moved and note(db, instance_id, now, "active", "The assistant is ready.")


def fail(db: Session, instance_id: str, now: datetime, code: str, message: str) -> bool:
    """Provisioning was undone; `message` is what the customer reads."""
    moved = MACHINE.move(db, instance_id, State.FAILED, failure_code=code, failure_message=message, placement=None)
    return moved and note(db, instance_id, now, "failed", message)


def suspend(db: Session, instance_id: str, now: datetime, reason: Reason) -> bool:
    """Stopped with its data kept, until `reason` is gone. Reasons add up. False when this one was known."""
    moved = MACHINE.move(db, instance_id, State.SUSPENDED)
    instance = db.get_one(Instance, instance_id)
    known = reasons(instance)
    if reason in known:
        return moved
    instance.suspended_for = " ".join(sorted([*known, reason]))
    db.flush()
    return note(db, instance_id, now, "suspended", f"Paused: {BECAUSE[reason]}.")


def lift(db: Session, instance_id: str, reason: Reason) -> list[Reason]:
    """This reason is gone; returns those that are left."""
    instance = db.get_one(Instance, instance_id)
    left = [known for known in reasons(instance) if known != reason]
    instance.suspended_for = " ".join(left) or None
    db.flush()
    return left


def reasons(instance: Instance) -> list[Reason]:
    """Why this instance is suspended; empty when it is not."""
    return [Reason(word) for word in (instance.suspended_for or "").split()]


def reasons_of(db: Session, instance_id: str) -> list[Reason]:
    """The same by its id; empty too when there is no such instance."""
    found = db.scalar(select(Instance.suspended_for).where(Instance.id == instance_id))
    return [Reason(word) for word in (found or "").split()]


def mark_deleted(db: Session, instance_id: str, now: datetime) -> bool:
    """Everything it had is removed; the row stays for the books, without personal data."""
    moved = MACHINE.move(
        db,
        instance_id,
        State.DELETED,
        deleted_at=now,
        placement=None,
        gateway_token="",
        proxy_key="",
        instructions="",
    )
    return moved and note(db, instance_id, now, "deleted", "Deleted with all its data.")


def note(db: Session, instance_id: str, now: datetime, kind: str, message: str) -> bool:
    """Add to the instance's history; returns True for chaining."""
    db.add(InstanceEvent(id=new_id("evt"), instance_id=instance_id, at=now, kind=kind, message=message))
    return True
