"""What a rehearsal in a container compiles, later containers read; what a kill leaves goes with the next one."""

from __future__ import annotations

import functools
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import docker
import pytest

from clawhaven.core.settings import Settings
from clawhaven.ports.runtime import File, Layout, Spec
from clawhaven.providers.runtimes import compiled
from clawhaven.providers.runtimes.docker import FROM_OUTSIDE, Docker
from clawhaven.providers.runtimes.docker_cell import COMPILED, STATE
from tests.conftest import free_port
from tests.live.openclaw import files_for
from tests.providers.runtimes import docker_lab as lab
from tests.providers.runtimes.docker_looks import get, is_open, run_inside, wait_for

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

REPO = Path(__file__).parents[3]
MEMORY = 512 * 1024**2
KEY = re.compile(r"NODE_COMPILE_CACHE=(.*)")


def installation(folder: Path, **options: str) -> Docker:
    """One with a cache of its own."""
    given = Docker.Options(**options)  # type: ignore[arg-type]
    return Docker(given, Settings(data_dir=folder / "data", cache_dir=folder / "cache"))


def idle_files(_: Layout) -> Sequence[File]:
    return lab.small_spec("rehearsal", 1).files


@pytest.fixture
def fresh(idle_image: str, tmp_path: Path) -> Iterator[Docker]:
    """A new installation with the light image, which nobody has rehearsed."""
    made = installation(tmp_path, openclaw_image=lab.IDLE_IMAGE)
    yield made
    lab.wipe(made)


def traces(engine: docker.DockerClient, runtime: Docker) -> list[str]:
    """What the engine and the disk still have of rehearsals."""
    name = re.compile(r"clawhaven-rehearsal-.*")
    found = [one.name or "" for one in engine.containers.list(all=True)]
    found += [one.name or "" for one in engine.networks.list()]
    cache = runtime._settings.cache_dir
    folders = [str(path) for path in (*cache.glob("docker-rehearsal/*"), *cache.glob("docker-compiled/*.half"))]
    return [text for text in found if name.fullmatch(text)] + folders


def cache_of(engine: docker.DockerClient, instance_id: str) -> str:
    """The directory for compiled code that the container names to Node."""
    environment = engine.containers.get(f"clawhaven-{instance_id}").attrs["Config"]["Env"]
    (said,) = [found[1] for pair in environment if (found := KEY.fullmatch(pair))]
    return said


@pytest.mark.parametrize("step", ["started", "stopped", "moved", "cleared"])
def test_killed_on_the_way(fresh: Docker, engine: docker.DockerClient, tmp_path: Path, step: str) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from clawhaven.providers.runtimes import compiled
from clawhaven.providers.runtimes.docker import Docker
from tests.providers.runtimes.test_docker_rehearsal import MEMORY, idle_files, installation
from tests.providers.runtimes import docker_lab as lab
def die(*a, **k):
    os.kill(os.getpid(), signal.SIGKILL)
step = sys.argv[1]
rename, chmod, destroy = Path.rename, Path.chmod, Docker.destroy
if step == "started":
    compiled._wait_until_started = die
elif step == "stopped":
    Path.rename = lambda path, to: die() if str(to).endswith(".half") else rename(path, to)
elif step == "moved":
    Path.chmod = die
else:
    Path.rename = lambda path, to: die() if str(path).endswith(".half") else rename(path, to)
installation(Path(sys.argv[2]), openclaw_image=lab.IDLE_IMAGE).warm_up(idle_files, MEMORY)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, step, str(tmp_path)], cwd=REPO, check=False, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert traces(engine, fresh) != []
    assert (fresh.list(), fresh.find("rehearsal")) == ([], None)
    kept = fresh._compiled(fresh._image.require())
    assert not compiled.is_ready(kept)
    fresh.warm_up(idle_files, MEMORY)
    assert (traces(engine, fresh), fresh.list()) == ([], [])
    assert compiled.is_ready(kept)


