"""What a rehearsal compiles, later instances start with; nothing else of it stays."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from clawhaven.core.settings import Settings
from clawhaven.ports.gateway import GatewayAddress
from clawhaven.ports.runtime import File, Layout, Spec
from clawhaven.providers.gateways.openclaw import OpenClaw
from clawhaven.providers.runtimes import compiled, labelled, toolchain
from clawhaven.providers.runtimes.process import Process
from tests.live.openclaw import TOKEN, files_for, free_port, settings_for, wait_until_started

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[3]
MEMORY = 2 * 1024**3
REHEARSE = """
import sys
from pathlib import Path
from tests.providers.runtimes.test_compiled import own_cache, rehearsal_files, MEMORY
from clawhaven.providers.runtimes.process import Process
Process(Process.Options(), own_cache(Path(sys.argv[1]))).warm_up(rehearsal_files, MEMORY)
"""


def own_cache(folder: Path) -> Settings:
    """Settings with a cache of their own that borrows the installation of the shared one."""
    shared = settings_for(folder / "data")
    installed = toolchain.install(shared.cache_dir, shared.openclaw_version).entry.parents[2]
    cache = folder / "cache"
    cache.mkdir(exist_ok=True)
    if not (cache / installed.name).exists():
        (cache / installed.name).symlink_to(installed)
    return shared.model_copy(update={"cache_dir": cache})


def rehearsal_files(layout: Layout) -> Sequence[File]:
    return files_for(layout, "rehearsal")


def compiled_in(folder: Path) -> dict[str, int]:
    """Path -> size of everything Node has kept there."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_a_new_instance_starts_with_what_the_rehearsal_compiled(tmp_path: Path) -> None:
    # Killed in the middle first: its gateway, which is nobody's child, goes with the next rehearsal.
    settings = own_cache(tmp_path)
    home = settings.cache_dir / "rehearsal"
    first = subprocess.Popen([sys.executable, "-c", REHEARSE, str(tmp_path)], cwd=ROOT)
    while not (left := labelled.find_all(home)):
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    runtime = Process(Process.Options(), settings)
    runtime.warm_up(rehearsal_files, MEMORY)
    assert not any(labelled.is_alive(process) for members in left.values() for process in members)
    assert labelled.find_all(home) == {}
    assert list(home.iterdir()) == []
    assert runtime.list() == []
    (kept,) = settings.cache_dir.glob("openclaw-*.compiled")
    seed = compiled_in(kept)
    assert len(seed) > 2000
    assert sum(seed.values()) > 10_000_000
    assert {stat.S_IMODE(path.stat().st_mode) for path in (kept, *kept.iterdir())} == {0o555}

    asked: list[Layout] = []
    runtime.warm_up(lambda layout: asked.append(layout) or [], MEMORY)  # type: ignore[func-returns-value]
    assert asked == [], "once is enough"

    port = free_port()
    placement = runtime.create(Spec("ins_new", port, files_for(runtime.layout("ins_new", port), "ins_new"), MEMORY))
    try:
        wait_until_started(OpenClaw(OpenClaw.Options(), settings), GatewayAddress(f"http://127.0.0.1:{port}", TOKEN))
        (pid,) = {one.pid for one in labelled.find(settings.instances_dir, "ins_new") if is_gateway(one)}
        assert psutil.Process(pid).environ()["NODE_COMPILE_CACHE"] == str(kept)
        runtime.stop(placement, 60)
        assert not (settings.instances_dir / "ins_new" / "state" / "cache" / "compile").exists()
        assert compiled_in(kept).items() >= seed.items(), "nothing of it had to be compiled anew"
        assert len(compiled_in(kept)) < 1.2 * len(seed)
    finally:
        runtime.destroy(placement, "ins_new")


def is_gateway(process: psutil.Process) -> bool:
    return process.cmdline()[:1] == ["openclaw-gateway"]


def test_a_rehearsal_under_way_is_not_repeated_and_ends_with_us(tmp_path: Path) -> None:
    settings = own_cache(tmp_path)
    home = settings.cache_dir / "rehearsal"
    first = subprocess.Popen([sys.executable, "-c", REHEARSE.replace("import sys", HONEST), str(tmp_path)], cwd=ROOT)
    while not labelled.find_all(home):
        assert first.poll() is None
        time.sleep(0.05)
    began = time.monotonic()
    Process(Process.Options(), settings).warm_up(rehearsal_files, MEMORY)
    assert time.monotonic() - began < 5
    assert first.poll() is None
    deadline = time.monotonic() + 10
    while not labelled.find_all(home):  # one look may come between a keeper and its child
        assert time.monotonic() < deadline, "the other's gateway is left alone"
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 128 + signal.SIGTERM
    assert labelled.find_all(home) == {}
    assert not list(settings.cache_dir.glob("openclaw-*.compiled"))


class Folders:
    """A stage that compiles nothing: one folder with one file, and a web server that has started."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def create(self, spec: Spec) -> dict[str, str]:
        made = self.home / spec.instance_id / "made" / "v24"
        made.mkdir(parents=True)
        (made / "code").write_text("compiled")
        return {}

    def stop(self, placement: object, drain_seconds: float) -> None:
        assert (self.home / "rehearsal").exists()

    def destroy(self, placement: object, instance_id: str) -> None:
        shutil.rmtree(self.home / instance_id, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root")
def test_one_who_is_not_root_keeps_what_was_made_and_clears_what_a_kill_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed directories are no wall for root: neither to move nor to clear them."""
    monkeypatch.setattr(compiled, "_wait_until_started", lambda *_: None)
    with tempfile.TemporaryDirectory() as place:
        os.chown(place, 1000, 1000)
        kept, half = Path(place) / "cache" / "kept", Path(place) / "cache" / "kept.half"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgroups([])
                os.setgid(1000)
                os.setuid(1000)
                (half / "v24").mkdir(parents=True)
                (half / "v24" / "stale").touch()
                (half / "v24").chmod(0o555)
                half.chmod(0o555)
                kept.mkdir()
                home = Path(place) / "home"
                spec = Spec("rehearsal", 0, [])
                compiled.rehearse(Folders(home), spec, home / "rehearsal" / "made", kept)  # type: ignore[arg-type]
                code = 0 if list(home.iterdir()) == [] else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert sorted(path.name for path in kept.parent.iterdir()) == ["kept", "kept.lock"]
        assert compiled_in(kept) == {"v24/code": len("compiled")}
        assert (kept.stat().st_uid, stat.S_IMODE(kept.stat().st_mode)) == (1000, 0o555)


HONEST = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))"
