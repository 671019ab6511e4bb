"""What a vendor sends back, as its bytes arrive; over the network or from a model in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator


class AnswerCut(Exception):
    """The answer ended before its end; the message is for the client, `status` for clients that got no byte yet."""

    def __init__(self, message: str, status: int = 529) -> None:
        super().__init__(message)
        self.message, self.status = message, status


class Answer(ABC):
    """Status, headers with lower-case names, and a body that is read piece by piece."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers

    @property
    def is_stream(self) -> bool:
        """True for server-sent events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @abstractmethod
    async def read(self) -> bytes:
        """What has come; empty at the end. Raises AnswerCut when it breaks off."""

    def close(self) -> None:  # noqa: B027  a model in this process has nothing to close
        """Nobody reads on."""


class LocalAnswer(Answer):
    """The answer of a model in this process."""

    def __init__(self, status: int, headers: dict[str, str], chunks: AsyncIterator[bytes]) -> None:
        super().__init__(status, headers)
        self._chunks = chunks

    async def read(self) -> bytes:
        """The next piece."""
        return await anext(self._chunks, b"")
