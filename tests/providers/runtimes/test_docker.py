"""The `docker` runtime against a real engine: lifecycles with a light gateway, everything else with OpenClaw itself."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import docker
import docker.errors
import pytest

from clawhaven.core.ids import new_id
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File, Observation
from clawhaven.providers.runtimes.docker import Docker
from tests.conftest import free_port
from tests.providers.runtimes import docker_lab as lab
from tests.providers.runtimes.docker_looks import get, networks_of, wait_for

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

REPO = Path(__file__).parents[3]
TOKEN = "gateway-token-0123456789abcdef0123456789"
PROXY_KEY = "chp-proxy-key-never-in-inspect"


# -- lifecycle


def test_lifecycle(runtime: Docker, engine: docker.DockerClient, instance_id: str) -> None:
    port = free_port()
    assert runtime.find(instance_id) is None
    placement = runtime.create(lab.small_spec(instance_id, port))
    assert runtime.find(instance_id) == placement
    assert runtime.list() == [instance_id]
    assert runtime.observe(placement).memory_bytes is None
    seen = runtime.observe(placement, with_memory=True)
    assert (seen.status, seen.address) == ("running", f"http://127.0.0.1:{port}")
    assert seen.started_at is not None
    assert seen.started_at.tzinfo is not None
    assert seen.memory_bytes is not None
    assert 1_000_000 < seen.memory_bytes < 256 * 1024**2
    wait_for(lambda: get(seen.address, "/")[0] == 200)
    assert runtime.read(placement, "state/openclaw.json") == "{}"
    assert runtime.read(placement, "state/none.json") is None

    runtime.stop(placement, 10)
    runtime.stop(placement, 10)
    seen = runtime.observe(placement)
    assert (seen.status, seen.exit_code, seen.memory_bytes) == ("stopped", 0, None)
    assert runtime.logs(placement, 2) == ["idle gateway listens", "told to stop"]
    assert runtime.logs(placement, 1) == ["told to stop"]
    runtime.start(placement)
    runtime.start(placement)
    assert runtime.observe(placement).status == "running"

    runtime.destroy(placement, instance_id)
    runtime.destroy(placement, instance_id)
    assert runtime.observe(placement) == Observation("absent")
    assert (runtime.find(instance_id), runtime.list(), networks_of(engine, instance_id)) == (None, [], [])
    assert not (runtime._settings.instances_dir / instance_id).exists()
    assert runtime.logs(placement) == []
    runtime.stop(placement, 0)
    with pytest.raises(ProviderError) as raised:
        runtime.start(placement)
    assert raised.value.code == "absent"


def test_create_again_finds_what_is_there(runtime: Docker, engine: docker.DockerClient, instance_id: str) -> None:
    spec = lab.small_spec(instance_id, free_port())
    placement = runtime.create(spec)
    container = engine.containers.get(f"clawhaven-{instance_id}")
    runtime.apply(placement, [File("state/openclaw.json", '{"meta": "the gateway wrote this"}')])
    assert runtime.create(spec) == placement
    again = engine.containers.get(f"clawhaven-{instance_id}")
    assert (again.id, again.attrs["State"]["StartedAt"]) == (container.id, container.attrs["State"]["StartedAt"])
    assert "gateway wrote" in (runtime.read(placement, "state/openclaw.json") or "")
    runtime.stop(placement, 1)
    runtime.create(spec)
    assert runtime.observe(placement).status == "running"
    assert engine.containers.get(f"clawhaven-{instance_id}").id == container.id


def test_create_with_another_port_or_image_replaces_the_container_and_keeps_the_state(
    runtime: Docker, real: Docker, engine: docker.DockerClient, instance_id: str
) -> None:
    first = runtime.create(lab.small_spec(instance_id, free_port()))
    network = networks_of(engine, instance_id)
    runtime.apply(first, [File("state/memory.txt", "remember me")])
    port = free_port()
    second = runtime.create(lab.small_spec(instance_id, port))
    assert second["port"] == port
    wait_for(lambda: get(f"http://127.0.0.1:{port}", "/")[0] == 200)
    assert get(f"http://127.0.0.1:{first['port']}", "/")[0] == 0
    assert runtime.read(second, "state/memory.txt") == "remember me"
    assert networks_of(engine, instance_id) == network

    container = engine.containers.get(f"clawhaven-{instance_id}")
    other = container.commit("clawhaven-test/idle", "other")
    try:
        renewed = lab.idle_runtime(runtime._settings.data_dir, openclaw_image="clawhaven-test/idle:other")
        third = renewed.create(lab.small_spec(instance_id, port))
        assert third["image"] == other.id != second["image"]
        assert renewed.read(third, "state/memory.txt") == "remember me"
    finally:
        runtime.destroy(None, instance_id)
        engine.images.remove("clawhaven-test/idle:other", force=True)


def test_kept_file_is_written_once(runtime: Docker, instance_id: str) -> None:
    port, kept = free_port(), File("state/workspace/SOUL.md", "born", keep=True)
    placement = runtime.create(lab.small_spec(instance_id, port, kept, File("state/a.json", "1")))
    runtime.apply(placement, [File("state/workspace/SOUL.md", "grown", keep=True), File("state/a.json", "2")])
    assert runtime.read(placement, "state/workspace/SOUL.md") == "born"
    assert runtime.read(placement, "state/a.json") == "2"


@pytest.mark.parametrize("step", ["network", "files", "file", "container", "start", "started"])
def test_kill_between_steps(runtime: Docker, engine: docker.DockerClient, instance_id: str, step: str) -> None:
    """kill -9 before each step; a second create ends in the same state, and destroy alone leaves nothing."""
    port = free_port()
    script = """
