"""What a person watches while something is under way: the same view for the page and for its event stream."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from clawhaven.billing import checkouts, subscriptions
from clawhaven.instances import operations
from clawhaven.instances.models import Instance, Operation
from clawhaven.instances.states import Reason, State, reasons
from clawhaven.web import words
from clawhaven.web.languages import N_, _

HEADLINES: dict[str, tuple[str, str]] = {
    State.PENDING: (N_("Waiting for the payment"), N_("As soon as it is confirmed, the assistant is built.")),
    State.PROVISIONING: (N_("Building the assistant"), N_("These are the real steps. It takes about a minute.")),
    State.ACTIVE: (N_("The assistant is live"), ""),
    State.SUSPENDED: (N_("The assistant is paused"), ""),
    State.FAILED: (N_("That did not work"), ""),
    State.DELETED: (N_("This assistant is gone"), N_("It was deleted with everything it kept.")),
}

BEING_DELETED = N_("It is being deleted with everything it kept.")


def of_provision(db: Session, instance: Instance) -> dict[str, Any]:
    """The way from payment to living assistant. Holds nothing that a stranger may not see."""
    if instance.state == State.SUSPENDED and _is_returning(db, instance):
        return _of_return(db, instance)
    operation = operations.latest(db, instance.id, "provision")
    headline, detail = HEADLINES[State(instance.state)]
    is_over = instance.state not in (State.PENDING, State.PROVISIONING)
    if instance.deletion_asked_at is not None and not is_over:
        headline, detail, is_over = (
            N_("This order was cancelled"),
            N_("Nothing was charged, and nothing is kept."),
            True,
        )
        if instance.state != State.PENDING or instance.paid_at is not None:
            detail = BEING_DELETED
    elif instance.state == State.PENDING:
        checkout = checkouts.of_instance(db, instance.id)
        if checkout is not None and checkout.last_outcome == "declined":
            detail = N_("The last try was declined. Nothing was charged; another card may work.")
    elif instance.deletion_asked_at is not None and instance.state == State.FAILED:
        headline, detail = N_("This order was given up"), BEING_DELETED
    elif instance.state == State.FAILED:
        detail = instance.failure_message or ""
    steps = _steps(db, operation, "provision")
    is_being_built = instance.state == State.PROVISIONING and not is_over
    return {
        "state": instance.state,
        "headline": _(headline),
        "detail": _(detail),
        "steps": steps,
        "coming": _coming(steps) if is_being_built else "",
        "is_timed": is_being_built,
        "is_over": is_over,
    }


def seconds_so_far(db: Session, instance: Instance, now: datetime) -> int:
    """How long the assistant has been on its way since its payment; 0 when it is not."""
    operation = operations.latest(db, instance.id, "provision")
    if operation is None or instance.state != State.PROVISIONING:
        return 0
    return max(0, int((now - operation.created_at).total_seconds()))


def _coming(steps: list[dict[str, str]]) -> str:
    """What comes after the step that is under way, in a sentence; empty at the last one."""
    left = [step["label"] for step in steps if step["state"] == "waiting"]
    is_running = any(step["state"] == "running" for step in steps)
    if not is_running:
        return _("It is its turn in a moment.") if left else ""
    return _("Next: %(step)s") % {"step": left[0]} if left else ""


def _is_returning(db: Session, instance: Instance) -> bool:
    """Starting again, or paused for want of a payment that is being made or has just been made."""
    left = reasons(instance)
    if instance.deletion_asked_at is not None or left not in ([], [Reason.PAYMENT]):
        return False
    if not left:  # nothing holds it: it is starting, or is about to
        return True
    checkout, subscription = checkouts.of_instance(db, instance.id), subscriptions.of_instance(db, instance.id)
    is_paid = subscription is not None and subscription.state in ("active", "trialing")
    return is_paid or (checkout is not None and checkout.state == "open")


def _of_return(db: Session, instance: Instance) -> dict[str, Any]:
    operation = operations.latest(db, instance.id, "resume")
    return {
        "state": instance.state,
        "headline": _("Bringing the assistant back"),
        "detail": _("As soon as the payment is confirmed, it starts with everything it knows."),
        "steps": _steps(db, operation if operation and operation.state in ("queued", "running") else None, "resume"),
        "coming": "",
        "is_timed": False,
        "is_over": False,
    }


def of_operation(db: Session, instance: Instance) -> dict[str, Any]:
    """The operation under way, or the newest one once it is over."""
    operation = operations.under_way(db, instance.id) or operations.latest(db, instance.id)
    is_over = operation is None or operation.state not in ("queued", "running")
    kind = operation.kind if operation else "provision"
    return {
        "state": instance.state,
        "headline": words.OPERATIONS.get(kind, kind),
        "detail": (operation.error_message or "") if operation else "",
        "has_failed": operation is not None and operation.state == "failed",
        "steps": _steps(db, operation, kind),
        "is_over": is_over,
    }


def _steps(db: Session, operation: Operation | None, kind: str) -> list[dict[str, str]]:
    if operation is None:
        found = [(name, "waiting") for name in operations.STEPS[kind]]
    else:
        found = [(step.name, step.state) for step in operations.steps(db, operation.id)]
    return [
        {
            "name": name,
            "label": words.STEPS.get(name, name),
            "state": state,
            "word": words.STEP_STATES.get(state, state),
        }
        for name, state in found
    ]
