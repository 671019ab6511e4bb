"""What a person gets once, however many accounts they make: a trial, a coupon.

A person is known by a keyed fingerprint of the mail address in its plain form. It tells nobody the address, and stays
when the account is deleted, as long as its key is in ENCRYPTION_KEY.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from clawhaven.billing.models import OncePerPerson
from clawhaven.core.secrets import KeyRing

TRIAL = "trial"
PURPOSE = "billing.person"
DOTLESS = {"gmail.com": "gmail.com", "googlemail.com": "gmail.com"}
"""Domains where dots in a name mean nothing (https://support.google.com/mail/answer/7436150), by their one name."""


def plain_address(email: str) -> str:
    """An address without what its owner can vary at will: `Ada.L+two@googlemail.com` is `adal@gmail.com`. Pure."""
    name, _, domain = email.strip().lower().rpartition("@")
    name = name.partition("+")[0] or name
    if domain in DOTLESS:
        name, domain = name.replace(".", ""), DOTLESS[domain]
    return f"{name}@{domain}"


def prints_of(keys: KeyRing, email: str) -> list[str]:
    """The fingerprints of a person, one for each key of the ring; new ones are kept under the first."""
    return keys.fingerprints(plain_address(email), PURPOSE)


def coupon(coupon_id: str) -> str:
    """The word for having used this coupon."""
    return f"coupon:{coupon_id}"


def is_taken(db: Session, what: str, prints: Sequence[str]) -> bool:
    """True when this person has had it, in this account or another."""
    row = OncePerPerson
    return db.scalar(select(row.what).where(row.what == what, row.person.in_(prints)).limit(1)) is not None


def take(db: Session, what: str, prints: Sequence[str], checkout_id: str | None, now: datetime) -> bool:
    """This person has it from now on. True the first time; False: they had it before."""
    if is_taken(db, what, prints):
        return False
    values = {"what": what, "person": prints[0], "checkout_id": checkout_id, "taken_at": now}
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    taken = insert(OncePerPerson).values(**values).on_conflict_do_nothing().returning(OncePerPerson.what)
    return db.execute(taken).first() is not None


def keep(db: Session, what: str, prints: Sequence[str], now: datetime) -> None:
    """This person has had it for certain: no page that nobody pays gives it back."""
    row = OncePerPerson
    if not take(db, what, prints, None, now):
        db.execute(update(row).where(row.what == what, row.person.in_(prints)).values(checkout_id=None))


def release(db: Session, checkout_id: str) -> None:
    """Nobody paid this checkout: what was taken with it can be had again."""
    db.execute(delete(OncePerPerson).where(OncePerPerson.checkout_id == checkout_id))
