"""A real OpenClaw gateway for tests: the process runtime, the pinned version, a model on loopback."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from clawhaven.core.settings import Settings
from clawhaven.instances.config import CONFIG_PATH, SECRETS_PATH, build_config, build_secrets
from clawhaven.ports.gateway import GatewayAddress
from clawhaven.ports.runtime import File, Layout, Placement, Spec
from clawhaven.providers.gateways.openclaw import OpenClaw
from clawhaven.providers.runtimes.process import Process

TOKEN = "gateway-token-" + "g" * 32
PROXY_KEY = "proxy-key-" + "p" * 32
START_SECONDS = 180


def settings_for(data_dir: Path, proxy_url: str = "http://127.0.0.1:9/proxy") -> Settings:
    """Settings with the shared cache, so that OpenClaw is installed once per machine."""
    cache = os.environ.get("CLAWHAVEN_TEST_CACHE")
    given: dict[str, Any] = {"cache_dir": Path(cache)} if cache else {}
    return Settings(data_dir=data_dir, proxy_url=proxy_url, **given)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def files_for(layout: Layout, instance_id: str, **changes: Any) -> list[File]:
    """The files of a small assistant. `channel_secrets` and whatever `build_config` takes may be given."""
    channel_secrets = changes.pop("channel_secrets", {})
    wanted: dict[str, Any] = {
        "name": "Ada",
        "instance_id": instance_id,
        "model": "test-model",
        "model_api": "anthropic-messages",
        "max_output_tokens": 8192,
        "context_window": 200_000,
        "origins": ["http://127.0.0.1:8080"],
        "channels": {},
    }
    workspace = [f"state/workspace/{name}.md" for name in ("AGENTS", "SOUL", "IDENTITY", "USER")]
    return [
        File(CONFIG_PATH, build_config(layout, **(wanted | changes))),
        File(SECRETS_PATH, build_secrets(TOKEN, PROXY_KEY, channel_secrets)),
        *[File(path, "Be brief.\n", keep=True) for path in workspace],
    ]


def wait_until_started(gateway: OpenClaw, address: GatewayAddress) -> None:
    """Until the gateway says that it has started; AssertionError after three minutes."""
    deadline = time.monotonic() + START_SECONDS
    while not gateway.health(address).started:
        assert time.monotonic() < deadline, "the gateway did not start"
        time.sleep(0.2)


@contextmanager
def running_cell(
    data_dir: Path, proxy_url: str, instance_id: str = "ins_cell", trusted_proxies: Sequence[str] = ()
) -> Iterator[tuple[Process, Placement, OpenClaw, GatewayAddress]]:
    """A started gateway; destroyed at the end."""
    settings = settings_for(data_dir, proxy_url)
    runtime, gateway = Process(Process.Options(), settings), OpenClaw(OpenClaw.Options(), settings)
    port = free_port()
    layout = replace(runtime.layout(instance_id, port), trusted_proxies=tuple(trusted_proxies))
    address = GatewayAddress(f"http://127.0.0.1:{port}", TOKEN)
    try:
        placement = runtime.create(Spec(instance_id, port, files_for(layout, instance_id)))
        wait_until_started(gateway, address)
        yield runtime, placement, gateway, address
    finally:
        runtime.destroy(None, instance_id)
