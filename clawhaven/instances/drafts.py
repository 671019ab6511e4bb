"""A new instance before it is paid: what somebody has chosen so far, and checked input that becomes a pending row."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.core.errors import Invalid
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.secrets import KeyRing
from clawhaven.instances import skillset
from clawhaven.instances.models import Instance, OpenDraft
from clawhaven.instances.states import State
from clawhaven.ports.channel import BotInfo

MAX_NAME = 40
MAX_INSTRUCTIONS = 5000
GATEWAY_PURPOSE = "instance.gateway"
PROXY_KEY_PURPOSE = "instance.proxy_key"
PROXY_KEY_PREFIX = "chp_"
BOT_PURPOSE = "draft.bot"
KEY_PURPOSE = "draft.model_key"

STEPS = ("assistant", "model", "channel", "skills", "review")
"""What is asked after the plan, in order. Stored in `open_draft.step`: add, never rename."""

OPEN_LIFE = timedelta(days=30)
"""A draft that nobody has touched for so long is forgotten, with the credentials in it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What the customer wants, checked."""

    name: str
    persona: str
    instructions: str


def check_draft(name: str, persona: str, instructions: str, personas: list[str]) -> Draft:
    """Clean the customer's words. Raises Invalid naming the field and the reason."""
    cleaned_name = " ".join(_DIRECTIONS.sub("", _without_controls(name)).split())
    if not 1 <= len(cleaned_name) <= MAX_NAME or not _is_visible(cleaned_name):
        raise Invalid(
            f"The assistant's name has 1 to {MAX_NAME} visible characters.",
            field="assistant_name",
            reason="wrong length",
        )
    if re.search(r"[<>{}\\/`$]", cleaned_name):
        raise Invalid(
            "The assistant's name cannot contain < > { } \\ / ` or $.",
            field="assistant_name",
            reason="forbidden character",
        )
    cleaned = _without_controls(instructions.replace("\r\n", "\n"), keep="\n\t").strip()
    if len(cleaned) > MAX_INSTRUCTIONS:
        raise Invalid(
            f"Instructions have at most {MAX_INSTRUCTIONS} characters; these have {len(cleaned)}.",
            field="custom_instructions",
            reason="too long",
        )
    if persona not in personas:
        raise Invalid(f"Personas are {', '.join(personas)}.", field="persona", reason="unknown persona")
    return Draft(cleaned_name, persona, cleaned)


_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069\ufeff]")
"""Marks that turn the text after the name around."""


def _is_visible(text: str) -> bool:
    return any(unicodedata.category(c)[0] in "LNPS" for c in text)


def _without_controls(text: str, keep: str = "") -> str:
    return "".join(c for c in text if c in keep or unicodedata.category(c) not in ("Cc", "Cs", "Co", "Cn"))


def create(
    db: Session,
    account_id: str,
    slug: str,
    draft: Draft,
    *,
    plan: str,
    model: str,
    runtime: str,
    keys: KeyRing,
    now: datetime,
) -> Instance:
    """The pending row, with its gateway token and proxy key already made and sealed."""
    instance = Instance(
        id=new_id("ins"),
        account_id=account_id,
        slug=_free_slug(db, slug),
        name=draft.name,
        persona=draft.persona,
        instructions=draft.instructions,
        plan=plan,
        model=model,
        runtime=runtime,
        state=State.PENDING,
        gateway_token=keys.seal(new_token("chg_"), GATEWAY_PURPOSE),
        proxy_key=keys.seal(new_token(PROXY_KEY_PREFIX), PROXY_KEY_PURPOSE),
        created_at=now,
    )
    db.add(instance)
    db.flush()
    return instance


def _free_slug(db: Session, wanted: str) -> str:
    taken = set(
        db.scalars(select(Instance.slug).where(Instance.deleted_at.is_(None), Instance.slug.startswith(wanted)))
    )
    if wanted not in taken:
        return wanted
    return next(f"{wanted}-{n}" for n in range(2, len(taken) + 3) if f"{wanted}-{n}" not in taken)


def find_open(db: Session, account_id: str) -> OpenDraft | None:
    """What this account has chosen and not ordered yet."""
    return db.get(OpenDraft, account_id, populate_existing=True)


