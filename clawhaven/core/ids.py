"""Unguessable, prefixed identifiers: `ins_` + 24 base-32 characters (120 random bits)."""

from __future__ import annotations

import base64
import re
import secrets
import unicodedata
from datetime import datetime


def new_id(prefix: str) -> str:
    """A fresh id such as `ins_k3v7…`; lower-case letters and digits only, so it is safe in names and paths."""
    return f"{prefix}_{base64.b32encode(secrets.token_bytes(15)).decode().lower()}"


def new_ordered_id(prefix: str, at: datetime) -> str:
    """A fresh id whose order is about that of time, so that a table's newest rows lie together in its indexes.

    12 hexadecimal digits are milliseconds, 18 are random (72 bits).
    """
    return f"{prefix}_{int(at.timestamp() * 1000):012x}{secrets.token_hex(9)}"


def new_token(prefix: str = "", size: int = 32) -> str:
    """A bearer secret of `size` random bytes, URL-safe, with a prefix that tells a scanner what it is."""
    return prefix + secrets.token_urlsafe(size)


def slug(email: str) -> str:
    """`user@example.com` becomes `user-example-com`: a DNS label of at most 40 characters."""
    plain = unicodedata.normalize("NFKD", email).encode("ascii", "ignore").decode().lower()
    label = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-")
    return label or "assistant"
