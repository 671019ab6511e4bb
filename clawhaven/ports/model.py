"""A model that this product itself talks to (the trial chat): through our own proxy, so that it is in the books."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from clawhaven.ports.upstream import Dialect


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was said, and what was answered."""

    said: str
    answered: str


@dataclass(frozen=True, slots=True)
class Question:
    """One message to a model, with what was said before it. `most_tokens` bounds the answer."""

    model: str
    dialect: Dialect
    """ANTHROPIC_MESSAGES or OPENAI_CHAT."""
    instructions: str
    before: Sequence[Exchange]
    message: str
    most_tokens: int


class Model(Protocol):
    """The proxy's client."""

    def say(self, key: str, question: Question) -> Iterator[str]:
        """The answer's text, piece by piece. `key` is the secret of a grant.

        Raises ProviderError, before or between the pieces: `busy` (the proxy refuses for now), else `model_down`.
        """

    def answers(self) -> bool:
        """True when the proxy is there. Never raises; takes a second at most."""
