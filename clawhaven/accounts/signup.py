"""Making users and accounts. One email is one account, also when ten requests arrive at once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.accounts.models import Account, User
from clawhaven.core.errors import Conflict, Invalid
from clawhaven.core.ids import new_id, slug
from clawhaven.core.languages import current

MAX_SLUG_TRIES = 8


@dataclass(frozen=True, slots=True)
class Owner:
    """A user with the account they own."""

    user: User
    account: Account


def normalise_email(raw: str) -> str:
    """Lower-case, IDNA-normalised address. Raises Invalid with the reason."""
    try:
        checked = validate_email(raw, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise Invalid("This is not an email address.", field="email", reason=str(error)) from None
    address = checked.normalized.lower()
    if len(address) > 320:
        raise Invalid("This email address is too long.", field="email", reason="more than 320 characters")
    return address


def register(
    db: Session, email: str, now: datetime, *, is_operator: bool = False, verified_at: datetime | None = None
) -> Owner:
    """Create the user and account for a normalised email. Raises Conflict when there is one.

    `verified_at` stays None for an address that somebody merely typed: the first mailed link sets it. Letters are
    written in the language that is spoken now, until they use another.
    """
    user = User(
        id=new_id("usr"),
        email=email,
        is_operator=is_operator,
        created_at=now,
        verified_at=verified_at,
        language=current(),
    )
    try:
        with db.begin_nested():
            db.add(user)
            db.flush()
    except IntegrityError:
        raise Conflict(
            "An account with this email already exists. Sign in to go on.", field="email", sign_in_url="/sign-in"
        ) from None
    return Owner(user, _open_account(db, user, now))


def _open_account(db: Session, user: User, now: datetime) -> Account:
    name = slug(user.email)
    for attempt in range(MAX_SLUG_TRIES):
        unique = name if attempt == 0 else f"{name}-{secrets.token_hex(3)}"
        account = Account(id=new_id("acc"), owner_id=user.id, slug=unique, created_at=now)
        try:
            with db.begin_nested():
                db.add(account)
                db.flush()
        except IntegrityError:
            continue
        return account
    raise Conflict("No free name was found for this account; please try again.", field="email")


def remember_language(db: Session, user_id: str, language: str) -> None:
    """Write to this user in this language from now on; one they used already is no write."""
    db.execute(
        update(User)
        .where(User.id == user_id, User.language.is_distinct_from(language))
        .values(language=language)
        .execution_options(synchronize_session=False)
    )


def find_owner(db: Session, email: str) -> Owner | None:
    """The owner with this normalised email, if any."""
    row = db.execute(
        select(User, Account)
        .join(Account, Account.owner_id == User.id)
        .where(User.email == email, User.deleted_at.is_(None))
    ).first()
    return Owner(row[0], row[1]) if row else None


def owner_of(db: Session, account_id: str) -> Owner:
    """The owner of an existing account."""
    row = db.execute(
        select(User, Account).join(Account, Account.owner_id == User.id).where(Account.id == account_id)
    ).one()
    return Owner(row[0], row[1])
