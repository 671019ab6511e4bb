"""Deleting an account: closed with the wish, then agreements end, assistants go, the owner's data is erased.

The books stay, under ids alone; money that was left is in them, and the last letter says how to have it back.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.accounts import erasure, farewells, links, signup
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, subscriptions
from clawhaven.billing import erasure as agreements
from clawhaven.context import Context
from clawhaven.core import audit, idempotency, ratelimit
from clawhaven.core.errors import Invalid
from clawhaven.core.languages import speaking
from clawhaven.core.money import format_usd
from clawhaven.core.secrets import hash_token
from clawhaven.instances import drafts
from clawhaven.instances import erasure as assistants
from clawhaven.metering import spending
from clawhaven.notices import accounts as words
from clawhaven.notices import erasure as correspondence
from clawhaven.notices import kinds
from clawhaven.ports.notifier import Message
from clawhaven.workflows import access, customers, engine, foreign, integrations, letters, lifecycle, settlement
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

ASKS_PER_HOUR = 5

WAITS = (2, 5, 10, 30, 60, 120, 300, 300, 900)
"""Seconds between looks at what is not gone yet; the last one again and again. Nothing is held meanwhile."""

TOLD_AFTER = 8
"""The operator hears of a deletion that has not come through after so many looks: about a quarter of an hour."""

STRAGGLERS = timedelta(days=2)
"""So long after the end, vendors' events about the account are looked for and emptied."""


def left_micros(db: Session, account_id: str) -> int:
    """What is left of an account's prepaid balance, what is set aside included; never negative."""
    wallet_id = ledger.account_of(db, access.WALLET, account_id)
    return max(0, ledger.balance(db, wallet_id).balance_micros) if wallet_id else 0


def ask(
    db: Session, ctx: Context, owner: Owner, confirmation: str, actor: str, session_at: datetime | None = None
) -> bool:
    """Delete the account, or mail the link that confirms it. True: it is closed; False: the link was mailed.

    `confirmation` is the account's address, typed; `session_at` is when the session was opened, None for an API key.
    One that a mailed link has opened lately is proof enough (farewells.is_proof). Raises Invalid for another address,
    Conflict when it is closed already, RateLimited.
    """
    user, now = owner.user, ctx.clock.now()
    if confirmation.strip().lower() != user.email:
        raise Invalid("Type the address of your account to delete it.", field="confirm", reason="not the address")
    if farewells.is_proof(owner, session_at, now):
        begin(db, ctx, owner, actor)
        return True
    ratelimit.hit(db, f"account-delete:{user.id}", ASKS_PER_HOUR, 3600, now)
    token, settings = farewells.issue(db, user.id, now), ctx.settings
    letter = words.confirm_deletion(
        settings.brand_name, f"{settings.base_url}/settings/delete/{token}", settings.support_address
    )
    letters.post(db, ctx, f"deletion-confirm:{hash_token(token)[:32]}", letter, owner.account.id)
    audit.record(db, now, actor, "account.delete_ask", owner.account.id, owner.account.id)
    return False


def confirm(db: Session, ctx: Context, token: str) -> Owner:
    """Use the mailed link up: the account is closed. It proves the address, as a sign-in link does. Raises
    Unauthorized."""
    owner = farewells.redeem(db, token, ctx.clock.now())
    links.verify(db, owner.user.id, ctx.clock.now())
    begin(db, ctx, owner, f"user:{owner.user.id}")
    return owner


def take_back(db: Session, ctx: Context, owner: Owner, actor: str) -> None:
    """Forget the mailed link, because its owner says so; none is success."""
    farewells.forget(db, owner.user.id)
    audit.record(db, ctx.clock.now(), actor, "account.delete_take_back", owner.account.id, owner.account.id)


def begin(db: Session, ctx: Context, owner: Owner, actor: str) -> None:
    """Close the account: from this transaction on nobody can sign in to it, and its address is free.

    Raises Conflict when it is closed already. Neither an open dispute nor money set aside keeps an account: both are in
    the ledger, and are settled there without it.
    """
    account_id, now = owner.account.id, ctx.clock.now()
    access.hold_account(db, account_id)
    letter = words.deletion_begun(ctx.settings.brand_name, ctx.settings.support_address)
    letters.post(db, ctx, f"account-deletion:{account_id}", letter, account_id)
    for instance_id in assistants.alive_of(db, account_id):
        lifecycle.ask_delete(db, ctx, instance_id, actor)
    agreements.close(db, account_id, now)
    drafts.drop(db, account_id)
    integrations.forget_account(db, ctx, account_id, actor)
    erasure.close(db, account_id, ctx.keys, now, actor)
    _enqueue(db, ctx, account_id)


def go_on(db: Session, ctx: Context, account_id: str) -> None:
    """Ask for the work again, of a deletion that nobody does any more."""
    _enqueue(db, ctx, account_id, f"again-{int(ctx.clock.now().timestamp())}")


def _enqueue(
    db: Session, ctx: Context, account_id: str, row: str = "", look: int = 0, wait: float | None = None
) -> None:
    enqueue(
        db,
        ctx,
        "delete_account",
        ":".join(part for part in ("delete_account", account_id, row, str(look or "")) if part),
        account_id,
        look,
        row,
        queue=engine.ACCOUNTS,
        partition=account_id,
        after_seconds=wait,
    )


