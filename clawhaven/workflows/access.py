"""Who may call models for an instance: the proxy's grant follows plan and lifecycle."""

from __future__ import annotations

from sqlalchemy.orm import Session

from clawhaven.billing.plans import allowance_of
from clawhaven.context import Context
from clawhaven.core.db import lock
from clawhaven.core.ids import new_token
from clawhaven.core.languages import N_
from clawhaven.core.secrets import hash_token
from clawhaven.instances import states
from clawhaven.instances.drafts import PROXY_KEY_PREFIX, PROXY_KEY_PURPOSE
from clawhaven.instances.models import Instance
from clawhaven.ledger import entries
from clawhaven.metering import grants, ownkeys, programs
from clawhaven.metering.grants import GrantTerms
from clawhaven.metering.models import PlanMode

WALLET = "wallet"
INCLUDED = "included"
KEY_REPLACED = N_("It has a new pass for its model. The one before opens nothing any more.")


def hold_account(db: Session, account_id: str) -> None:
    """One at a time past here for an account: whatever moves its money and its assistants in one transaction."""
    lock(db, f"money:{account_id}")


def wallet_of(db: Session, ctx: Context, account_id: str) -> str:
    """The account's prepaid wallet, made when missing; usage never takes it below WALLET_MINIMUM as it is now."""
    floor = ctx.settings.micros("wallet_minimum")
    wallet_id = entries.open_account(db, WALLET, account_id, floor, now=ctx.clock.now())
    entries.set_floor(db, wallet_id, floor)
    return wallet_id


def grant(db: Session, ctx: Context, instance: Instance, proxy_key: str) -> None:
    """Make or update the grant, closed as long as the instance is not active.

    On an own-key plan it carries the customer's key; without one, calls are answered with where to put it.
    """
    plan = ctx.plans.get(instance.plan)
    now = ctx.clock.now()
    mode = PlanMode(plan.access)
    ledger_account_id = None
    if mode == PlanMode.INCLUDED:
        ledger_account_id = entries.open_account(db, INCLUDED, instance.account_id, None, now=now)
    elif mode == PlanMode.METERED:
        ledger_account_id = wallet_of(db, ctx, instance.account_id)
    own_key = ownkeys.find(db, instance.id) if mode == PlanMode.OWN_KEY else None
    terms = GrantTerms(
        instance_id=instance.id,
        account_id=instance.account_id,
        key_hash=hash_token(proxy_key),
        plan_mode=mode,
        ledger_account_id=ledger_account_id,
        messages_per_hour=plan.messages_per_hour or None,
        tokens_per_day=plan.tokens_per_day or None,
        max_in_flight=plan.max_in_flight or None,
        markup_percent=plan.markup_percent or ctx.settings.model_markup_percent,
        automatic_per_day_micros=allowance_of(plan),
        own_key_upstream=own_key.upstream if own_key else None,
        own_key_sealed=own_key.sealed if own_key else None,
    )
    grants.put_grant(db, terms, now=now)


def replace_key(db: Session, ctx: Context, instance: Instance) -> None:
    """A new key, sealed in the row; what runs goes on with the one before. Nothing while that is so: no gateway has
    been started with the newer one yet, so nobody can have seen it. Raises NotFound without a grant."""
    if is_key_replaced(db, instance.id):
        return
    secret = new_token(PROXY_KEY_PREFIX)
    instance.proxy_key = ctx.keys.seal(secret, PROXY_KEY_PURPOSE)
    db.flush()
    grants.replace_key(db, instance.id, hash_token(secret), now=ctx.clock.now())


def is_key_replaced(db: Session, instance_id: str) -> bool:
    """True while the key before the present one is accepted too."""
    found = grants.grant_of(db, instance_id)
    return found is not None and found.replaced_key_hash is not None


def end_replaced_key(db: Session, ctx: Context, instance_id: str) -> None:
    """Nothing runs with the key before any more: from now on it opens nothing. Once is enough."""
    if not is_key_replaced(db, instance_id):
        return
    now = ctx.clock.now()
    grants.drop_replaced_key(db, instance_id, now=now)
    states.note(db, instance_id, now, "key_replaced", KEY_REPLACED)


def open_access(db: Session, ctx: Context, instance_id: str) -> None:
    """From now on its calls are served."""
    grants.activate(db, instance_id, now=ctx.clock.now())


def close_access(db: Session, ctx: Context, instance_id: str) -> None:
    """From now on its calls are refused; unknown is success."""
    if grants.grant_of(db, instance_id) is not None:
        grants.deactivate(db, instance_id, now=ctx.clock.now())


def revoke(db: Session, instance_id: str) -> None:
    """Forget the key for good, the customer's own, and those of the customer's programs."""
    grants.revoke(db, instance_id)
    programs.forget(db, instance_id)
    ownkeys.remove(db, instance_id)
