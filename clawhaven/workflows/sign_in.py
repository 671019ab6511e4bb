"""Signing in by a mailed link: the same limits behind every door, and what the first link settles."""

from __future__ import annotations

import contextlib

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.accounts import links, sessions, signup
from clawhaven.accounts.models import Account, User
from clawhaven.context import Context
from clawhaven.core import audit, ratelimit
from clawhaven.core.errors import RateLimited
from clawhaven.core.languages import current
from clawhaven.core.secrets import hash_token
from clawhaven.instances import connections, drafts, skillset
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.integrations import connected
from clawhaven.notices import kinds
from clawhaven.workflows import integrations, letters, lifecycle, ownkey, prepared

MAILS_PER_HOUR = 10
"""Sign-in mails to one person; beyond it nothing is sent, and nobody is told."""


def mail_link(db: Session, ctx: Context, email: str) -> bool:
    """Mail a link to a normalised address, in its owner's language, else in the one that is spoken now.

    False: no such account, or enough mails; the answer must not differ.
    """
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
    key, spoken = f"sign_in:{hash_token(token)[:32]}", owner.user.language or current()
    letters.post_to(db, ctx, key, letter, owner.user.email, owner.account.id, language=spoken)
    return True


def use_link(db: Session, ctx: Context, token: str, *, user_agent: str = "", replaces: str = "") -> str:
    """Use a mailed link up; returns the cookie's value of a new session. Raises Unauthorized.

    `replaces` is the session in the cookie so far. The first link proves the address. Whoever typed it at sign-up may
    have been somebody else, so what they connected is cut off (see `_cut_off`), and what they wrote is shown to the
    owner, who keeps or discards it (prepared.py). Only a browser that is signed in to this
    very account, and that opens the link too, is the same person's, and keeps its bots.
    """
    now, days = ctx.clock.now(), ctx.settings.session_days
    user_id = links.redeem(db, token, now)
    is_first = db.get_one(User, user_id).verified_at is None
    before = sessions.find_session(db, replaces, now) if replaces else None
    session = links.enter(db, user_id, now, days=days, user_agent=user_agent, replaces=replaces)
    if is_first and (before is None or before.user.id != user_id):
        _cut_off(db, ctx, user_id)
    return session


def _cut_off(db: Session, ctx: Context, user_id: str) -> None:
    """Disconnect every bot that was connected before the address was proven, and say so to its owner, once.

    A bot's maker reads along with whoever holds its token: an assistant that the true owner pays for must not answer
    through a stranger's.
    """
    account = db.scalars(select(Account).where(Account.owner_id == user_id)).one()
    prepared.mark(db, ctx, user_id, account.id)
    mine = select(Instance).where(Instance.account_id == account.id, Instance.state != State.DELETED)
    by = f"user:{user_id}"
    # A stranger's mail would be read to the owner's assistant, and could tell it what to do.
    bots = [f"the account of {one.vendor}" for one in connected.list_of(db, account.id)]
    integrations.forget_account(db, ctx, account.id, by)
    for instance in db.scalars(mine.order_by(Instance.id)).all():
        lifecycle.locked(db, instance.id)
        gone = connections.list_connections(db, instance.id)
        for one in gone:
            why = {"channel": one.channel, "why": "connected before the address was proven"}
            audit.record(db, ctx.clock.now(), by, "channel.disconnect", one.id, account.id, **why)
            connections.disconnect(db, instance.id, one.channel)
        db.flush()
        if gone and instance.deletion_asked_at is None:
            # What waits for this assistant already brings it up to date, too.
            with contextlib.suppress(RateLimited):
                lifecycle.ask_configure(db, ctx, instance.id, by, [one.channel for one in gone])
        bots += [f"@{one.bot_username} ({instance.name})" for one in gone]
        # A vendor shows a key's owner what was asked with it: a stranger's would read along as a bot's maker does.
        if ownkey.remove(db, ctx, instance.id, by):
            bots.append(f"the model key of {instance.name}")
        if skillset.forget_keys(db, [instance.id], ctx.clock.now()):
            bots.append(f"the keys of skills of {instance.name}")
            if not gone and instance.deletion_asked_at is None:
                with contextlib.suppress(RateLimited):
                    lifecycle.ask_configure(db, ctx, instance.id, by, ["skills"])
    bots += [f"{one} of the draft" for one in drafts.drop_secrets(db, account.id, ctx.clock.now())]
    if bots:
        letter = kinds.bots_cut_off(ctx.settings.brand_name, bots, f"{ctx.settings.base_url}/dashboard")
        letters.post(db, ctx, f"bots-cut-off:{user_id}", letter, account.id)
