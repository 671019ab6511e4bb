"""What was made under an address before its owner proved it: shown to them, and kept or discarded as they say.

Whoever typed the address at sign-up may have been somebody else. Their sessions, keys and bots end with the first
mailed link (sign_in.py); their words would stay, and an assistant that obeys a stranger's words is not its owner's.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from clawhaven.accounts.models import User
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.instances import drafts
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.workflows import configuration, lifecycle, skills


@dataclass(frozen=True, slots=True)
class Made:
    """One assistant that was there before. `is_paid`: it lives, or is about to; else it waits for its payment."""

    instance_id: str
    name: str
    instructions: str
    is_paid: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """`begun`: name and instructions of the order that was not sent yet; None: there is none."""

    begun: tuple[str, str] | None
    assistants: tuple[Made, ...]


def mark(db: Session, ctx: Context, user_id: str, account_id: str) -> None:
    """The address is proved by somebody who is not known to have made what is there; nothing there is nothing to do."""
    if _look(db, account_id) is not None:
        db.execute(update(User).where(User.id == user_id).values(review_asked_at=ctx.clock.now()))


def find(db: Session, owner: Owner) -> Prepared | None:
    """What waits for its owner's word; None: nothing."""
    return _look(db, owner.account.id) if owner.user.review_asked_at is not None else None


def keep(db: Session, ctx: Context, owner: Owner, actor: str) -> None:
    """All of it is the owner's. Once more is success."""
    _settle(db, ctx, owner, actor, "kept")


def discard(ctx: Context, owner: Owner, actor: str) -> None:
    """None of it is to stay: what was begun or waits for its payment goes, and an assistant that is paid for begins
    anew with the files and skills of a new one and without instructions; what its files said stays in their history.

    No transaction may be open. Nothing waits: nothing happens. Raises RateLimited, and asks again then.
    """
    with ctx.db.tx() as db:
        found = find(db, owner)
        for one in found.assistants if found is not None else ():
            row = lifecycle.locked(db, one.instance_id)
            if row.state == State.DELETED or row.deletion_asked_at is not None:
                continue
            if row.state == State.PENDING and row.paid_at is None:
                lifecycle.ask_delete(db, ctx, row.id, actor)
            else:
                configuration.begin_anew(db, ctx, row.id, actor)
                skills.reset(db, ctx, row.id, actor)
        if found is not None:
            drafts.drop(db, owner.account.id)
        _settle(db, ctx, owner, actor, "discarded")


def _look(db: Session, account_id: str) -> Prepared | None:
    begun = drafts.find_open(db, account_id)
    alive = (Instance.account_id == account_id, Instance.state != State.DELETED, Instance.deletion_asked_at.is_(None))
    rows = db.scalars(select(Instance).where(*alive).order_by(Instance.created_at, Instance.id)).all()
    if begun is not None and not begun.name and not begun.instructions:
        begun = None  # a plan was looked at, and no word written
    if begun is None and not rows:
        return None
    made = tuple(Made(row.id, row.name, row.instructions, row.paid_at is not None) for row in rows)
    return Prepared((begun.name, begun.instructions) if begun is not None else None, made)


def _settle(db: Session, ctx: Context, owner: Owner, actor: str, word: str) -> None:
    open_one = (User.id == owner.user.id, User.review_asked_at.is_not(None))
    if db.execute(update(User).where(*open_one).values(review_asked_at=None).returning(User.id)).first() is not None:
        audit.record(db, ctx.clock.now(), actor, f"account.prepared_{word}", owner.account.id, owner.account.id)
