"""The `docker` runtime against a real engine: lifecycles with a light gateway, everything else with OpenClaw itself."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
import yaml

from clawhaven.core.ids import new_id
from clawhaven.instances.config import build_config, build_secrets
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File, Observation, Spec
from clawhaven.providers.runtimes.docker import Docker
from tests.conftest import free_port
from tests.providers.runtimes import docker_lab as lab

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

REPO = Path(__file__).parents[3]
TOKEN = "gateway-token-0123456789abcdef0123456789"
PROXY_KEY = "chp-proxy-key-never-in-inspect"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[docker.DockerClient]:
    """A client of the real engine, to look at what the runtime did."""
    with (
        lab.running_engine(tmp_path_factory.mktemp("engine")),
        contextlib.closing(docker.from_env(version="auto", timeout=120)) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def real(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """The runtime with OpenClaw's image, built if it is not there."""
    runtime = Docker(
        Docker.Options(docker_base=lab.base()), lab.cache_settings(tmp_path_factory.mktemp("real") / "data")
    )
    runtime.prepare()
    yield runtime
    lab.wipe(runtime)


@pytest.fixture(scope="module")
def idle_image(real: Docker) -> str:
    """The light image's id."""
    return lab.build_idle_image(real._image.reference())


@pytest.fixture
def runtime(idle_image: str, tmp_path: Path) -> Iterator[Docker]:
    """A fresh installation that uses the light image."""
    made = lab.idle_runtime(tmp_path / "data")
    yield made
    lab.wipe(made)


@pytest.fixture
def instance_id() -> str:
    return new_id("ins")


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true answer; fails with the last one when none comes."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds} s"
        time.sleep(0.1)
    return answer


