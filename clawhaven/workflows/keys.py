"""Keys that a customer gives to programs: one for an assistant's models, one for the API; and their end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from clawhaven.accounts import apikeys, operators, signup
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Forbidden, IllegalMove
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.metering import programs
from clawhaven.metering.models import ProgramKey


@dataclass(frozen=True, slots=True)
class Addresses:
    """What the vendors' clients take as their base address."""

    anthropic: str
    openai: str


def addresses(ctx: Context) -> Addresses:
    """The model proxy, as customers' programs reach it."""
    base = ctx.settings.proxy_public_url or f"{ctx.settings.base_url}/proxy"
    return Addresses(base, f"{base}/v1")


def make_program_key(
    db: Session, ctx: Context, owner: Owner, instance: Instance, name: str, actor: str, made_by: str | None = None
) -> tuple[ProgramKey, str]:
    """A key for an assistant's models and its only showing. `made_by`: the API key that asks for it.

    Raises Forbidden for an unproven address, IllegalMove for an assistant that is gone or going, and what
    programs.make raises.
    """
    if owner.user.verified_at is None:
        raise Forbidden(
            "Sign in once with the link that is mailed to you; from then on you can make keys.",
            code="email_not_verified",
        )
    if instance.state == State.DELETED or instance.deletion_asked_at is not None:
        raise IllegalMove("The assistant is being deleted.", state=instance.state)
    if made_by is not None:
        apikeys.hold(db, made_by)
    now = ctx.clock.now()
    key, secret = programs.make(db, instance.id, instance.account_id, name, now, made_by)
    audit.record(db, now, actor, "program_key.make", key.id, instance.account_id, instance=instance.id)
    return key, secret


def revoke_program_key(db: Session, ctx: Context, instance: Instance, key_id: str, actor: str) -> None:
    """End it with its next call. Raises NotFound."""
    programs.revoke(db, instance.id, key_id)
    audit.record(db, ctx.clock.now(), actor, "program_key.revoke", key_id, instance.account_id, instance=instance.id)


def revoke_api_key(db: Session, ctx: Context, account_id: str, key_id: str, actor: str) -> None:
    """End an API key at once, and with it every key that it has made. Raises NotFound."""
    now = ctx.clock.now()
    apikeys.revoke(db, account_id, key_id, now)
    audit.record(db, now, actor, "key.revoke", key_id, account_id)
    _revoke_made(db, account_id, key_id, actor, now)


def dismiss_operator(db: Session, ctx: Context, email: str) -> None:
    """Nobody is an operator by this address any more; their API keys and what those made end too. Raises NotFound."""
    now = ctx.clock.now()
    ended = operators.dismiss(db, email, now)
    owner = signup.find_owner(db, email)
    assert owner is not None
    for key_id in ended:
        _revoke_made(db, owner.account.id, key_id, operators.SERVER, now)


def _revoke_made(db: Session, account_id: str, key_id: str, actor: str, now: datetime) -> None:
    for program_id in programs.revoke_made_by(db, account_id, key_id):
        audit.record(db, now, actor, "program_key.revoke", program_id, account_id, made_by=key_id)
