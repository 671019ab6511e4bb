"""Connected accounts of customers: one per vendor and account, tokens sealed, forgotten when disconnected."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.ids import new_id
from clawhaven.core.secrets import KeyRing
from clawhaven.integrations.models import Integration, IntegrationRevocation
from clawhaven.ports.integration import Access, Consent

REFRESH = "integration.refresh"
ACCESS = "integration.access"
SPARE = timedelta(seconds=60)
"""An access token that ends within this is not used any more."""

HOLD = timedelta(minutes=5)
SENDING = timedelta(seconds=30)
"""A vendor that was told to forget a token has done so by then, or has not answered."""

EXCHANGE = timedelta(seconds=60)
"""So long a consent takes at most to be fetched and kept."""


def connect(
    db: Session, keys: KeyRing, account_id: str, vendor: str, consent: Consent, now: datetime
) -> tuple[Integration, str | None]:
    """Keep a consent in place of the one before. Of another account at the vendor that was connected until now, the
    permission is to be revoked: the second value is that revocation's id.

    A revocation that still waits for this very account at the vendor is given up: it would end the new permission too.
    """
    row, old = find(db, account_id, vendor, is_locked=True), None
    if row is not None and row.subject != consent.subject:
        old = _revoke(db, account_id, vendor, row.subject, row.sealed_refresh, now, but=row.id)
    if row is None:
        row = Integration(id=new_id("int"), account_id=account_id, vendor=vendor)
        db.add(row)
    row.subject, row.address = consent.subject, consent.address
    row.scopes = " ".join(sorted(consent.scopes))
    row.sealed_refresh = keys.seal(consent.refresh_token, REFRESH)
    row.sealed_access, row.access_expires_at = _sealed(keys, consent.access, now)
    row.connected_at, row.lapsed_at = now, None
    waiting = (IntegrationRevocation.vendor == vendor, IntegrationRevocation.subject == consent.subject)
    db.execute(sa.delete(IntegrationRevocation).where(*waiting))
    db.flush()
    return row, old


def find(db: Session, account_id: str, vendor: str, *, is_locked: bool = False) -> Integration | None:
    """An account's integration with a vendor."""
    query = sa.select(Integration).where(Integration.account_id == account_id, Integration.vendor == vendor)
    query = query.with_for_update() if is_locked else query
    return db.scalars(query.execution_options(populate_existing=True)).one_or_none()


def list_of(db: Session, account_id: str) -> list[Integration]:
    """All of an account's integrations."""
    return list(db.scalars(sa.select(Integration).where(Integration.account_id == account_id).order_by("vendor")))


def scopes_of(row: Integration) -> frozenset[str]:
    """What was granted."""
    return frozenset(row.scopes.split())


def access_of(row: Integration, keys: KeyRing, now: datetime) -> str | None:
    """The access token, while it is good for a while yet."""
    return keys.open(row.sealed_access, ACCESS) if row.access_expires_at - SPARE > now else None


def refresh_of(row: Integration, keys: KeyRing) -> str:
    """The refresh token."""
    return keys.open(row.sealed_refresh, REFRESH)


def keep_access(db: Session, keys: KeyRing, row: Integration, access: Access, now: datetime) -> None:
    """Keep a fresh access token, unless the account was connected anew or disconnected meanwhile."""
    sealed, expires_at = _sealed(keys, access, now)
    same = (Integration.id == row.id, Integration.sealed_refresh == row.sealed_refresh)
    db.execute(sa.update(Integration).where(*same).values(sealed_access=sealed, access_expires_at=expires_at))


def lapse(db: Session, row: Integration, now: datetime) -> bool:
    """The vendor takes its tokens no more. True for the first who finds that out."""
    same = (
        Integration.id == row.id,
        Integration.sealed_refresh == row.sealed_refresh,
        Integration.lapsed_at.is_(None),
    )
    return (
        db.execute(sa.update(Integration).where(*same).values(lapsed_at=now).returning(Integration.id)).first()
        is not None
    )


