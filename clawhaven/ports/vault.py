"""Where sealed files lie: backups, which have to outlive what they are copies of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is there, whole. `digest`: SHA-256, hex."""

    size_bytes: int
    digest: str


class Vault(Protocol):
    """A place for files named by our ids, a folder for each assistant. Raises ProviderError only."""

    def put(self, folder: str, name: str, pieces: Iterable[bytes]) -> Stored:
        """Keep a file, in place of one of this name. Whole or not at all: a half-written one is never seen, and goes.

        Raises what the pieces raise; ProviderError `disk_full`, `io_error`.
        """

    def get(self, folder: str, name: str) -> Iterator[bytes]:
        """A file, piece by piece. Raises ProviderError `no_file` (permanent) when there is none."""

    def remove(self, folder: str, name: str) -> None:
        """Remove a file; gone is success."""

    def remove_all(self, folder: str) -> None:
        """Remove a folder with all that is in it; gone is success."""
