"""Who a customer is at the payment vendors: a new address reaches them, and the end of an account takes it out there.

What a vendor cannot do (Capability.CUSTOMERS) stays as it is: docs/howto/look-after-customers.md says what is left.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from clawhaven.accounts import signup
from clawhaven.billing import customers
from clawhaven.context import Context
from clawhaven.core.ids import new_id
from clawhaven.core.logs import get_logger
from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Capability, Payments
from clawhaven.workflows import engine, letters
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

log = get_logger("clawhaven.customers")

WAITS = (10, 60, 300, 900, 3600)
"""Seconds between tries to tell a vendor that is away; the last one again and again."""

MOST_TRIES = 100
"""After about four days the operator is told instead."""


def ask_move(db: Session, ctx: Context, account_id: str) -> None:
    """The account's address is another: have the vendors know it, from this transaction on. One account's moves are
    made one after the other, each with the address of that moment, so the last one wins."""
    if customers.all_of(db, account_id):
        _enqueue(db, ctx, account_id, new_id("mov"), 0)


def _enqueue(db: Session, ctx: Context, account_id: str, name: str, tries: int) -> None:
    wait = WAITS[min(tries, len(WAITS)) - 1] if tries else None
    enqueue(
        db,
        ctx,
        "move_customer",
        f"move_customer:{account_id}:{name}:{tries}",
        *(account_id, name, tries),
        queue=engine.ACCOUNTS,
        partition=account_id,
        after_seconds=wait,
    )


@workflow("move_customer")
def move_customer(account_id: str, name: str, tries: int) -> str:
    """Tell every vendor. One that does not answer is asked again, later; one that refuses is told to the operator."""
    try:
        tell_vendors(account_id)
    except StepFailed as failure:
        if failure.is_away and tries < MOST_TRIES:
            try_later(account_id, name, tries + 1)
            return "waiting"
        tell_operator(account_id, name, failure.message)
        return failure.code
    return "told"


@step("tell_vendors", attempts=1)
def tell_vendors(account_id: str) -> None:
    """The address of this moment; once more is the same. A deleted account's is nobody's business."""
    ctx = engine.context()
    with ctx.db.read() as db:
        owner, known = signup.owner_of(db, account_id), customers.all_of(db, account_id)
    if owner.account.deleted_at is None:
        for provider, reference in _able(ctx, known):
            provider.move_customer(reference, owner.user.email)


@step("try_later")
def try_later(account_id: str, name: str, tries: int) -> None:
    """Ask for the next try, some time from now."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        _enqueue(db, ctx, account_id, name, tries)


@step("tell_of_address")
def tell_operator(account_id: str, name: str, why: str) -> None:
    """The operator hears, once, that a vendor still has the former address."""
    ctx = engine.context()
    text = (
        f"The account {account_id} has a new address, and a payment vendor did not take it:\n\n{why}\n\nReceipts go to"
        " the former one until it is changed there by hand.\n\n"
        f"{ctx.settings.base_url}/admin/accounts/{account_id}\n"
    )
    letter = kinds.alert(f"A new address did not reach the payment vendor: {account_id}", text)
    with ctx.db.tx() as db:
        letters.post_to(db, ctx, f"customer-address:{name}", letter, ctx.settings.support_address)


def remove(ctx: Context, account_id: str) -> None:
    """Take the customer out at every vendor, once everything of theirs is settled; once more is success. No transaction
    may be open. Raises ProviderError for a vendor that does not answer; of one that refuses the operator is told."""
    with ctx.db.read() as db:
        known = customers.all_of(db, account_id)
    for provider, reference in _able(ctx, known):
        try:
            provider.remove_customer(reference)
        except ProviderError as error:
            if not error.permanent:
                raise
            log.warning("a customer could not be removed", provider=provider.name, code=error.code)
            text = (
                f"The account {account_id} is deleted, and {provider.name} refuses to delete its customer {reference}:"
                f"\n\n{error.message}\n\nPlease do it on its own site: name and address are there still.\n"
            )
            letter = kinds.alert(f"A customer is still at {provider.name}: {account_id}", text)
            with ctx.db.tx() as db:
                key = f"customer-left:{account_id}:{provider.name}"
                letters.post_to(db, ctx, key, letter, ctx.settings.support_address)


def _able(ctx: Context, known: dict[str, str]) -> list[tuple[Payments, str]]:
    """Vendors that can, with the customer's reference; one that is switched off cannot be asked."""
    asked = ((ctx.payments.get(name), reference) for name, reference in known.items())
    return [
        (provider, reference)
        for provider, reference in asked
        if provider is not None and Capability.CUSTOMERS in provider.capabilities
    ]
