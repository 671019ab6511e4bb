"""A new address for an account: the letters that go with it, the same behind every door."""

from __future__ import annotations

from sqlalchemy.orm import Session

from clawhaven.accounts import addresses, signup
from clawhaven.accounts.addresses import Moved
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core import ratelimit
from clawhaven.core.secrets import hash_token
from clawhaven.notices import accounts as words
from clawhaven.workflows import customers, letters

ASKS_PER_HOUR = 5


def ask_change(db: Session, ctx: Context, owner: Owner, raw_email: str) -> str:
    """Mail the link that proves a new address, and tell the present one; returns the normalised new address.

    An address that has an account gets a letter that says so instead; all else is the same, so nobody learns who is
    here. Raises Invalid, Forbidden (own address never proved), RateLimited.
    """
    now, settings = ctx.clock.now(), ctx.settings
    email = signup.normalise_email(raw_email.strip()[:400])
    ratelimit.hit(db, f"email-change:{owner.user.id}", ASKS_PER_HOUR, 3600, now)
    asked = addresses.ask(db, owner, email, now)
    name = hash_token(asked.token)[:32]
    if asked.is_taken:
        key = f"email-taken:{owner.user.id}:{int(now.timestamp() // 3600)}:{email}"
        letters.post_to(db, ctx, key, words.address_taken(settings.brand_name, f"{settings.base_url}/sign-in"), email)
    else:
        link = words.prove_address(settings.brand_name, f"{settings.base_url}/settings/email/{asked.token}")
        spoken = owner.user.language
        letters.post_to(db, ctx, f"email-prove:{name}", link, email, owner.account.id, language=spoken)
    told = words.address_asked(settings.brand_name, settings.support_address)
    letters.post(db, ctx, f"email-asked:{name}", told, owner.account.id)
    return email


def prove(db: Session, ctx: Context, token: str) -> Moved:
    """Use the link up, tell the former address, and have the payment vendors know the new one.

    Raises Unauthorized, Conflict.
    """
    moved = addresses.prove(db, token, ctx.clock.now())
    told = words.address_changed(ctx.settings.brand_name, ctx.settings.support_address)
    key, spoken = f"email-changed:{hash_token(token)[:32]}", moved.owner.user.language
    letters.post_to(db, ctx, key, told, moved.before, moved.owner.account.id, language=spoken)
    customers.ask_move(db, ctx, moved.owner.account.id)
    return moved
