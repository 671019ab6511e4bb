"""Backups of a real container: held still while it is packed, whole when it comes back, and with another image."""

from __future__ import annotations

import os
from pathlib import Path

import docker
import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.runtimes.docker import Docker
from tests.conftest import free_port
from tests.providers.runtimes import docker_lab as lab

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

PLENTY = 10**9


def test_packed_while_it_runs_and_brought_back(runtime: Docker, engine: docker.DockerClient, instance_id: str) -> None:
    placement = runtime.create(lab.small_spec(instance_id, free_port()))
    root = runtime._root(instance_id)
    diary = root / "state" / "workspace" / "diary.md"
    diary.parent.mkdir(exist_ok=True)
    diary.write_text("then")
    (root / "state" / "out").symlink_to("/etc/passwd")
    started = runtime.observe(placement).started_at
    pieces = runtime.pack(placement, {}, PLENTY)
    assert next(pieces) == b""
    assert engine.containers.get(str(placement["name"])).status == "paused"
    first = next(pieces)
    assert engine.containers.get(str(placement["name"])).status == "running", "before anybody takes a byte"
    data = first + b"".join(pieces)
    assert runtime.observe(placement).started_at == started
    assert engine.containers.get(str(placement["name"])).status == "running"
    broken_off = runtime.pack(placement, {}, PLENTY)
    next(broken_off)
    broken_off.close()
    assert engine.containers.get(str(placement["name"])).status == "running"

    with pytest.raises(ProviderError) as refused:
        runtime.unpack(placement, [data], PLENTY)
    assert refused.value.code == "running"
    engine.containers.get(str(placement["name"])).pause()  # as a kill of ours leaves it
    runtime.stop(placement, 5)
    diary.write_text("now")
    runtime.unpack(placement, [data], PLENTY)
    assert diary.read_text() == "then"
    assert not (root / "state" / "out").is_symlink()
    assert {path.lstat().st_uid for path in (root / "state").rglob("*")} == {1000}
    with pytest.raises(ProviderError, match="refused"):
        runtime.unpack(placement, [data[:-20]], PLENTY)
    assert diary.read_text() == "then"
    runtime.start(placement)
    assert runtime.observe(placement).status == "running"
    assert _inside(engine, str(placement["name"]), "cat /home/node/.openclaw/workspace/diary.md") == "then"


def test_another_image_and_back(runtime: Docker, engine: docker.DockerClient, instance_id: str, tmp_path: Path) -> None:
    before = runtime.create(lab.small_spec(instance_id, free_port()))
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {lab.IDLE_IMAGE}\nLABEL other={os.getpid()}\n")
    other, _ = engine.images.build(path=str(folder), rm=True)
    assert runtime.pin(before, None) == before, "it is the installation's own already"
    runtime.stop(before, 5)
    changed = runtime.pin(before, {**before, "image": other.id})
    assert changed == {**before, "image": other.id}
    assert runtime.observe(changed).status == "stopped"
    runtime.start(changed)
    with pytest.raises(ProviderError) as refused:
        runtime.pin(changed, None)
    assert refused.value.code == "running"
    runtime.stop(changed, 5)
    engine.containers.get(str(changed["name"])).remove()  # as a kill between the two leaves it
    assert runtime.pin(changed, None) == before
    runtime.start(before)
    limits = engine.containers.get(str(before["name"])).attrs["HostConfig"]
    assert (limits["Memory"], limits["NanoCpus"]) == (before["memory_bytes"], before["cpus"] * 1e9)


def _inside(engine: docker.DockerClient, name: str, command: str) -> str:
    return str(engine.containers.get(name).exec_run(["sh", "-c", command]).output.decode())
