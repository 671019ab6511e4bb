"""Seeing what a customer sees: an operator's browser shows an account's pages for a while, and can change nothing.

Begin and end are in the audit log, with the account's own lines, so that its owner can read them too.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from clawhaven.accounts import directory
from clawhaven.accounts.models import AccountView, LoginSession
from clawhaven.accounts.signup import Owner
from clawhaven.core import audit
from clawhaven.core.errors import Conflict, Unauthorized
from clawhaven.core.ids import new_id
from clawhaven.core.secrets import hash_token

LIFE = timedelta(minutes=30)


def begin(db: Session, operator: Owner, token: str, account_id: str, now: datetime) -> AccountView:
    """Look at an account's pages in the browser with this cookie; what it looked at before ends.

    Raises NotFound for an unknown account, Conflict for one that is deleted or the operator's own, Unauthorized for a
    cookie that is not theirs.
    """
    viewed = directory.get(db, account_id)
    if viewed.account.deleted_at is not None or viewed.account.id == operator.account.id:
        raise Conflict("There is nothing to look at: the account is your own, or it is deleted.", code="illegal_move")
    session_id = db.scalar(
        select(LoginSession.id).where(
            LoginSession.token_hash == hash_token(token), LoginSession.user_id == operator.user.id
        )
    )
    if session_id is None:
        raise Unauthorized("Please sign in to go on.")
    end(db, session_id, now, "another one began")
    view = AccountView(
        id=new_id("view"),
        session_id=session_id,
        operator_id=operator.user.id,
        account_id=account_id,
        began_at=now,
        until_at=now + LIFE,
    )
    db.add(view)
    actor = f"user:{operator.user.id}"
    audit.record(db, now, actor, "account.view_begin", view.id, account_id, until=view.until_at.isoformat())
    return view


def end(db: Session, session_id: str, now: datetime, why: str = "ended by the operator") -> bool:
    """End what this session looks at. True when there was something."""
    return _end(db, now, why, AccountView.session_id == session_id) > 0


def end_all(db: Session, account_id: str, user_id: str, now: datetime) -> int:
    """End every look at this account, and every look of this user; returns how many."""
    is_theirs = or_(AccountView.account_id == account_id, AccountView.operator_id == user_id)
    return _end(db, now, "the account was deleted", is_theirs)


def sweep(db: Session, now: datetime) -> int:
    """End views whose time is over, or whose session is; returns how many."""
    sessions = select(LoginSession.id).where(LoginSession.expires_at > now)
    over = _end(db, now, "its time was over", AccountView.until_at <= now)
    return over + _end(db, now, "the operator signed out", AccountView.session_id.not_in(sessions))


def _end(db: Session, now: datetime, why: str, which: object) -> int:
    ended = db.execute(
        update(AccountView)
        .where(AccountView.ended_at.is_(None), which)  # type: ignore[arg-type]
        .values(ended_at=now)
        .returning(AccountView.id, AccountView.operator_id, AccountView.account_id)
    ).all()
    for view_id, operator_id, account_id in ended:
        audit.record(db, now, f"user:{operator_id}", "account.view_end", view_id, account_id, why=why)
    return len(ended)
