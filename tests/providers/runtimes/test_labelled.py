"""Holding processes still while their files are copied, and letting them go whatever happens to us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from clawhaven.providers.runtimes import labelled

COUNTING = "import itertools, pathlib, sys\nfor n in itertools.count(): pathlib.Path(sys.argv[1]).write_text(str(n))"
HOLDING = """
import sys, time
from pathlib import Path
from clawhaven.providers.runtimes import labelled
with labelled.held_still(Path(sys.argv[1]), "ins_a"):
    print("held", flush=True)
    time.sleep(600)
"""
SECONDS = 30


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[psutil.Process]:
    env = {**os.environ, labelled.HOME: str(tmp_path), labelled.INSTANCE: "ins_a"}
    with subprocess.Popen([sys.executable, "-c", COUNTING, str(tmp_path / "count")], env=env) as process:
        wait(lambda: (tmp_path / "count").exists())
        yield psutil.Process(process.pid)
        process.kill()


def wait(check: object) -> None:
    deadline = time.monotonic() + SECONDS
    while not check():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_still(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_STOPPED


def test_it_stands_still_inside_and_goes_on_after(tmp_path: Path, counter: psutil.Process) -> None:
    with labelled.held_still(tmp_path, "ins_b"):
        assert not is_still(counter)
    with labelled.held_still(tmp_path, "ins_a"):
        wait(lambda: is_still(counter))
    assert not is_still(counter)
    with pytest.raises(ValueError, match="on the way"), labelled.held_still(tmp_path, "ins_a"):
        raise ValueError("on the way")
    assert not is_still(counter)


def test_it_goes_on_when_the_one_who_holds_it_is_killed(tmp_path: Path, counter: psutil.Process) -> None:
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        wait(lambda: is_still(counter))
        holder.send_signal(signal.SIGKILL)
    wait(lambda: not is_still(counter))
