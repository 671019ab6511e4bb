"""Channels of an instance: sealed credentials, one bot for one assistant, one-time owner claim."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.core.errors import Conflict, Invalid
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.languages import Phrase, Sentence
from clawhaven.core.secrets import KeyRing, hash_token
from clawhaven.instances.models import Connection
from clawhaven.ports.channel import BotInfo, Channel

PURPOSE = "channel.credentials"
CLAIM_PURPOSE = "channel.claim"


def check_fields(channel: Channel, given: Mapping[str, str]) -> dict[str, str]:
    """The channel's fields, stripped and matched against their patterns. Raises Invalid naming the first bad one."""

    checked = {}
    for field in channel.fields:
        value = given.get(field.name, "").strip()
        if not re.fullmatch(field.pattern, value):
            code = "invalid_bot_token" if field.is_secret else None
            said = Sentence("%(label)s: %(help)s", label=Phrase(field.label), help=Phrase(field.help))
            raise Invalid(said, code=code, field=field.name, reason="wrong format")
        checked[field.name] = value
    return checked


def fingerprint(channel: str, bot: BotInfo) -> str:
    """What makes a bot unique: its network and its id there (a re-issued token is still the same bot)."""
    return hash_token(f"{channel}:{bot.id}")


def connect(
    db: Session,
    instance_id: str,
    channel: str,
    credentials: Mapping[str, str],
    bot: BotInfo,
    keys: KeyRing,
    now: datetime,
) -> Connection:
    """Add or replace this instance's connection. Raises Conflict when the bot serves another assistant."""
    db.execute(delete(Connection).where(Connection.instance_id == instance_id, Connection.channel == channel))
    connection = Connection(
        id=new_id("chn"),
        instance_id=instance_id,
        channel=channel,
        fingerprint=fingerprint(channel, bot),
        credentials=keys.seal(json.dumps(dict(credentials)), PURPOSE),
        bot_username=bot.username,
        bot_url=bot.url,
        claim_token=keys.seal(new_token("", 24), CLAIM_PURPOSE),
        created_at=now,
    )
    try:
        with db.begin_nested():
            db.add(connection)
            db.flush()
    except IntegrityError:
        raise _taken(bot) from None
    return connection


def refuse_taken(db: Session, channel: str, bot: BotInfo) -> None:
    """Raises Conflict when the bot serves an assistant already."""
    if db.scalar(select(Connection.id).where(Connection.fingerprint == fingerprint(channel, bot))):
        raise _taken(bot)


def _taken(bot: BotInfo) -> Conflict:
    return Conflict(
        Sentence(
            "@%(bot)s already serves another assistant. One bot can serve one assistant only: two of them would steal"
            " each other's messages. Make a new bot with @BotFather.",
            bot=bot.username,
        ),
        code="bot_in_use",
        field="telegram_bot_token",
    )


def list_connections(db: Session, instance_id: str) -> list[Connection]:
    """All channels of an instance."""
    return list(
        db.scalars(select(Connection).where(Connection.instance_id == instance_id).order_by(Connection.channel))
    )


def credentials_of(connection: Connection, keys: KeyRing) -> dict[str, str]:
    """The opened credentials; for providers only."""
    opened: dict[str, str] = json.loads(keys.open(connection.credentials, PURPOSE))
    return opened


def claim_url(connection: Connection, keys: KeyRing) -> str | None:
    """The one-time link that makes the person who opens it the bot's owner; None once claimed."""
    if connection.claim_token is None:
        return None
    return f"{connection.bot_url}?start={keys.open(connection.claim_token, CLAIM_PURPOSE)}"


def unclaimed(db: Session, instance_ids: Collection[str]) -> dict[str, str]:
    """Assistant -> the name of a bot of it that nobody has claimed yet, in one query."""
    waiting = select(Connection.instance_id, Connection.bot_username).where(
        Connection.instance_id.in_(instance_ids), Connection.claim_token.is_not(None)
    )
    return dict(db.execute(waiting.order_by(Connection.created_at.desc())).tuples().all())


def claim(db: Session, connection_id: str, owner_id: str, username: str | None, now: datetime) -> bool:
    """Record the owner, once. False when somebody else has claimed it."""
    connection = db.get_one(Connection, connection_id)
    db.execute(
        update(Connection)
        .where(Connection.id == connection_id, Connection.owner_external_id.is_(None))
        .values(owner_external_id=owner_id, owner_username=username, claimed_at=now, claim_token=None)
        .execution_options(synchronize_session=False)
    )
    db.refresh(connection)
    return connection.owner_external_id == owner_id


def disconnect(db: Session, instance_id: str, channel: str | None = None) -> None:
    """Remove one channel or all; the bot may be used elsewhere from then on."""
    query = delete(Connection).where(Connection.instance_id == instance_id)
    db.execute(query.where(Connection.channel == channel) if channel else query)