@workflow("delete_account")
def delete_account(account_id: str, look: int = 0, row: str = "") -> str:
    """One look. Until everything is gone, however long a vendor or a gateway does not answer, another one is asked for,
    later: those that wait keep nobody's place. Then the last letter. `row`: which row of looks this one is in."""
    try:
        is_gone = end_agreements(account_id) and see_assistants_gone(account_id) and remove_customers(account_id)
    except StepFailed:
        is_gone = False
    if not is_gone:
        if look == TOLD_AFTER:
            tell_operator(account_id)
        look_again(account_id, look + 1, row)
        return "waiting"
    with contextlib.suppress(StepFailed):
        say_goodbye(account_id)
    erase(account_id)
    return "deleted"


@step("look_again")
def look_again(account_id: str, look: int, row: str) -> None:
    """Ask for the next look, some time from now."""
    ctx = engine.context()
    wait = WAITS[min(look, len(WAITS)) - 1]
    with ctx.db.tx() as db:
        _enqueue(db, ctx, account_id, row, look, wait)


@step("end_agreements", attempts=1)
def end_agreements(account_id: str) -> bool:
    """End every agreement at its vendor, and take over what the vendor then says. True when none is left."""
    ctx = engine.context()
    with ctx.db.read() as db:
        running = [row for row in subscriptions.of_account(db, account_id) if row.state != "canceled"]
    for row in running:
        is_known = lifecycle.end_agreement(ctx, row)
        with ctx.db.read() as db:
            checkout = checkouts.get(db, row.checkout_id)
        if is_known and checkout.reference is not None:
            asked_at = ctx.clock.now()
            seen = ctx.payment(row.provider).fetch(checkout.reference)
            with ctx.db.tx() as db:
                settlement.equalise(db, ctx, checkouts.get(db, checkout.id), seen, asked_at)
            foreign.give_back(ctx, checkout, seen)
    with ctx.db.read() as db:
        return all(row.state == "canceled" for row in subscriptions.of_account(db, account_id))


@step("see_assistants_gone")
def see_assistants_gone(account_id: str) -> bool:
    """True when every assistant is deleted, and vendors have forgotten what assistants could read there. The reconciler
    asks again for one whose deletion failed; one that was made in the moment of the wish is asked for here."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        alive = [lifecycle.locked(db, one) for one in assistants.alive_of(db, account_id)]
        for instance in alive:
            if instance.deletion_asked_at is None:
                lifecycle.ask_delete(db, ctx, instance.id, "workflow:delete_account")
        return not alive and not integrations.is_revoking(db, account_id)


@step("remove_customers", attempts=1)
def remove_customers(account_id: str) -> bool:
    """Take the owner out at the payment vendors, too; their books keep payments and invoices, as ours do."""
    customers.remove(engine.context(), account_id)
    return True


@step("tell_operator")
def tell_operator(account_id: str) -> None:
    """The operator hears, once, that a deletion does not come through."""
    ctx = engine.context()
    url = f"{ctx.settings.base_url}/admin/accounts/{account_id}"
    text = (
        f"The account {account_id} was deleted by its owner, and something of it is still there: an agreement that"
        " its vendor does not end, or an assistant that cannot be removed. It is tried again every quarter of an hour."
        f"\n\n{url}\n"
    )
    letter = kinds.alert(f"An account cannot be deleted yet: {account_id}", text)
    with ctx.db.tx() as db:
        letters.post_to(db, ctx, f"deletion-stuck:{account_id}", letter, ctx.settings.support_address)


@step("say_goodbye", attempts=6, wait_seconds=2)
def say_goodbye(account_id: str) -> None:
    """The last letter, sent from here: the outbox forgets this address. A crash right after may send a second copy
    with the same Message-ID."""
    ctx = engine.context()
    with ctx.db.read() as db:
        address = erasure.last_address(db, account_id, ctx.keys)
        left = left_micros(db, account_id)
        language = signup.owner_of(db, account_id).user.language
    if address is None:
        return
    settings = ctx.settings
    rest = format_usd(left) if left else ""
    letter = words.deleted(settings.brand_name, account_id, rest, settings.support_address)
    key = f"goodbye_{account_id}"
    with speaking(language):
        message = Message(key=key, to=address, subject=letter.subject, text=letter.text)
    ctx.notifier.send(message)


@step("erase")
def erase(account_id: str) -> None:
    """In one transaction, everything that names the owner. Once more is success."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        email, before = erasure.last_address(db, account_id, ctx.keys), erasure.theirs_before(db, account_id)
        instance_ids = assistants.erase(db, account_id)
        drafts.drop(db, account_id)
        spending.set_account_limit(db, account_id, None)
        agreements.erase(db, account_id, email, before)
        booked = agreements.booked_ids(db, account_id)
        correspondence.erase(db, ctx.keys, account_id, email, instance_ids, booked, before)
        idempotency.forget(db, account_id)
        if email is not None and before is not None:
            idempotency.forget_address(db, email, before)
        erasure.finish(db, account_id, ctx.clock.now())


@workflow("sweep_deleted")
def sweep_deleted(scheduled_at: datetime, context: Any) -> None:
    """What vendors still say about accounts that are gone."""
    erase_stragglers()


@step("erase_stragglers", attempts=1)
def erase_stragglers() -> int:
    """Empty events that came after the end; returns how many."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        gone = erasure.ended_since(db, ctx.clock.now() - STRAGGLERS)
        return agreements.erase_events(db, gone) if gone else 0
