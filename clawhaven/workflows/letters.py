"""Notices: written with the change they tell of, delivered by a workflow of their own."""

from __future__ import annotations

from sqlalchemy.orm import Session

from clawhaven.accounts import signup
from clawhaven.context import Context
from clawhaven.core.languages import speaking
from clawhaven.notices import outbox
from clawhaven.notices.kinds import Letter
from clawhaven.workflows import engine
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow


def post(db: Session, ctx: Context, key: str, letter: Letter, account_id: str) -> None:
    """Write a letter to an account's owner, in their language, and ask for its delivery; in the caller's transaction.

    Nobody writes to the owner of a deleted account; its last letter is deletion.py's.
    """
    owner = signup.owner_of(db, account_id)
    if owner.user.deleted_at is not None:
        return
    post_to(db, ctx, key, letter, owner.user.email, account_id, language=owner.user.language)


def post_to(
    db: Session,
    ctx: Context,
    key: str,
    letter: Letter,
    recipient: str,
    account_id: str | None = None,
    *,
    language: str | None = None,
) -> None:
    """The same for an address without an account; without a language in English, as the operator is written to."""
    with speaking(language):
        notice_id = outbox.write(db, key, letter, recipient, ctx.keys, ctx.clock.now(), account_id)
    if notice_id is not None:
        enqueue(db, ctx, "deliver", f"deliver:{notice_id}", notice_id, queue=engine.NOTICES)


@workflow("deliver")
def deliver(notice_id: str) -> str:
    """Send one notice; a network that says no for good is recorded, never looped."""
    try:
        send(notice_id)
    except StepFailed as failure:
        give_up(notice_id, f"{failure.code}: {failure.message}")
        return "failed"
    return "sent"


@step("send", attempts=6, wait_seconds=2)
def send(notice_id: str) -> None:
    """Hand it to the notifier. A crash right after may send a second copy with the same Message-ID."""
    ctx = engine.context()
    with ctx.db.read() as db:
        message = outbox.message(db, notice_id, ctx.keys)
    if message is None:
        return
    ctx.notifier.send(message)
    with ctx.db.tx() as db:
        outbox.mark_sent(db, notice_id, ctx.clock.now())


@step("give_up")
def give_up(notice_id: str, error: str) -> None:
    """Record why it could not be delivered."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        outbox.mark_failed(db, notice_id, error)
