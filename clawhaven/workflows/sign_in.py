"""Mailing a sign-in link: the same limits behind every door."""

from __future__ import annotations

from sqlalchemy.orm import Session

from clawhaven.accounts import links, signup
from clawhaven.context import Context
from clawhaven.core import ratelimit
from clawhaven.core.errors import RateLimited
from clawhaven.core.secrets import hash_token
from clawhaven.notices import kinds
from clawhaven.workflows import letters

MAILS_PER_HOUR = 10
"""Sign-in mails to one person; beyond it nothing is sent, and nobody is told."""


def mail_link(db: Session, ctx: Context, email: str) -> bool:
    """Mail a link to a normalised address. False: no such account, or enough mails; the answer must not differ."""
    owner = signup.find_owner(db, email)
    if owner is None:
        return False
    now = ctx.clock.now()
    try:
        ratelimit.hit(db, f"sign-in-mail:{owner.user.id}", MAILS_PER_HOUR, 3600, now)
    except RateLimited:
        return False
    token = links.issue(db, owner.user.id, now)
    letter = kinds.sign_in(ctx.settings.brand_name, f"{ctx.settings.base_url}/sign-in/{token}")
    letters.post(db, ctx, f"sign_in:{hash_token(token)[:32]}", letter, owner.account.id)
    return True