import os, signal, sys
from pathlib import Path
from docker.models.containers import Container
from clawhaven.providers.runtimes import docker_container, docker_files
from clawhaven.providers.runtimes.docker import Docker
from clawhaven.providers.runtimes.docker_network import Networks
from tests.providers.runtimes import docker_lab as lab
def die(*a, **k):
    os.kill(os.getpid(), signal.SIGKILL)
step, data, instance, port = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
owner, name = {"network": (Networks, "_make"), "files": (Docker, "_write"), "file": (docker_files, "write"),
  "container": (Docker, "_make"), "start": (Container, "start"), "started": (docker_container, "place")}[step]
setattr(owner, name, die)
lab.idle_runtime(data).create(lab.small_spec(instance, port))
"""

    def create_and_die() -> None:
        command = [sys.executable, "-c", script, step, str(runtime._settings.data_dir), instance_id, str(port)]
        done = subprocess.run(command, cwd=REPO, check=False, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr

    create_and_die()
    assert runtime.list() == ([] if step == "network" else [instance_id])
    placement = runtime.create(lab.small_spec(instance_id, port))
    wait_for(lambda: get(f"http://127.0.0.1:{port}", "/")[0] == 200)
    assert runtime.read(placement, "state/openclaw.json") == "{}"
    assert len(networks_of(engine, instance_id)) == 1
    runtime.destroy(placement, instance_id)
    create_and_die()
    runtime.destroy(None, instance_id)
    assert (runtime.list(), networks_of(engine, instance_id)) == ([], [])
    assert not (runtime._settings.instances_dir / instance_id).exists()


def test_two_creates_at_once_make_one(runtime: Docker, engine: docker.DockerClient, instance_id: str) -> None:
    spec = lab.small_spec(instance_id, free_port())
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        placements = list(pool.map(lambda _: runtime.create(spec), range(4)))
    assert all(placement == placements[0] for placement in placements)
    assert len(engine.containers.list(all=True, filters={"name": f"clawhaven-{instance_id}"})) == 1
    assert len(networks_of(engine, instance_id)) == 1


def test_networks_made_at_once_do_not_collide(runtime: Docker, engine: docker.DockerClient) -> None:
    """Two objects, as two worker processes would have, so that only the lock file and the engine keep order."""
    both = [runtime, lab.idle_runtime(runtime._settings.data_dir)]
    ids = [new_id("ins") for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: both[n % 2]._networks.ensure(ids[n], None), range(8)))
    subnets = {
        network.attrs["IPAM"]["Config"][0]["Subnet"]
        for instance in ids
        for network in engine.networks.list(names=[f"clawhaven-{instance}"])
    }
    assert len(subnets) == 8
    assert all(subnet.startswith("10.213.") and subnet.endswith("/28") for subnet in subnets)


def test_pool_and_explicit_subnets(idle_image: str, tmp_path: Path, engine: docker.DockerClient) -> None:
    runtime = lab.idle_runtime(tmp_path / "data", docker_subnet_pool="10.214.7.0/28")
    try:
        with pytest.raises(ProviderError) as raised:
            runtime._networks.ensure(new_id("ins"), "10.99.0.0/28")
        assert (raised.value.code, raised.value.permanent) == ("no_subnet", True)
        first = new_id("ins")
        assert runtime._networks.ensure(first, "10.214.7.0/28")[1] == "10.214.7.0/28"
        assert runtime._networks.ensure(first, None)[1] == "10.214.7.0/28"
        assert runtime._networks.ensure(first, "10.214.7.0/29")[1] == "10.214.7.0/29"
        with pytest.raises(ProviderError) as raised:
            runtime._networks.ensure(new_id("ins"), None)
        assert raised.value.code == "no_subnet"
        assert runtime.list() == [first]
    finally:
        lab.wipe(runtime)
    assert networks_of(engine, first) == []


# -- what goes wrong


def test_port_taken_is_told_and_undone(runtime: Docker, engine: docker.DockerClient, instance_id: str) -> None:
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        with pytest.raises(ProviderError) as raised:
            runtime.create(lab.small_spec(instance_id, foreign.getsockname()[1]))
    assert raised.value.code == "port_taken"
    assert (runtime.find(instance_id), runtime.list(), networks_of(engine, instance_id)) == (None, [], [])
    assert not (runtime._settings.instances_dir / instance_id).exists()
    assert runtime.create(lab.small_spec(instance_id, free_port()))["instance"] == instance_id


def test_a_failed_replacement_keeps_the_data(runtime: Docker, instance_id: str) -> None:
    placement = runtime.create(lab.small_spec(instance_id, free_port()))
    runtime.apply(placement, [File("state/memory.txt", "remember me")])
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        with pytest.raises(ProviderError):
            runtime.create(lab.small_spec(instance_id, foreign.getsockname()[1]))
    placement = runtime.create(lab.small_spec(instance_id, free_port()))
    assert runtime.read(placement, "state/memory.txt") == "remember me"


def test_another_installation_is_left_alone(runtime: Docker, tmp_path: Path, instance_id: str) -> None:
    other = lab.idle_runtime(tmp_path / "other")
    theirs = other.create(lab.small_spec(instance_id, free_port()))
    try:
        with pytest.raises(ProviderError) as raised:
            runtime.create(lab.small_spec(instance_id, free_port()))
        assert (raised.value.code, raised.value.permanent) == ("name_taken", True)
        assert (runtime.find(instance_id), runtime.list()) == (None, [])
        runtime.destroy(None, instance_id)
        assert other.observe(theirs).status == "running"
    finally:
        lab.wipe(other)


def test_a_gateway_that_dies_is_exited_with_its_code(runtime: Docker, instance_id: str) -> None:
    placement = runtime.create(lab.small_spec(instance_id, free_port(), File("state/exit", "78")))

    def is_dead() -> bool:
        seen = runtime.observe(placement)
        return seen.status == "exited" and seen.exit_code == 78

    wait_for(is_dead)
    wait_for(lambda: "restarted" in runtime.observe(placement).detail)
    runtime.stop(placement, 1)
    assert runtime.observe(placement).status == "stopped"


def test_out_of_memory_is_seen(runtime: Docker, instance_id: str) -> None:
    placement = runtime.create(lab.small_spec(instance_id, free_port(), File("state/hog", "1")))

    def is_killed() -> Observation | None:
        seen = runtime.observe(placement)
        return seen if seen.status == "exited" and seen.oom_killed else None

    assert wait_for(is_killed).exit_code == 137


def test_stop_waits_for_the_turn_in_flight(runtime: Docker, instance_id: str) -> None:
    placement = runtime.create(lab.small_spec(instance_id, free_port(), File("state/slow", "1500")))
    wait_for(lambda: get(f"http://127.0.0.1:{placement['port']}", "/")[0] == 200)
    runtime.stop(placement, 30)
    assert runtime.observe(placement).exit_code == 0
    runtime.apply(placement, [File("state/slow", "600000")])
    runtime.start(placement)
    wait_for(lambda: get(f"http://127.0.0.1:{placement['port']}", "/")[0] == 200)
    runtime.stop(placement, 1)
    seen = runtime.observe(placement)
    assert (seen.status, seen.exit_code, seen.oom_killed) == ("stopped", 137, False)


def test_no_engine(tmp_path: Path, instance_id: str) -> None:
    runtime = lab.idle_runtime(tmp_path / "data", docker_host=f"unix://{tmp_path}/none.sock")
    calls: list[Callable[[], object]] = [
        runtime.prepare,
        lambda: runtime.create(lab.small_spec(instance_id, 30000)),
        lambda: runtime.find(instance_id),
        runtime.list,
        lambda: runtime.destroy(None, instance_id),
        lambda: runtime.validate("{}"),
    ]
    for call in calls:
        with pytest.raises(ProviderError) as raised:
            call()
        assert (raised.value.code, raised.value.permanent) == ("docker_down", False)
    [missing] = runtime.missing()
    assert "docker.io" in missing.fix


def test_image_missing(engine: docker.DockerClient, tmp_path: Path, instance_id: str) -> None:
    runtime = lab.idle_runtime(tmp_path / "data", openclaw_image="clawhaven-test/none:1")
    with pytest.raises(ProviderError, match="prepared first") as raised:
        runtime.create(lab.small_spec(instance_id, free_port()))
    assert raised.value.code == "image_missing"
    assert runtime.list() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tiny file system needs root")
def test_disk_full(runtime: Docker, instance_id: str) -> None:
    place = runtime._settings.instances_dir
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=True)
    try:
        with pytest.raises(ProviderError) as raised:
            runtime.create(lab.small_spec(instance_id, free_port(), File("state/big", "x" * 200_000)))
        assert (raised.value.code, raised.value.permanent) == ("disk_full", False)
        runtime.destroy(None, instance_id)
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("bad", ["../x", "a/b", "", "INS", "x" * 60])
def test_bad_ids_never_reach_a_path(runtime: Docker, bad: str) -> None:
    calls: list[Callable[[], object]] = [lambda: runtime.find(bad), lambda: runtime.destroy(None, bad)]
    for call in calls:
        with pytest.raises(ProviderError) as raised:
            call()
        assert raised.value.code == "invalid_id"
