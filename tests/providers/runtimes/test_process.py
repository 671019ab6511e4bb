"""The process runtime with real OpenClaw gateways: one per instance, whatever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import GatewayAddress
from clawhaven.ports.runtime import File, Placement, Spec
from clawhaven.providers.gateways.openclaw import OpenClaw
from clawhaven.providers.runtimes import labelled
from clawhaven.providers.runtimes.process import Process
from tests.live.openclaw import PROXY_KEY, TOKEN, files_for, free_port, settings_for, wait_until_started

pytestmark = pytest.mark.live

ID = "ins_process"
ROOT = Path(__file__).resolve().parents[3]
CREATE_AND_DIE = """
import os, sys
from pathlib import Path
from clawhaven.ports.runtime import Spec
from clawhaven.providers.runtimes.process import Process
from tests.live.openclaw import files_for, settings_for
settings = settings_for(Path(sys.argv[1]))
runtime = Process(Process.Options(), settings)
instance_id, port = sys.argv[2], int(sys.argv[3])
runtime.create(Spec(instance_id, port, files_for(runtime.layout(instance_id, port), instance_id)))
os.kill(os.getpid(), 9)
"""


class World(NamedTuple):
    settings: Settings
    runtime: Process
    gateway: OpenClaw
    port: int

    @property
    def placement(self) -> Placement:
        found = self.runtime.find(ID)
        assert found is not None
        return found

    @property
    def address(self) -> GatewayAddress:
        return GatewayAddress(f"http://127.0.0.1:{self.port}", TOKEN)

    def members(self) -> list[psutil.Process]:
        return labelled.find(self.settings.instances_dir, ID)

    def gateways(self) -> list[int]:
        """Pids of OpenClaw's main process (it names itself so)."""
        return [one.pid for one in self.members() if one.cmdline()[:1] == ["openclaw-gateway"]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An instance whose control plane was killed right after it had created it."""
    data_dir = tmp_path_factory.mktemp("process")
    settings, port = settings_for(data_dir), free_port()
    runtime = Process(Process.Options(), settings)
    runtime.prepare()
    try:
        argv = [sys.executable, "-c", CREATE_AND_DIE, str(data_dir), ID, str(port)]
        assert subprocess.run(argv, cwd=ROOT, timeout=120).returncode == -signal.SIGKILL
        found = World(settings, runtime, OpenClaw(OpenClaw.Options(), settings), port)
        wait_until_started(found.gateway, found.address)
        yield found
    finally:
        runtime.destroy(None, ID)


def wait_for_end(world: World) -> None:
    """Until the runtime no longer sees it run."""
    while world.runtime.observe(world.placement).status == "running":
        time.sleep(0.05)


def test_a_gateway_outlives_the_control_plane_that_made_it(world: World) -> None:
    assert world.runtime.list() == [ID]
    assert world.runtime.observe(world.placement).memory_bytes is None
    seen = world.runtime.observe(world.placement, with_memory=True)
    assert (seen.status, seen.address) == ("running", world.address.url)
    assert seen.memory_bytes is not None
    assert 200_000_000 < seen.memory_bytes < 2_000_000_000
    assert seen.started_at is not None
    assert len(world.gateways()) == 1
    assert any("ready" in line for line in world.runtime.logs(world.placement))
    assert len(world.runtime.logs(world.placement, 3)) == 3


def test_no_secret_is_in_an_argument_an_environment_or_the_configuration(world: World) -> None:
    config = world.runtime.read(world.placement, "state/openclaw.json")
    visible = [config or "", *world.runtime.logs(world.placement, 10_000), str(world.placement)]
    for process in world.members():
        visible += [*process.cmdline(), *process.environ().values()]
    assert len(visible) > 50
    assert not [text for text in visible if TOKEN in text or PROXY_KEY in text]


def test_creating_and_starting_again_finds_the_same_gateway(world: World) -> None:
    before = world.gateways()
    spec = Spec(ID, world.port, files_for(world.runtime.layout(ID, world.port), ID))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: world.runtime.create(spec), range(4))) == [world.placement] * 4
        list(pool.map(lambda _: world.runtime.start(world.placement), range(4)))
    assert world.gateways() == before


def test_a_taken_port_is_said_and_the_other_instance_is_left_alone(world: World) -> None:
    other = "ins_other"
    try:
        with pytest.raises(ProviderError) as caught:
            world.runtime.create(Spec(other, world.port, files_for(world.runtime.layout(other, world.port), other)))
        assert (caught.value.code, caught.value.permanent) == ("port_taken", False)
        placement = world.runtime.find(other)
        assert placement is not None
        assert world.runtime.observe(placement).status == "stopped"
    finally:
        world.runtime.destroy(None, other)
    assert world.runtime.list() == [ID]
    assert len(world.gateways()) == 1


def test_new_files_arrive_and_the_gateway_takes_them_up(world: World) -> None:
    layout = world.runtime.layout(ID, world.port)
    config = files_for(layout, ID, name="Grace")[0]
    world.runtime.apply(world.placement, [config, File("state/workspace/NOTE.md", "hello")])
    assert world.runtime.read(world.placement, "state/workspace/NOTE.md") == "hello"
    for _ in range(300):
        running = world.gateway.call(world.address, "config.get")["config"]
        if running["agents"]["entries"]["main"]["identity"]["name"] == "Grace":
            return
        time.sleep(0.1)
    raise AssertionError("the new configuration was not taken up")


def test_a_stop_is_clean_and_a_stray_child_goes_too(world: World) -> None:
    home = str(world.settings.instances_dir)
    env = {**os.environ, labelled.HOME: home, labelled.INSTANCE: ID}
    stray = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=env)
    world.runtime.stop(world.placement, 60)
    assert stray.wait(10) == -signal.SIGKILL
    seen = world.runtime.observe(world.placement)
    assert (seen.status, seen.exit_code) == ("stopped", 0)
    assert world.members() == []
    world.runtime.stop(world.placement, 60)


def test_many_starts_at_once_make_one_gateway(world: World) -> None:
    others = [Process(Process.Options(), world.settings) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda runtime: runtime.start(world.placement), others))
    wait_until_started(world.gateway, world.address)
    assert len(world.gateways()) == 1


def test_a_killed_gateway_is_seen_with_its_code_and_starts_again(world: World) -> None:
    [pid] = world.gateways()
    os.kill(pid, signal.SIGKILL)
    wait_for_end(world)
    seen = world.runtime.observe(world.placement)
    assert (seen.status, seen.exit_code) == ("exited", 137)
    world.runtime.start(world.placement)
    wait_until_started(world.gateway, world.address)
    assert len(world.gateways()) == 1


def test_a_gateway_whose_keeper_was_killed_still_counts_and_can_be_stopped(world: World) -> None:
    [keeper] = [one for one in world.members() if labelled.is_keeper(one)]
    before = world.gateways()
    keeper.kill()
    keeper.wait(10)
    assert world.runtime.observe(world.placement).status == "running"
    world.runtime.start(world.placement)
    assert world.gateways() == before
    world.runtime.stop(world.placement, 60)
    seen = world.runtime.observe(world.placement)
    assert (seen.status, seen.exit_code) == ("stopped", None)


def test_a_configuration_it_cannot_start_with_is_an_exit_with_a_code(world: World) -> None:
    world.runtime.apply(world.placement, [File("state/openclaw.json", '{"gateway": {"mode": "nonsense"}}')])
    world.runtime.start(world.placement)
    wait_for_end(world)
    seen = world.runtime.observe(world.placement)
    assert seen.status == "exited"
    assert seen.exit_code not in (0, None)


def test_destroying_leaves_nothing_and_may_be_repeated(world: World) -> None:
    placement = world.placement
    world.runtime.start(placement)
    for _ in range(2):
        world.runtime.destroy(placement, ID)
        assert world.runtime.find(ID) is None
        assert world.runtime.list() == []
        assert world.runtime.observe(placement).status == "absent"
        assert world.members() == []
    with pytest.raises(ProviderError, match="no files"):
        world.runtime.start(placement)


@pytest.mark.parametrize("instance_id", ["", "..", "../x", "a/b", "A", ".hidden"])
def test_what_is_no_id_touches_no_path(tmp_path: Path, instance_id: str) -> None:
    runtime = Process(Process.Options(), settings_for(tmp_path))
    with pytest.raises(ProviderError) as caught:
        runtime.destroy(None, instance_id)
    assert (caught.value.code, caught.value.permanent) == ("bad_id", True)


def test_a_foreign_listener_holds_its_port(tmp_path: Path) -> None:
    runtime = Process(Process.Options(), settings_for(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        port = foreign.getsockname()[1]
        with pytest.raises(ProviderError) as caught:
            runtime.create(Spec("ins_x", port, files_for(runtime.layout("ins_x", port), "ins_x")))
    assert caught.value.code == "port_taken"
    assert labelled.find(tmp_path / "customers", "ins_x") == []
