"""Which checkout was made for which key: one caller at a time, across processes, and across a kill."""

from __future__ import annotations

import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.creem_memory import Memory


def count(folder: Path, times: int) -> None:
    """Add one to a number under its key, slowly enough to collide."""
    memory = Memory(folder, "test")
    for _ in range(times):
        with memory.hold("chk_1") as slot:
            known = slot.read() or {"number": 0}
            time.sleep(0.001)
            slot.write({"number": known["number"] + 1})


def test_what_was_written_is_read_by_everybody(tmp_path: Path) -> None:
    with Memory(tmp_path, "test").hold("chk_1") as slot:
        assert slot.read() is None
        slot.write({"reference": "ch_1", "note": "a longer one that is cut"})
        slot.write({"reference": "ch_1"})
    with Memory(tmp_path, "test").hold("chk_1") as slot:
        assert slot.read() == {"reference": "ch_1"}
    with Memory(tmp_path, "test").hold("chk_2") as slot:
        assert slot.read() is None
    with Memory(tmp_path, "live").hold("chk_1") as slot:
        assert slot.read() is None


@pytest.mark.parametrize("torn", [b"", b'{"reference": "ch', b"[1]", b"\xff\xfe"])
def test_a_torn_file_is_as_if_it_was_never_written(tmp_path: Path, torn: bytes) -> None:
    memory = Memory(tmp_path, "test")
    with memory.hold("chk_1") as slot:
        slot.write({"reference": "ch_1"})
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(torn)
    with memory.hold("chk_1") as slot:
        assert slot.read() is None


def test_processes_take_turns(tmp_path: Path) -> None:
    start = multiprocessing.get_context("spawn")
    workers = [start.Process(target=count, args=(tmp_path, 20)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with Memory(tmp_path, "test").hold("chk_1") as slot:
        assert slot.read() == {"number": 40}


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "test", wait_seconds=0.05)
    with memory.hold("chk_1"), memory.hold("chk_2"), pytest.raises(ProviderError) as caught, memory.hold("chk_1"):
        pass
    assert (caught.value.permanent, caught.value.code) == (False, "checkout_busy")
    with memory.hold("chk_1") as slot:
        assert slot.read() is None


def test_the_files_are_ours_alone_and_old_ones_go(tmp_path: Path) -> None:
    with Memory(tmp_path / "creem", "test").hold("chk_1") as slot:
        slot.write({"reference": "ch_1"})
    (path,) = (tmp_path / "creem").glob("*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "chk_1" not in path.name
    old = time.time() - 31 * 86_400
    os.utime(path, (old, old))
    with Memory(tmp_path / "creem", "test").hold("chk_2"):
        assert not path.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "creem").write_text("a file")
    with pytest.raises(ProviderError) as caught, Memory(tmp_path / "creem", "test").hold("chk_1"):
        pass
    assert (caught.value.permanent, caught.value.code) == (False, "creem_memory")
