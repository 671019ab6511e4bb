"""Every assistant on one list, for the operator: whose, its state, what the last look at it saw, where it runs."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from clawhaven.accounts.models import Account, User
from clawhaven.core import cursors
from clawhaven.core.errors import Invalid
from clawhaven.instances.models import Instance, Observed, Port
from clawhaven.instances.states import State

TROUBLE = "trouble"
"""Failed, live and not healthy, or to be deleted and still there."""

FILTERS = ("", TROUBLE, *(str(state) for state in State))


@dataclass(frozen=True, slots=True)
class Ship:
    """One assistant. `seen` is None before the first look; `host` where it has a port there."""

    instance: Instance
    email: str
    seen: Observed | None
    host: str | None
    port: int | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """Assistants, newest first, and the cursor of the next page (None: this was the last)."""

    ships: list[Ship]
    next_cursor: str | None


def list_fleet(db: Session, state: str = "", search: str = "", cursor: str | None = None, limit: int = 50) -> Fleet:
    """Assistants in this state (see FILTERS; empty: all but deleted ones) whose name, id or owner's address holds
    `search`, in one query. Raises Invalid for an unknown state or a bad cursor."""
    if state not in FILTERS:
        raise Invalid(f"A state is {', '.join(filter(None, FILTERS))}.", field="state", reason="unknown")
    query = (
        select(Instance, User.email, Observed, Port.host, Port.port)
        .join(Account, Account.id == Instance.account_id)
        .join(User, User.id == Account.owner_id)
        .outerjoin(Observed, Observed.instance_id == Instance.id)
        .outerjoin(Port, Port.instance_id == Instance.id)
    )
    if state == TROUBLE:
        is_ill = and_(Instance.state == State.ACTIVE, Observed.is_healthy.is_(False))
        is_leaving = and_(Instance.deletion_asked_at.is_not(None), Instance.state != State.DELETED)
        query = query.where(or_(Instance.state == State.FAILED, is_ill, is_leaving))
    else:
        query = query.where(Instance.state == state if state else Instance.state != State.DELETED)
    if word := search.strip().lower():
        holds = [func.lower(Instance.name).contains(word, autoescape=True), Instance.id == word]
        query = query.where(or_(*holds, User.email.contains(word, autoescape=True)))
    if cursor is not None:
        query = query.where(cursors.is_after(cursor, Instance.created_at, Instance.id))
    found = db.execute(query.order_by(Instance.created_at.desc(), Instance.id.desc()).limit(limit + 1)).all()
    ships = [Ship(*row) for row in found[:limit]]
    last = ships[-1].instance if len(found) > limit else None
    return Fleet(ships, cursors.write(last.created_at, last.id) if last is not None else None)


def count_states(db: Session) -> dict[str, int]:
    """State -> how many assistants."""
    query = select(Instance.state, func.count()).group_by(Instance.state)
    return {str(state): int(number) for state, number in db.execute(query)}
