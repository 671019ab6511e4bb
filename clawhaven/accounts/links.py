"""One-time sign-in links sent by mail: 15 minutes, one use, only the hash stored."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import update
from sqlalchemy.orm import Session

from clawhaven.accounts.models import SignInLink
from clawhaven.core.errors import Unauthorized
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.secrets import hash_token

LIFE = timedelta(minutes=15)


def issue(db: Session, user_id: str, now: datetime) -> str:
    """A fresh token for this user's link."""
    token = new_token()
    db.add(
        SignInLink(
            id=new_id("lnk"), token_hash=hash_token(token), user_id=user_id, created_at=now, expires_at=now + LIFE
        )
    )
    return token


def redeem(db: Session, token: str, now: datetime) -> str:
    """Use the link up; returns the user's id. Raises Unauthorized when used, expired or unknown."""
    user_id = db.execute(
        update(SignInLink)
        .where(SignInLink.token_hash == hash_token(token), SignInLink.used_at.is_(None), SignInLink.expires_at > now)
        .values(used_at=now)
        .returning(SignInLink.user_id)
    ).scalar_one_or_none()
    if user_id is None:
        raise Unauthorized("This sign-in link was used already or has expired. Ask for a new one.")
    return user_id
