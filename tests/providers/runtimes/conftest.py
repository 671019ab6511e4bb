"""The real engine, OpenClaw's image and a light one, for every test of the docker runtime."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from clawhaven.core.ids import new_id
from clawhaven.providers.runtimes.docker import Docker
from tests.providers.runtimes import docker_lab as lab


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
