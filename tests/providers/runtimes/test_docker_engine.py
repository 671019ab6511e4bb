"""The engine's and the disk's sentences in our words. That the engine says them is shown in test_docker.py."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import docker.errors
import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.runtimes.docker_engine import Engine, held, translate, words


@pytest.mark.parametrize(
    ("said", "code", "permanent"),
    [
        ("driver failed: Bind for 127.0.0.1:30000 failed: port is already allocated", "port_taken", False),
        ("listen tcp4 127.0.0.1:30000: bind: address already in use", "port_taken", False),
        ("write /var/lib/docker/x: no space left on device", "disk_full", False),
        ("No such image: sha256:00", "image_missing", False),
        ("pull access denied for x", "image_missing", False),
        ("removal of container x is already in progress", "docker_refused", False),
        ("invalid mount config", "docker_refused", True),
    ],
)
def test_codes(said: str, code: str, permanent: bool) -> None:
    error = translate(said, "testing", is_client_error=True)
    assert (error.code, error.permanent) == (code, permanent)
    assert said in error.message


def test_a_failure_of_the_engine_is_worth_a_retry() -> None:
    assert not translate("internal", "testing", is_client_error=False).permanent


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (docker.errors.DockerException("no socket"), "docker_down"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "docker_down"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "disk_full"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "not_permitted"),
    ],
)
def test_words(raised: Exception, code: str) -> None:
    with pytest.raises(ProviderError) as told, words("testing"):
        raise raised
    assert told.value.code == code
    assert "testing" in told.value.message


def test_our_own_errors_pass_unchanged() -> None:
    with pytest.raises(ProviderError) as told, words("testing"):
        raise ProviderError("mine", code="mine")
    assert told.value.code == "mine"


def test_an_engine_that_is_down_is_asked_again(tmp_path: Path) -> None:
    engine = Engine(f"unix://{tmp_path}/none.sock")
    for _ in range(2):
        with pytest.raises(ProviderError) as told, words("testing"):
            engine.client.ping()
        assert told.value.code == "docker_down"


def test_held_keeps_threads_apart(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with held(tmp_path / "locks" / "one"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)