def test_later_containers_read_it_and_earlier_ones_stay(
    fresh: Docker, engine: docker.DockerClient, instance_id: str
) -> None:
    early, late = instance_id, f"{instance_id}b"
    before = lab.small_spec(early, free_port())
    fresh.create(before)
    container = engine.containers.get(f"clawhaven-{early}").id
    fresh.warm_up(idle_files, MEMORY)
    fresh.warm_up(lambda _: pytest.fail("once is enough"), MEMORY)
    fresh.create(before)
    assert engine.containers.get(f"clawhaven-{early}").id == container, "not made anew for that"
    assert cache_of(engine, early) == f"{STATE}/cache/node"

    placement = fresh.create(lab.small_spec(late, free_port()))
    wait_for(functools.partial(is_open, placement["port"]))
    assert cache_of(engine, late) == COMPILED
    listed = run_inside(engine, late, "find", COMPILED, "-type", "f")[1].split()
    assert listed
    for command in (["touch", f"{COMPILED}/mine"], ["rm", listed[0]], ["chmod", "777", listed[0]]):
        code, said = run_inside(engine, late, *command)
        assert code != 0
        assert "Read-only file system" in said
    assert (fresh._settings.cache_dir / "docker-compiled").stat().st_mode & 0o777 == 0o700


def test_a_cleared_cache_stops_nobody(fresh: Docker, engine: docker.DockerClient, instance_id: str) -> None:
    fresh.warm_up(idle_files, MEMORY)
    spec = lab.small_spec(instance_id, free_port())
    placement = fresh.create(spec)
    container = engine.containers.get(placement["name"]).id
    fresh.stop(placement, 5)
    shutil.rmtree(fresh._settings.cache_dir)
    fresh.start(placement)
    wait_for(functools.partial(is_open, placement["port"]))
    fresh.create(spec)
    assert engine.containers.get(placement["name"]).id == container
    other = fresh.create(lab.small_spec(f"{instance_id}b", free_port()))
    assert cache_of(engine, other["instance"]) == f"{STATE}/cache/node", "an empty directory is of no use"
    fresh.warm_up(idle_files, MEMORY)
    fresh.stop(placement, 5)
    fresh.start(placement)
    wait_for(functools.partial(is_open, placement["port"]))
    assert run_inside(engine, instance_id, "find", COMPILED, "-type", "f")[1].split()


def test_openclaw_itself_starts_with_what_the_rehearsal_compiled(
    real: Docker, engine: docker.DockerClient, tmp_path: Path, instance_id: str
) -> None:
    runtime = installation(tmp_path, openclaw_image=real._image.require())
    runtime.warm_up(lambda layout: files_for(layout, "rehearsal"), 2 * 1024**3)
    assert traces(engine, runtime) == []
    kept = runtime._compiled(runtime._image.require())
    files = [path for path in kept.rglob("*") if path.is_file()]
    assert len(files) > 2000
    assert sum(path.stat().st_size for path in files) > 10_000_000
    port = free_port()
    layout = runtime.layout(instance_id, port)
    # Another size than the rehearsal's: the limits of a container are none of V8's flags.
    placement = runtime.create(Spec(instance_id, port, files_for(layout, instance_id), 3 * 1024**3))
    try:
        wait_for(lambda: b'"started"' in get(f"http://127.0.0.1:{port}", "/startupz", **FROM_OUTSIDE)[1], 180)
        watched = "NODE_DEBUG_NATIVE=COMPILE_CACHE node openclaw.mjs health --help 2>&1"
        said = run_inside(engine, instance_id, "sh", "-c", watched)[1]
        assert said.count("was accepted") > 100
        assert said.count("was accepted") > 20 * said.count("was rejected")
        assert f"reading cache from {COMPILED}/" in said
        runtime.stop(placement, 60)
        assert runtime.observe(placement).exit_code == 0
        assert not (runtime._settings.instances_dir / instance_id / "state" / "cache" / "node").exists()
    finally:
        runtime.destroy(placement, instance_id)
