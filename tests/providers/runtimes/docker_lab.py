"""What the tests of the `docker` runtime share: a real engine, the real image, and a light one for lifecycles."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File, Spec
from clawhaven.providers.runtimes.docker import Docker
from tests.conftest import skip_or_fail

INSTALL = "apt-get install docker.io debootstrap debian-archive-keyring; systemctl start docker"
IDLE_IMAGE = "clawhaven-test/idle:latest"


def is_answering() -> bool:
    """True when an engine answers at the usual place."""
    try:
        with contextlib.closing(docker.from_env(version="auto", timeout=10)) as client:
            return bool(client.ping())
    except (docker.errors.DockerException, OSError):
        return False


@contextlib.contextmanager
def running_engine(folder: Path) -> Iterator[None]:
    """The engine that answers already, or one started here and ended afterwards."""
    if is_answering():
        yield
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        skip_or_fail("No Docker engine answers and none can be started", INSTALL)
    log = folder / "dockerd.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            ["dockerd", "--pidfile", str(folder / "dockerd.pid")], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 60
        while not is_answering():
            if daemon.poll() is not None or time.monotonic() > deadline:
                skip_or_fail(f"dockerd did not come up: {log.read_text()[-800:]}", INSTALL)
            time.sleep(0.2)
        yield
    finally:
        daemon.terminate()
        daemon.wait(60)


def cache_settings(data_dir: Path) -> Settings:
    """Settings of a fresh installation; the cache is shared between test runs."""
    cache = os.environ.get("CLAWHAVEN_TEST_CACHE")
    return Settings(data_dir=data_dir, cache_dir=Path(cache)) if cache else Settings(data_dir=data_dir)


def base() -> str:
    """The base image to build on: the default where the registry is reachable, else our own Debian."""
    return os.environ.get("CLAWHAVEN_TEST_DOCKER_BASE", "debootstrap" if _is_offline() else "")


def _is_offline() -> bool:
    from clawhaven.providers.runtimes.docker_image import NODE_BASE

    with contextlib.closing(docker.from_env(version="auto", timeout=300)) as client:
        try:
            client.images.get(NODE_BASE)
        except docker.errors.ImageNotFound:
            try:
                client.images.pull(NODE_BASE)
            except docker.errors.APIError:
                return True
    return False


def build_idle_image(real: str) -> str:
    """The real image with a light gateway in OpenClaw's place; gives its id."""
    script = (Path(__file__).parent / "idle_gateway.mjs").read_bytes()
    recipe = f"FROM {real}\nUSER root\nRUN rm /app && mkdir /app\nCOPY openclaw.mjs /app/openclaw.mjs\nUSER node\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (("Dockerfile", recipe.encode()), ("openclaw.mjs", script)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    with contextlib.closing(docker.from_env(version="auto", timeout=120)) as client:
        client.images.build(fileobj=buffer, custom_context=True, tag=IDLE_IMAGE, rm=True)
        return str(client.images.get(IDLE_IMAGE).id)


def idle_runtime(data_dir: Path, **options: str) -> Docker:
    """The runtime under test, with the light image."""
    given: dict[str, str] = {"openclaw_image": IDLE_IMAGE, **options}
    return Docker(Docker.Options(**given), cache_settings(data_dir))  # type: ignore[arg-type]


def small_spec(instance_id: str, port: int, *files: File, memory_bytes: int = 256 * 1024**2) -> Spec:
    """A spec for the light gateway."""
    default = (
        File("state/openclaw.json", "{}"),
        File("secrets/secrets.json", '{"gateway": {"token": "s3cr3t-t0ken"}}'),
    )
    return Spec(instance_id, port, files or default, memory_bytes=memory_bytes, cpus=0.5)


def wipe(runtime: Docker) -> None:
    """Remove whatever a test left."""
    left: list[str] = []
    with contextlib.suppress(ProviderError):
        left = list(runtime.list())
    for instance_id in left:
        with contextlib.suppress(ProviderError):
            runtime.destroy(None, instance_id)
