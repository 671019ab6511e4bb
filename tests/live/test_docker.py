"""The same first minute in a hardened container, on a real engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import yaml
from docker.models.containers import Container

from clawhaven.providers.runtimes.docker import Docker
from clawhaven.providers.runtimes.docker_cell import SECRETS, STATE, name_of
from tests.live.demo import Customer, Demo
from tests.providers.runtimes import docker_lab as lab

pytestmark = [pytest.mark.live, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[docker.DockerClient]:
    """The engine, with OpenClaw's image on it."""
    folder = tmp_path_factory.mktemp("engine")
    with (
        lab.running_engine(folder),
        contextlib.closing(docker.from_env(version="auto", timeout=120)) as client,
    ):
        Docker(Docker.Options(docker_base=lab.base()), lab.cache_settings(folder / "data")).prepare()
        yield client


@pytest.fixture
def demo(engine: docker.DockerClient, tmp_path: Path) -> Iterator[Demo]:
    with Demo(tmp_path, RUNTIME="docker", DOCKER_BASE=lab.base()) as made:
        yield made
        if made.host is not None and made.host.poll() is None:
            made.kill()
        lab.wipe(Docker(Docker.Options(), lab.cache_settings(made.data)))


def containers(engine: docker.DockerClient, demo: Demo) -> list[Container]:
    """Containers with a directory of this installation in them, whatever state they are in."""
    everything = engine.containers.list(all=True)
    return [one for one in everything if any(str(demo.data) in mount["Source"] for mount in one.attrs["Mounts"])]


def paid(demo: Demo) -> Customer:
    """A customer who has paid."""
    ada = demo.join("ada@example.com")
    ada.pay()
    return ada


def test_first_minute_in_a_container(demo: Demo, engine: docker.DockerClient) -> None:
    demo.start()
    ada = paid(demo)
    live = ada.wait_for("active")
    assert {step["state"] for step in live["steps"]} == {"done"}
    (container,) = containers(engine, demo)
    assert (container.name, container.status) == (name_of(ada.instance_id), "running")
    first = ada.chat("hello from outside")
    assert "hello from outside" in first["reply"]
    assert first["usage"]["calls"] >= 1
    assert first["usage"]["price_micros"] > 0
    assert ada.get("/api/billing/balance")["included_usage_micros"] == first["usage"]["price_micros"]

    folder = demo.data / "customers" / ada.instance_id
    held = json.loads((folder / "secrets" / "secrets.json").read_text())
    shown = json.dumps(engine.api.inspect_container(name_of(ada.instance_id)))
    assert STATE in shown
    assert SECRETS in shown
    compose = (folder / "compose.yaml").read_text()
    for secret in (held["gateway"]["token"], held["house"]["key"], ada.session):
        assert secret not in shown
        assert secret not in compose
        assert secret not in demo.output()
        assert secret.encode() not in container.logs()
    cell = yaml.safe_load(compose)["services"]["gateway"]
    assert cell["container_name"] == container.name
    assert (cell["read_only"], cell["cap_drop"]) == (True, ["ALL"])
    host = container.attrs["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
    bindings = [binding["HostIp"] for published in host["PortBindings"].values() for binding in published]
    assert bindings == ["127.0.0.1"]

    assert ada.request("POST", f"{ada.path}/stop").status_code == 202
    ada.wait_idle()
    container.reload()
    assert container.status == "exited"
    assert ada.request("POST", f"{ada.path}/start").status_code == 202
    ada.wait_for("active")
    assert "after a rest" in ada.chat("after a rest")["reply"]

    assert ada.request("DELETE", ada.path).status_code == 202
    ada.wait_for("deleted")
    ada.wait_idle()
    assert containers(engine, demo) == []
    assert engine.networks.list(names=[name_of(ada.instance_id)]) == []
    assert not folder.exists()
    assert demo.count("port_allocation") == demo.count("model_grant") == 0
    assert demo.problems() == []


def test_killed_after_the_container_was_made(demo: Demo, engine: docker.DockerClient) -> None:
    marker = demo.folder / "crashed"
    demo.start(CLAWHAVEN_CRASH_AFTER=f"start_gateway:{marker}")
    ada = paid(demo)
    assert demo.host is not None
    assert demo.host.wait(240) == -signal.SIGKILL
    assert marker.exists()
    (made,) = containers(engine, demo)
    demo.start()
    ada.wait_for("active")
    (container,) = containers(engine, demo)
    assert container.id == made.id
    assert "still here" in ada.chat("still here")["reply"]
    assert demo.count("receipt") == demo.count("port_allocation") == 1
    assert demo.count("operation", "state <> 'done'") == 0

    os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)
    demo.wait(lambda: _restarts(container) >= 1, "the engine to start it again")
    demo.wait(lambda: ada.request("POST", f"{ada.path}/chat", json={"message": "x"}).status_code == 200, "an answer")
    assert demo.stop() == 0
    container.reload()
    assert container.status == "exited"


def _restarts(container: Container) -> int:
    container.reload()
    return int(container.attrs["RestartCount"])
