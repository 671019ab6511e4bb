"""The walls of a container and the real gateway inside it, on a real engine."""

from __future__ import annotations

import functools
import http.server
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
import yaml

from clawhaven.core.ids import new_id
from clawhaven.instances.config import build_config, build_secrets
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File, Spec
from clawhaven.providers.runtimes.docker import Docker
from clawhaven.providers.runtimes.docker_cell import SECRETS, STATE
from tests.conftest import free_port
from tests.providers.runtimes import docker_lab as lab
from tests.providers.runtimes.docker_looks import get, is_open, run_inside, wait_for

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

REPO = Path(__file__).parents[3]
TOKEN = "gateway-token-0123456789abcdef0123456789"
PROXY_KEY = "chp-proxy-key-never-in-inspect"


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
    spare = [bind.rsplit(":", 2) for bind in host["Binds"] or []]
    assert [(v["source"], v["target"], v["read_only"], v["bind"]["create_host_path"]) for v in service["volumes"]] == [
        *((mount["Source"], mount["Target"], mount.get("ReadOnly", False), False) for mount in host["Mounts"]),
        *((source, target, mode == "ro", True) for source, target, mode in spare),
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
    seen = real.observe(gateway, with_memory=True)
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
    # The engine lists them in any order.
    assert {mount["Destination"] for mount in container.attrs["Mounts"] if mount["RW"]} == {STATE, SECRETS}
    assert len(container.attrs["Mounts"]) <= 3, "and what a rehearsal compiled, to read"
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
