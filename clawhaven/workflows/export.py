"""Everything an account has here, as one JSON document for its owner: in pieces, each read in a transaction of its own.

No secret is in it: neither tokens, keys nor their hashes, nor what a vendor calls the customer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.accounts import apikeys, devices, sessions
from clawhaven.accounts.models import ApiKey
from clawhaven.accounts.signup import Owner
from clawhaven.billing import credits, subscriptions
from clawhaven.billing.models import Receipt, Refund, Wallet
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Unavailable
from clawhaven.instances import skillset, states
from clawhaven.instances.models import Connection, Instance, InstanceEvent
from clawhaven.integrations import attachments, connected
from clawhaven.metering import programs
from clawhaven.metering.usage import HOUR, hour_of, usage_by
from clawhaven.notices.models import Notice
from clawhaven.workflows import plan as agreements

FORMAT = "clawhaven-account-1"
PAGE = 500

Row = dict[str, Any]
Pages = Iterator[list[Row]]


def export(ctx: Context, owner: Owner) -> Iterator[str]:
    """The document, piece by piece: `{"format": …, "profile": {…}, "assistants": [ … ], …}`. Times are ISO 8601, money
    is in micro-dollars. What a vendor does not tell at the moment is null, and `problems` says so."""
    account_id, problems = owner.account.id, list[str]()
    now = ctx.clock.now()
    yield f'{{\n"format": {json.dumps(FORMAT)},\n"made_at": {json.dumps(now.isoformat())},\n"profile": '
    yield json.dumps(_profile(owner), ensure_ascii=False)
    parts: dict[str, Pages] = {
        "sessions": _whole(ctx, partial(_sessions, owner=owner, now=now)),
        "api_keys": _whole(ctx, partial(_keys, account_id=account_id)),
        "assistants": _assistants(ctx, account_id),
        "integrations": _whole(ctx, partial(_integrations, account_id=account_id)),
        "usage_by_day": _whole(ctx, partial(_usage, owner=owner, now=now)),
        "wallet": _whole(ctx, partial(_wallet, account_id=account_id)),
        "ledger": _ledger(ctx, account_id),
        "subscriptions": _whole(ctx, partial(_subscriptions, account_id=account_id)),
        "payments": _whole(ctx, partial(_payments, account_id=account_id)),
        "refunds": _whole(ctx, partial(_refunds, account_id=account_id)),
        "credits": _whole(ctx, partial(_credits, account_id=account_id)),
        "invoices": _invoices(ctx, account_id, problems),
        "letters": _letters(ctx, account_id),
        "history": _history(ctx, owner),
    }
    for name, pages in parts.items():
        yield f',\n"{name}": ['
        is_first = True
        for page in pages:
            for row in page:
                yield ("\n" if is_first else ",\n") + json.dumps(row, ensure_ascii=False, default=_plain)
                is_first = False
        yield "]"
    yield f',\n"problems": {json.dumps(problems, ensure_ascii=False)}\n}}\n'


def _whole(ctx: Context, read: Callable[[Session], list[Row]]) -> Pages:
    with ctx.db.read() as db:
        found = read(db)
    yield found


def _plain(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()


def _profile(owner: Owner) -> Row:
    user, account = owner.user, owner.account
    return {
        "user_id": user.id,
        "account_id": account.id,
        "email": user.email,
        "is_email_proved": user.verified_at is not None,
        "slug": account.slug,
        "created_at": account.created_at.isoformat(),
    }


def _sessions(db: Session, owner: Owner, now: datetime) -> list[Row]:
    return [
        {
            "device": devices.name_device(one.user_agent),
            "user_agent": one.user_agent,
            "created_at": one.created_at,
            "last_used_at": one.seen_at or one.created_at,
            "expires_at": one.expires_at,
        }
        for one in sessions.list_sessions(db, owner.user.id, now)
    ]


def _keys(db: Session, account_id: str) -> list[Row]:
    return [
        {
            "name": one.name,
            "begins_with": one.prefix,
            "scopes": one.scopes.split(),
            "created_at": one.created_at,
            "last_used_at": one.last_used_at,
        }
        for one in apikeys.list_keys(db, account_id)
    ]


def _assistants(ctx: Context, account_id: str) -> Pages:
    mine = select(Instance.id).where(Instance.account_id == account_id).order_by(Instance.created_at, Instance.id)
    with ctx.db.read() as db:
        ids = list(db.scalars(mine))
    for instance_id in ids:
        with ctx.db.read() as db:
            page = [_assistant(db, db.get_one(Instance, instance_id))]
        yield page


def _assistant(db: Session, one: Instance) -> Row:
    connected = select(Connection).where(Connection.instance_id == one.id).order_by(Connection.channel)
    happened = select(InstanceEvent).where(InstanceEvent.instance_id == one.id)
    return {
        "id": one.id,
        "name": one.name,
        "persona": one.persona,
        "instructions": one.instructions,
        "plan": one.plan,
        "model": one.model,
        "state": one.state,
        "paused_for": [str(reason) for reason in states.reasons(one)],
        "created_at": one.created_at,
        "deleted_at": one.deleted_at,
        "channels": [
            {
                "channel": row.channel,
                "bot": row.bot_username,
                "owner": row.owner_username or row.owner_external_id,
                "connected_at": row.created_at,
            }
            for row in db.scalars(connected)
        ],
        "skills": [
            {"skill": row.skill, "is_on": row.is_on, "key_ends_in": row.hint, "key_checked_at": row.checked_at}
            for row in skillset.choices_of(db, one.id).values()
        ],
        "program_keys": [
            {
                "name": row.name,
                "begins_with": row.prefix,
                "created_at": row.created_at,
                "last_used_at": row.last_used_at,
            }
            for row in programs.list_keys(db, one.id)
        ],
        "events": [
            {"at": row.at, "kind": row.kind, "message": row.message}
            for row in db.scalars(happened.order_by(InstanceEvent.at, InstanceEvent.id))
        ],
    }


def _integrations(db: Session, account_id: str) -> list[Row]:
    rows = connected.list_of(db, account_id)
    readers = attachments.readers(db, [one.id for one in rows])
    return [
        {
            "vendor": one.vendor,
            "account": one.address,
            "may_read": one.scopes.split(),
            "connected_at": one.connected_at,
            "lapsed_at": one.lapsed_at,
            "assistants": readers.get(one.id, []),
        }
        for one in rows
    ]


def _usage(db: Session, owner: Owner, now: datetime) -> list[Row]:
    since, until = hour_of(owner.account.created_at), hour_of(now) + HOUR
    ways = ("day", "instance", "model", "source")
    return [
        {
            **dict(zip(("day", "assistant_id", "model", "source"), line.keys, strict=True)),
            "calls": line.sum.calls,
            "input_tokens": line.sum.input_tokens,
            "output_tokens": line.sum.output_tokens,
            "cache_read_tokens": line.sum.cache_read_tokens,
            "cache_write_tokens": line.sum.cache_write_tokens,
            "price_micros": line.sum.price_micros,
        }
        for line in usage_by(db, owner.account.id, ways, since, until)
    ]


def _wallet(db: Session, account_id: str) -> list[Row]:
    rows = [
        {"pocket": kind, "balance_micros": found.balance_micros, "held_micros": found.held_micros}
        for kind in ("wallet", "included")
        if (found := ledger.balances(db, kind, account_id).get(account_id)) is not None
    ]
    auto = db.scalars(select(Wallet).where(Wallet.account_id == account_id)).one_or_none()
    if auto is not None and auto.is_auto:
        limits = {"below_micros": auto.auto_threshold_micros, "amount_micros": auto.auto_amount_micros}
        rows.append({"pocket": "automatic top-up", **limits})
    return rows


def _ledger(ctx: Context, account_id: str) -> Pages:
    cursor: str | None = None
    while True:
        with ctx.db.read() as db:
            page = ledger.list_entries(db, account_id, cursor, PAGE)
        yield [
            {
                "entry_id": line.entry_id,
                "at": line.created_at,
                "pocket": line.account_kind,
                "kind": line.kind,
                "note": line.note,
                "amount_micros": line.amount_micros,
                "balance_after_micros": line.balance_after_micros,
            }
            for line in page.lines
        ]
        cursor = page.next_cursor
        if cursor is None:
            return


def _subscriptions(db: Session, account_id: str) -> list[Row]:
    return [
        {
            "id": one.id,
            "plan": one.plan,
            "state": one.state,
            "is_ending": one.is_ending,
            "amount_micros": one.amount_micros,
            "period_start_at": one.period_start_at,
            "period_end_at": one.period_end_at,
            "created_at": one.created_at,
        }
        for one in subscriptions.of_account(db, account_id)
    ]


def _payments(db: Session, account_id: str) -> list[Row]:
    mine = select(Receipt).where(Receipt.account_id == account_id).order_by(Receipt.created_at, Receipt.id)
    return [
        {
            "id": one.id,
            "at": one.created_at,
            "amount_micros": one.amount_micros,
            "given_back_micros": one.refunded_micros,
            "dispute": one.dispute,
            "period_start_at": one.period_start_at,
            "period_end_at": one.period_end_at,
        }
        for one in db.scalars(mine)
    ]


def _refunds(db: Session, account_id: str) -> list[Row]:
    mine = select(Refund).where(Refund.account_id == account_id).order_by(Refund.created_at, Refund.id)
    return [
        {"at": one.created_at, "amount_micros": one.amount_micros, "reason": one.reason, "state": one.state}
        for one in db.scalars(mine)
    ]


def _credits(db: Session, account_id: str) -> list[Row]:
    return [
        {
            "at": one.granted_at,
            "source": one.source,
            "amount_micros": one.amount_micros,
            "expires_at": one.expires_at,
            "expired_micros": one.expired_micros,
        }
        for one in credits.of_account(db, account_id)
    ]


def _invoices(ctx: Context, account_id: str, problems: list[str]) -> Pages:
    try:
        found = agreements.list_invoices(ctx, account_id)
    except Unavailable as error:
        problems.append(f"invoices: {error.message}")
        return
    yield [
        {
            "number": one.number or one.reference,
            "state": one.state,
            "amount_micros": one.amount_micros,
            "description": one.description,
            "at": one.created_at,
        }
        for one in found
    ]


def _letters(ctx: Context, account_id: str) -> Pages:
    """What was written to the account; texts are forgotten once a letter is sent. Not what went to an address that was
    still to be proved: whether it went there tells who has an account."""
    last: tuple[datetime, str] | None = None
    while True:
        mine = (Notice.account_id == account_id, Notice.kind != "email_prove")
        query = select(Notice).where(*mine).order_by(Notice.created_at, Notice.id)
        if last is not None:
            at, notice_id = last
            is_later = (Notice.created_at > at) | ((Notice.created_at == at) & (Notice.id > notice_id))
            query = query.where(is_later)
        with ctx.db.read() as db:
            rows = list(db.scalars(query.limit(PAGE)))
        yield [{"at": one.created_at, "to": one.recipient, "subject": one.subject, "state": one.state} for one in rows]
        if len(rows) < PAGE:
            return
        last = (rows[-1].created_at, rows[-1].id)


def _history(ctx: Context, owner: Owner) -> Pages:
    with ctx.db.read() as db:
        names = {f"key:{one}" for one in db.scalars(select(ApiKey.id).where(ApiKey.account_id == owner.account.id))}
    cursor: str | None = None
    while True:
        with ctx.db.read() as db:
            page = audit.list_entries(db, audit.Filter(account_id=owner.account.id), cursor, PAGE)
        yield [
            {"at": one.at, "by": _who(one.actor, owner, names), "action": one.action, "subject": one.subject}
            for one in page.entries
        ]
        cursor = page.next_cursor
        if cursor is None:
            return


def _who(actor: str, owner: Owner, own_keys: Collection[str]) -> str:
    """Whose doing it was: `you`, your API key (also a revoked one), or `us`: who works for the operator is not the
    customer's to know."""
    if actor == f"user:{owner.user.id}":
        return "you"
    return actor if actor in own_keys else "us"
