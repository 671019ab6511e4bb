"""Delivering a message to a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One mail. `key` is stable over retries and becomes the Message-ID, so that a repeat can be recognised."""

    key: str
    to: str
    subject: str
    text: str
    html: str | None = None


class Notifier(Protocol):
    """A way to reach people. Raises ProviderError."""

    name: str

    def send(self, message: Message) -> None:
        """Hand the message over; returns when the network has accepted it."""