def disconnect(db: Session, row: Integration, now: datetime) -> str | None:
    """Forget it; the id of the revocation that its vendor is to be told of. None when another account here is
    connected with the same account there: the vendor knows one permission for both, and it ends with the last."""
    revocation_id = _revoke(db, row.account_id, row.vendor, row.subject, row.sealed_refresh, now, but=row.id)
    db.delete(row)
    db.flush()
    return revocation_id


def hold_revocations(db: Session, account_id: str, vendor: str, now: datetime) -> bool:
    """Keep what this account revokes at a vendor from being sent while it connects anew: a revocation sent after the
    new consent would end that too. False while one may be on its way: commit, and ask again after SENDING."""
    mine = (IntegrationRevocation.account_id == account_id, IntegrationRevocation.vendor == vendor)
    is_clear = True
    for row in db.scalars(sa.select(IntegrationRevocation).where(*mine).with_for_update()):
        if row.asked_at <= now + EXCHANGE:
            row.asked_at = now + HOLD
        is_clear = is_clear and row.asked_at <= now + HOLD - SENDING
    db.flush()
    return is_clear


def find_revocation(db: Session, revocation_id: str) -> IntegrationRevocation | None:
    """A revocation that still waits; None: the vendor has forgotten it, or it was given up."""
    return db.get(IntegrationRevocation, revocation_id, populate_existing=True)


def is_held(db: Session, revocation_id: str, now: datetime) -> bool:
    """True for a revocation that is not to be sent yet."""
    row = find_revocation(db, revocation_id)
    return row is not None and row.asked_at > now


def revocation_token(db: Session, keys: KeyRing, revocation_id: str) -> tuple[str, str] | None:
    """Vendor and token of a revocation that still waits; None when there is nothing to do (any more)."""
    row = find_revocation(db, revocation_id)
    return (row.vendor, keys.open(row.sealed_token, REFRESH)) if row is not None else None


def end_revocation(db: Session, revocation_id: str) -> None:
    """The vendor has forgotten it; so do we. Gone is success."""
    db.execute(sa.delete(IntegrationRevocation).where(IntegrationRevocation.id == revocation_id))


def revocations_of(db: Session, account_id: str) -> list[IntegrationRevocation]:
    """What vendors have not confirmed yet."""
    mine = sa.select(IntegrationRevocation).where(IntegrationRevocation.account_id == account_id)
    return list(db.scalars(mine.order_by(IntegrationRevocation.asked_at)))


def revocations_before(db: Session, before: datetime, limit: int) -> list[str]:
    """Ids of those that vendors were to be told of before then, the oldest first."""
    old = sa.select(IntegrationRevocation.id).where(IntegrationRevocation.asked_at < before)
    return list(db.scalars(old.order_by(IntegrationRevocation.asked_at).limit(limit)))


def refuse(db: Session, keys: KeyRing, account_id: str, vendor: str, consent: Consent, now: datetime) -> str | None:
    """A consent that is not kept (`now`: or not by then): the id of its revocation. None where the same account at the
    vendor is connected here: that permission is in use."""
    return _revoke(db, account_id, vendor, consent.subject, keys.seal(consent.refresh_token, REFRESH), now, but="")


def _revoke(
    db: Session, account_id: str, vendor: str, subject: str, sealed: str, now: datetime, *, but: str
) -> str | None:
    same = (Integration.vendor == vendor, Integration.subject == subject, Integration.id != but)
    if db.scalar(sa.select(Integration.id).where(*same).limit(1)) is not None:
        return None
    made = IntegrationRevocation(
        id=new_id("irv"), account_id=account_id, vendor=vendor, subject=subject, sealed_token=sealed, asked_at=now
    )
    db.add(made)
    db.flush()
    return made.id


def _sealed(keys: KeyRing, access: Access, now: datetime) -> tuple[str, datetime]:
    return keys.seal(access.token, ACCESS), now + timedelta(seconds=access.seconds)
