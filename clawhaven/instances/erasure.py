"""What deleted assistants leave behind: rows under their ids, for the books, with nothing of the customer's in them."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from clawhaven.instances import drafts, skillset
from clawhaven.instances.models import Instance, InstanceEvent, Observed, Operation, WorkspaceVersion
from clawhaven.instances.states import State


def alive_of(db: Session, account_id: str) -> list[str]:
    """An account's assistants that are not deleted yet, oldest first."""
    mine = select(Instance.id).where(Instance.account_id == account_id, Instance.state != State.DELETED)
    return list(db.scalars(mine.order_by(Instance.created_at, Instance.id)))


def erase(db: Session, account_id: str) -> list[str]:
    """Take names, texts and keys out of an account's deleted assistants and of their history; returns their ids.

    What it had chosen and not ordered goes whole. What was wrong with one that could not be started may name the
    customer's bot, so it goes too.
    """
    drafts.drop(db, account_id)
    gone = select(Instance.id).where(Instance.account_id == account_id, Instance.state == State.DELETED)
    ids = list(db.scalars(gone.order_by(Instance.id)))
    nothing = {"name": "", "persona": "", "instructions": "", "placement": None, "failure_message": None}
    for instance_id in ids:
        slug = instance_id.replace("_", "-")
        values = {**nothing, "slug": slug, "gateway_token": "", "proxy_key": ""}
        db.execute(update(Instance).where(Instance.id == instance_id).values(values))
        db.execute(update(InstanceEvent).where(InstanceEvent.instance_id == instance_id).values(message=""))
        db.execute(update(Operation).where(Operation.instance_id == instance_id).values(error_message=None))
        db.execute(delete(Observed).where(Observed.instance_id == instance_id))
        db.execute(delete(WorkspaceVersion).where(WorkspaceVersion.instance_id == instance_id))
    skillset.drop(db, ids)
    return ids