def begin(db: Session, account_id: str, plan: str, now: datetime) -> OpenDraft:
    """The account's open draft, set to this plan; a new one where there is none."""
    found = find_open(db, account_id)
    if found is None:
        fresh = OpenDraft(
            account_id=account_id,
            plan=plan,
            step=STEPS[0],
            name="",
            persona="",
            instructions="",
            model="",
            bots={},
            created_at=now,
            updated_at=now,
        )
        try:
            with db.begin_nested():
                db.add(fresh)
                db.flush()
        except IntegrityError:  # another window of theirs was faster
            found = db.get_one(OpenDraft, account_id, populate_existing=True)
        else:
            return fresh
    found.plan, found.updated_at = plan, now
    db.flush()
    return found


def keep_words(db: Session, row: OpenDraft, draft: Draft, now: datetime) -> None:
    """Name, persona and instructions, checked."""
    row.name, row.persona, row.instructions, row.updated_at = draft.name, draft.persona, draft.instructions, now
    db.flush()


def keep_model(db: Session, row: OpenDraft, model: str, now: datetime) -> None:
    """The model, checked; empty for the one that suits the plan."""
    row.model, row.updated_at = model, now
    db.flush()


def keep_key(db: Session, row: OpenDraft, vendor: str, api_key: str, hint: str, keys: KeyRing, now: datetime) -> None:
    """A model key that its vendor has just taken, sealed, in place of the one before."""
    row.key_vendor, row.key_hint, row.key_sealed = vendor, hint, keys.seal(api_key, KEY_PURPOSE)
    row.updated_at = now
    db.flush()


def forget_key(db: Session, row: OpenDraft, now: datetime) -> None:
    """Without a key of one's own, until there is another."""
    row.key_vendor = row.key_hint = row.key_sealed = None
    row.updated_at = now
    db.flush()


def keep_bot(
    db: Session,
    row: OpenDraft,
    channel: str,
    credentials: Mapping[str, str],
    bot: BotInfo,
    keys: KeyRing,
    now: datetime,
) -> None:
    """A bot that its network has just named, its credentials sealed, in place of the one before on this channel."""
    sealed = keys.seal(json.dumps(dict(credentials)), BOT_PURPOSE)
    row.bots = {**row.bots, channel: {"username": bot.username, "url": bot.url, "sealed": sealed}}
    row.updated_at = now
    db.flush()


def forget_bot(db: Session, row: OpenDraft, channel: str, now: datetime) -> None:
    """Without this channel."""
    row.bots = {name: bot for name, bot in row.bots.items() if name != channel}
    row.updated_at = now
    db.flush()


def touch(db: Session, row: OpenDraft, now: datetime) -> None:
    """Its skills have changed: who looks at it from another window looks at an older one."""
    row.updated_at = now
    db.flush()


def move_on(db: Session, row: OpenDraft, step: str, now: datetime) -> None:
    """Go on at this step from now on, unless a later one was reached already."""
    if STEPS.index(step) > STEPS.index(row.step):
        row.step, row.updated_at = step, now
        db.flush()


def credentials_of(row: OpenDraft, keys: KeyRing) -> dict[str, dict[str, str]]:
    """Channel -> its opened credentials; for providers only."""
    return {name: json.loads(keys.open(bot["sealed"], BOT_PURPOSE)) for name, bot in row.bots.items()}


def take(db: Session, row: OpenDraft) -> bool:
    """Remove the draft because it is being ordered. False: it was ordered or changed since it was read."""
    gone = delete(OpenDraft).where(OpenDraft.account_id == row.account_id, OpenDraft.updated_at == row.updated_at)
    return bool(db.execute(gone.returning(OpenDraft.account_id)).all())


def drop(db: Session, account_id: str) -> None:
    """Forget what this account has chosen, with its credentials."""
    db.execute(delete(OpenDraft).where(OpenDraft.account_id == account_id))
    skillset.drop(db, [account_id])


def drop_secrets(db: Session, account_id: str, now: datetime) -> list[str]:
    """Forget the bots and the keys of an open draft and keep its words; returns what is gone, for a letter."""
    row = find_open(db, account_id)
    if row is None:
        return []
    gone = [f"@{bot['username']}" for bot in row.bots.values()] + (["the model key"] if row.key_sealed else [])
    gone += ["the keys of skills"] if skillset.forget_keys(db, [account_id], now) else []
    row.bots = {}
    forget_key(db, row, now)
    return gone


def sweep(db: Session, now: datetime) -> None:
    """Forget the drafts that nobody has touched for OPEN_LIFE."""
    old = delete(OpenDraft).where(OpenDraft.updated_at < now - OPEN_LIFE)
    skillset.drop(db, list(db.scalars(old.returning(OpenDraft.account_id))))
