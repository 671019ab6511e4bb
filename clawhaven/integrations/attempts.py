"""Somebody is at a vendor's consent page: the state and the PKCE verifier that wait for them, once, for a while."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.errors import Conflict
from clawhaven.core.ids import new_token
from clawhaven.core.secrets import KeyRing, hash_token
from clawhaven.integrations.models import IntegrationAttempt

PURPOSE = "integration.verifier"
LIFE = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Begun:
    """What goes to the vendor: `state`, and `challenge` (S256 of a verifier that stays here)."""

    state: str = field(repr=False)
    challenge: str


@dataclass(frozen=True, slots=True)
class Returned:
    """What was kept for somebody who came back; `back_to` is the page they came from."""

    verifier: str = field(repr=False)
    back_to: str


def begin(
    db: Session, keys: KeyRing, account_id: str, vendor: str, session_id: str | None, back_to: str, now: datetime
) -> Begun:
    """Remember an attempt for half an hour; older ones of everybody are forgotten."""
    db.execute(sa.delete(IntegrationAttempt).where(IntegrationAttempt.expires_at <= now))
    state, verifier = new_token(), new_token(size=48)
    db.add(
        IntegrationAttempt(
            state_hash=hash_token(state),
            account_id=account_id,
            vendor=vendor,
            session_id=session_id,
            sealed_verifier=keys.seal(verifier, PURPOSE),
            back_to=back_to,
            expires_at=now + LIFE,
        )
    )
    db.flush()
    digest = hashlib.sha256(verifier.encode()).digest()
    return Begun(state, base64.urlsafe_b64encode(digest).rstrip(b"=").decode())


def take(
    db: Session, keys: KeyRing, state: str, account_id: str, vendor: str, session_id: str | None, now: datetime
) -> Returned:
    """Use an attempt up. Raises Conflict `stale_consent` unless this account, in this session, began it and it is
    fresh."""
    mine = (
        IntegrationAttempt.state_hash == hash_token(state),
        IntegrationAttempt.account_id == account_id,
        IntegrationAttempt.vendor == vendor,
        IntegrationAttempt.expires_at > now,
        sa.or_(IntegrationAttempt.session_id.is_(None), IntegrationAttempt.session_id == session_id),
    )
    taken = sa.delete(IntegrationAttempt).where(*mine).execution_options(synchronize_session=False)
    found = db.execute(taken.returning(IntegrationAttempt.sealed_verifier, IntegrationAttempt.back_to)).first()
    if found is None:
        raise Conflict(
            "This answer belongs to no try of yours, or came too late. Nothing was connected; please try once more.",
            code="stale_consent",
        )
    return Returned(keys.open(found[0], PURPOSE), found[1])


def forget(db: Session, account_id: str) -> None:
    """Forget an account's attempts."""
    db.execute(sa.delete(IntegrationAttempt).where(IntegrationAttempt.account_id == account_id))
