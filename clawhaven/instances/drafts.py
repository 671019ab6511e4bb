"""A new instance, before it is paid: checked input becomes a pending row."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.core.errors import Invalid
from clawhaven.core.ids import new_id, new_token
from clawhaven.core.secrets import KeyRing
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State

MAX_NAME = 40
MAX_INSTRUCTIONS = 5000
GATEWAY_PURPOSE = "instance.gateway"
PROXY_KEY_PURPOSE = "instance.proxy_key"
PROXY_KEY_PREFIX = "chp_"


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
