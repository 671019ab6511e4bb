"""Looking at what the docker runtime did, from outside and from inside."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import docker


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
