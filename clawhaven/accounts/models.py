"""Tables of the accounts room. A user signs in; an account owns and pays (one user each at first)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from clawhaven.core.db import Base


class User(Base):
    """A person who signs in. `email` is stored normalised (lower-case domain and local part) and is unique.

    `verified_at` is when a mailed link first proved the address to be theirs; until then anybody may have typed it.
    """

    __tablename__ = "user_account"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)
    is_operator: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    verified_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    language: Mapped[str | None] = mapped_column(String(10))
    """The language they last used here, in which letters are written; None: English."""
    review_asked_at: Mapped[datetime | None]
    """When they proved the address and found things made by whoever had typed it; None: nothing is to be looked at."""


class Account(Base):
    """Who owns instances and pays. `slug` names its host: user@example.com -> user-example-com."""

    __tablename__ = "account"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("user_account.id"), unique=True)
    slug: Mapped[str] = mapped_column(String(63), unique=True)
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class LoginSession(Base):
    """A signed-in browser. Only the token's hash is stored."""

    __tablename__ = "login_session"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    seen_at: Mapped[datetime | None]
    """When it was last used, to within sessions.TOUCH_EVERY; None: not since it was opened."""
    user_agent: Mapped[str] = mapped_column(String(300), default="")


class SignInLink(Base):
    """A one-time link sent by mail."""

    __tablename__ = "sign_in_link"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ApiKey(Base):
    """A key for programs. `prefix` is what a person recognises it by; only the hash of the whole is stored. `made_by`:
    the API key that made it and that it ends with; None: a signed-in person."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id"))
    name: Mapped[str] = mapped_column(String(100))
    prefix: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[str] = mapped_column(Text, default="read write")
    made_by: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class EmailChange(Base):
    """A new address that is still to be proved by a mailed link. The newest of a user counts."""

    __tablename__ = "email_change"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id"), index=True)
    email: Mapped[str] = mapped_column(String(320))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class DeletionLink(Base):
    """The end of an account that still has to be confirmed by a mailed link. The newest of a user counts."""

    __tablename__ = "deletion_link"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user_account.id"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class AccountView(Base):
    """An operator looks at an account's pages as its owner sees them, in one browser, for a while; nothing can be
    changed there. `session_id` is the operator's own session."""

    __tablename__ = "account_view"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    session_id: Mapped[str] = mapped_column(String(40), index=True)
    operator_id: Mapped[str] = mapped_column(ForeignKey("user_account.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    began_at: Mapped[datetime]
    until_at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(index=True)


class Deletion(Base):
    """An account that its owner has deleted. `sealed_email` is where the last letter goes; empty once it was sent."""

    __tablename__ = "account_deletion"

    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), primary_key=True)
    sealed_email: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
