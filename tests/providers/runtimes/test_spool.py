"""Held still while the files are read, and not while somebody takes the archive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.runtimes import archive, spool

PLENTY = 10**9


class Held:
    """Whether it stands still."""

    is_still = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        self.is_still = True
        try:
            yield
        finally:
            self.is_still = False


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "ins_a"
    (made / "state").mkdir(parents=True)
    (made / "state" / "memory").write_text("kept")
    return made


def test_it_goes_on_before_the_first_byte_is_taken(root: Path) -> None:
    held = Held()
    pieces = spool.pack(held.hold(), root, {}, PLENTY)
    assert not held.is_still
    assert next(pieces) == b""
    assert held.is_still
    first = next(pieces)
    assert first
    assert not held.is_still
    assert first + b"".join(pieces) == b"".join(archive.pack(root, {}, PLENTY))
    assert sorted(path.name for path in root.iterdir()) == ["state"]


def test_it_goes_on_when_the_caller_stops_or_reading_fails(root: Path) -> None:
    held = Held()
    pieces = spool.pack(held.hold(), root, {}, PLENTY)
    next(pieces)
    pieces.close()
    assert not held.is_still
    with pytest.raises(ProviderError, match="BACKUP_MAX_MB"):
        list(spool.pack(held.hold(), root, {}, 2))
    assert not held.is_still
    with pytest.raises(ProviderError) as absent:
        list(spool.pack(held.hold(), root / "none", {}, PLENTY))
    assert absent.value.code == "absent"
    assert sorted(path.name for path in root.iterdir()) == ["state"]


def test_it_goes_on_after_a_while_whatever_happens(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MOST_HELD_SECONDS", 0.05)
    held = Held()
    pieces = spool.pack(held.hold(), root, {}, PLENTY)
    next(pieces)
    deadline = time.monotonic() + 30
    while held.is_still:  # nobody asks for the next piece
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(ProviderError) as refused:
        next(pieces)
    assert (refused.value.code, refused.value.permanent) == ("held_too_long", True)


def test_the_disk_is_not_filled_to_its_end(root: Path) -> None:
    held = Held()
    with pytest.raises(ProviderError, match="MB have to stay free") as refused:
        list(spool.pack(held.hold(), root, {}, PLENTY, kept_free=10**18))
    assert refused.value.code == "disk_full"
    assert not held.is_still
    assert sorted(path.name for path in root.iterdir()) == ["state"]