def get(address: str | None, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body; 0 when nobody answers."""
    request = urllib.request.Request(f"{address}{path}", headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def is_open(port: int) -> bool:
    return get(f"http://127.0.0.1:{port}", "/")[0] == 200


def run_inside(engine: docker.DockerClient, instance_id: str, *command: str) -> tuple[int, str]:
    """Exit code and output of a command in the container, as the assistant's shell would run it."""
    result = engine.containers.get(f"clawhaven-{instance_id}").exec_run(list(command))
    assert isinstance(result.output, bytes)
    return result.exit_code or 0, result.output.decode(errors="replace")


def networks_of(engine: docker.DockerClient, instance_id: str) -> list[str]:
    return [str(network.id) for network in engine.networks.list(names=[f"clawhaven-{instance_id}"])]


# -- lifecycle


def test_lifecycle(runtime: Docker, engine: docker.DockerClient, instance_id: str) -> None:
    port = free_port()
    assert runtime.find(instance_id) is None
    placement = runtime.create(lab.small_spec(instance_id, port))
    assert runtime.find(instance_id) == placement
    assert runtime.list() == [instance_id]
    seen = runtime.observe(placement)
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
from clawhaven.providers.runtimes import docker_files
from clawhaven.providers.runtimes.docker import Docker
from clawhaven.providers.runtimes.docker_network import Networks
from tests.providers.runtimes import docker_lab as lab
def die(*a, **k):
    os.kill(os.getpid(), signal.SIGKILL)
step, data, instance, port = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
owner, name = {"network": (Networks, "_make"), "files": (Docker, "_write"), "file": (docker_files, "write"),
  "container": (Docker, "_make"), "start": (Container, "start"), "started": (Docker, "_placement")}[step]
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


# -- walls


def test_one_assistant_cannot_reach_another(runtime: Docker, engine: docker.DockerClient) -> None:
    first, second = (runtime.create(lab.small_spec(new_id("ins"), free_port())) for _ in range(2))
    for placement in (first, second):
        wait_for(functools.partial(is_open, placement["port"]))
    networks = engine.containers.get(second["name"]).attrs["NetworkSettings"]["Networks"]
    address = networks[second["name"]]["IPAddress"]
    ask = ["curl", "-sS", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}"]
    assert run_inside(engine, second["instance"], *ask, f"http://{address}:18789/") == (0, "200")  # it does listen
    assert run_inside(engine, first["instance"], *ask, f"http://{address}:18789/")[0] != 0
    assert run_inside(engine, first["instance"], *ask, f"http://{second['name']}:18789/")[0] != 0
    for host in ("host.docker.internal", str(networks[second["name"]]["Gateway"])):
        assert run_inside(engine, first["instance"], *ask, f"http://{host}:{second['port']}/")[0] != 0


def test_a_container_reaches_the_proxy_address(runtime: Docker, engine: docker.DockerClient, instance_id: str) -> None:
    host, port = runtime.proxy_listen_address()
    assert not host.startswith("0.")
    assert port == runtime._settings.platform_port + 1

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

    with http.server.ThreadingHTTPServer((host, 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        runtime.create(lab.small_spec(instance_id, free_port()))
        url = f"http://host.docker.internal:{server.server_port}/"
        ask = ["curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url]
        assert run_inside(engine, instance_id, *ask) == (0, "204")
        server.shutdown()


def test_a_link_made_by_the_assistant_is_not_followed(
    runtime: Docker, engine: docker.DockerClient, instance_id: str, tmp_path: Path
) -> None:
    placement = runtime.create(lab.small_spec(instance_id, free_port()))
    target = tmp_path / "host.txt"
    target.write_text("the host's own")
    target.chmod(0o644)
    for command in (
        f"ln -s {target} /home/node/.openclaw/link",
        f"ln -s {tmp_path} /home/node/.openclaw/folder",
        "mkfifo /home/node/.openclaw/pipe",
    ):
        assert run_inside(engine, instance_id, "sh", "-c", command)[0] == 0
    for path in ("state/link", "state/folder/host.txt", "state/pipe"):
        with pytest.raises(ProviderError) as raised:
            runtime.read(placement, path)
        assert raised.value.code == "unsafe_path"
    with pytest.raises(ProviderError):
        runtime.apply(placement, [File("state/folder/host.txt", "overwritten")])
    runtime.apply(placement, [File("state/link", "replaced, not followed")])
    assert target.read_text() == "the host's own"
    assert runtime.read(placement, "state/link") == "replaced, not followed"
    assert (
        run_inside(
            engine,
            instance_id,
            "sh",
            "-c",
            "mkdir -p /home/node/.openclaw/shut/in && chmod 0 /home/node/.openclaw/shut",
        )[0]
        == 0
    )
    runtime.destroy(placement, instance_id)
    assert target.exists()
    assert not (runtime._settings.instances_dir / instance_id).exists()


def test_compose_file_says_the_same(runtime: Docker, engine: docker.DockerClient, instance_id: str) -> None:
    placement = runtime.create(lab.small_spec(instance_id, free_port()))
    container = engine.containers.get(placement["name"])
    config, host = container.attrs["Config"], container.attrs["HostConfig"]
    text = (runtime._settings.instances_dir / instance_id / "compose.yaml").read_text()
    document = yaml.safe_load(text.replace("$$", "$"))
    service = document["services"]["gateway"]
    environment = dict(pair.split("=", 1) for pair in config["Env"])
    assert service["container_name"] == placement["name"]
    assert service["image"] == container.attrs["Image"]
    assert (service["user"], service["hostname"]) == (config["User"], config["Hostname"])
    assert service["entrypoint"] + service["command"] == config["Entrypoint"] + config["Cmd"]
    assert service["environment"].items() <= environment.items()
    assert service["labels"].items() <= config["Labels"].items()
    assert service["stop_grace_period"] == f"{config['StopTimeout']}s"
    [binding] = host["PortBindings"]["18789/tcp"]
    assert service["ports"] == [f"{binding['HostIp']}:{binding['HostPort']}:18789"]
    assert service["read_only"] == host["ReadonlyRootfs"]
    assert service["init"] == host["Init"]
    assert (service["cap_drop"], service["security_opt"]) == (host["CapDrop"], host["SecurityOpt"])
    assert (service["pids_limit"], service["mem_limit"]) == (host["PidsLimit"], host["Memory"])
    assert service["memswap_limit"] == host["MemorySwap"]
    assert service["cpus"] * 1e9 == host["NanoCpus"]
    assert service["restart"] == host["RestartPolicy"]["Name"]
    assert service["logging"]["options"] == host["LogConfig"]["Config"]
    assert service["extra_hosts"] == host["ExtraHosts"]
    assert service["tmpfs"] == [f"{path}:{options}" for path, options in host["Tmpfs"].items()]
    assert [(v["source"], v["target"]) for v in service["volumes"]] == [
        (mount["Source"], mount["Target"]) for mount in host["Mounts"]
    ]
    [network] = engine.networks.list(names=[placement["name"]])
    [pool], [said] = network.attrs["IPAM"]["Config"], document["networks"]["cell"]["ipam"]["config"]
    assert said == {"subnet": pool["Subnet"], "gateway": pool["Gateway"]}
    assert document["networks"]["cell"]["labels"] == network.attrs["Labels"]


# -- with OpenClaw itself


def real_files(runtime: Docker, instance_id: str, port: int) -> tuple[File, ...]:
    config = build_config(
        runtime.layout(instance_id, port),
        name="Ada",
        instance_id=instance_id,
        model="sandbox",
        model_api="anthropic-messages",
        max_output_tokens=4096,
        context_window=200_000,
        origins=[f"http://127.0.0.1:{port}"],
        channels={},
    )
    return (
        File("state/openclaw.json", config),
        File("secrets/secrets.json", build_secrets(TOKEN, PROXY_KEY, {})),
        *(File(f"state/workspace/{name}.md", f"# {name}\n") for name in ("AGENTS", "SOUL", "IDENTITY", "USER")),
    )


@pytest.fixture(scope="module")
def gateway(real: Docker) -> Iterator[dict[str, Any]]:
    """One real, started gateway for the tests below."""
    instance_id, port = new_id("ins"), free_port()
    placement = real.create(Spec(instance_id, port, real_files(real, instance_id, port)))
    address = f"http://127.0.0.1:{port}"

    def is_started() -> bool:
        status, body = get(address, "/startupz", X_Forwarded_For="203.0.113.7")
        return status == 200 and body.startswith(b"{") and json.loads(body).get("status") == "started"

    try:
        wait_for(is_started, 180)
    except AssertionError:
        pytest.fail("\n".join(real.logs(placement, 60)))
    yield dict(placement) | {"address": address}
    real.destroy(placement, instance_id)


def test_a_real_gateway_answers(real: Docker, gateway: dict[str, Any]) -> None:
    assert json.loads(get(gateway["address"], "/healthz")[1]) == {"ok": True, "status": "live"}
    seen = real.observe(gateway)
    assert (seen.status, seen.oom_killed) == ("running", False)
    assert seen.memory_bytes is not None
    assert 200 * 1024**2 < seen.memory_bytes < 2 * 1024**3
    assert any("ready" in line for line in real.logs(gateway, 100))


def test_the_control_plane_must_name_the_client_it_speaks_for(gateway: dict[str, Any]) -> None:
    """Calls through the published port come from the bridge, which is a trusted proxy."""
    body = json.dumps({"method": "health", "params": {}}).encode()

    def call(**headers: str) -> int:
        request = urllib.request.Request(
            f"{gateway['address']}/api/v1/admin/rpc",
            body,
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert json.loads(answer.read())["ok"] is True
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert call(**{"X-Forwarded-For": "203.0.113.7"}) == 200
    assert call(**{"X-Forwarded-For": "127.0.0.1"}) == 403
    assert call() == 403


def test_hardening_seen_from_inside(engine: docker.DockerClient, gateway: dict[str, Any]) -> None:
    def inside(command: str) -> tuple[int, str]:
        return run_inside(engine, gateway["instance"], "sh", "-c", command)

    assert inside("id -u; id -g; hostname")[1].split() == ["1000", "1000", gateway["instance"].replace("_", "-")]
    status = dict(line.split(":\t", 1) for line in inside("cat /proc/self/status")[1].splitlines() if ":\t" in line)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    for path in ("/", "/app", "/usr/local/bin", "/home/node", "/etc"):
        code, said = inside(f"touch {path}/probe")
        assert code != 0
        assert "Read-only" in said or "Permission" in said
    for path in ("/tmp", "/home/node/.openclaw", "/home/node/.config/openclaw"):
        assert inside(f"touch {path}/probe && rm {path}/probe") == (0, "")
    assert inside("stat -c '%a %u' /home/node/.openclaw /home/node/.config/openclaw")[1].split() == ["700", "1000"] * 2
    assert inside("stat -c %a /home/node/.config/openclaw/secrets.json")[1].strip() == "600"
    assert inside("df -m /tmp | awk 'NR==2{print $2}'")[1].strip() == "512"
    assert inside("ls /var/run/docker.sock")[0] != 0
    assert "docker-init" in inside("cat /proc/1/cmdline")[1] or "tini" in inside("cat /proc/1/cmdline")[1]


def test_hardening_seen_by_the_engine(real: Docker, engine: docker.DockerClient, gateway: dict[str, Any]) -> None:
    container = engine.containers.get(gateway["name"])
    host = container.attrs["HostConfig"]
    assert (host["Privileged"], host["ReadonlyRootfs"], host["Init"]) == (False, True, True)
    assert (host["CapDrop"], host["CapAdd"] or []) == (["ALL"], [])
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (2 * 1024**3, 2 * 1024**3, 512)
    assert 0 < host["NanoCpus"] <= 2_000_000_000
    assert host["PortBindings"] == {"18789/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(gateway["port"])}]}
    assert host["NetworkMode"] == gateway["name"]
    assert list(container.attrs["NetworkSettings"]["Networks"]) == [gateway["name"]]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert set(host["LogConfig"]["Config"]) == {"max-size", "max-file"}
    assert len(container.attrs["Mounts"]) == 2
    assert container.attrs["Config"]["Image"].startswith("sha256:")
    shown = json.dumps(container.attrs) + json.dumps(engine.images.get(container.attrs["Image"]).history())
    assert TOKEN not in shown
    assert PROXY_KEY not in shown
    root = real._settings.instances_dir / gateway["instance"]
    assert TOKEN not in (root / "compose.yaml").read_text() + (root / "state" / "openclaw.json").read_text()


def test_a_changed_config_is_taken_up_while_running(real: Docker, gateway: dict[str, Any]) -> None:
    changed = json.loads(real.read(gateway, "state/openclaw.json") or "")
    changed["session"]["reset"] = {"mode": "idle", "idleMinutes": 77}
    before = real.observe(gateway).started_at
    real.apply(gateway, [File("state/openclaw.json", json.dumps(changed))])
    wait_for(lambda: any("reload" in line and "session.reset" in line for line in real.logs(gateway, 40)), 60)
    assert real.observe(gateway).started_at == before


def test_validate(real: Docker, instance_id: str) -> None:
    good = real_files(real, instance_id, 30000)[0].content
    assert real.validate(good) == []
    bad = json.loads(good)
    bad["telegramm"] = {}
    bad["gateway"]["port"] = "many"
    said = real.validate(json.dumps(bad))
    assert any("telegramm" in problem for problem in said)
    assert any("gateway.port" in problem for problem in said)
    assert real.validate(json.dumps(bad)) == said
    assert real.validate("{ not json") != []


def test_validate_asks_once_and_leaves_no_container(
    real: Docker, engine: docker.DockerClient, instance_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = real_files(real, instance_id, 30000)[0].content
    assert real.validate(text) == []
    assert (
        engine.containers.list(all=True, filters={"label": [f"clawhaven.home={real._home}", "clawhaven.check"]}) == []
    )
    monkeypatch.setattr(real._checker, "_ask", lambda *_: pytest.fail("asked again"))
    assert real.validate(text) == []


def test_prepare_again_is_quick_and_missing_is_empty(real: Docker, engine: docker.DockerClient) -> None:
    before = {image.id for image in engine.images.list()}
    real.prepare()
    assert {image.id for image in engine.images.list()} == before
    assert real.missing() == []
    assert engine.images.list(filters={"dangling": True, "label": "clawhaven.stage=build"}) == []
