"""The connection to one Docker engine, and its errors in our words."""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import urllib3.exceptions

from clawhaven.ports.errors import ProviderError

CALL_SECONDS = 120
"""How long one call may take; a stop adds its own waiting time."""


class Engine:
    """A Docker engine, connected to on first use; the API version is negotiated."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url or None
        self._lock = threading.Lock()
        self._client: docker.DockerClient | None = None

    @property
    def client(self) -> docker.DockerClient:
        """The connected client. Raises docker.errors.DockerException when no engine answers: use inside `words`."""
        with self._lock:
            if self._client is None:
                self._client = docker.DockerClient(base_url=self._base_url, version="auto", timeout=CALL_SECONDS)
            return self._client


@contextlib.contextmanager
def words(doing: str) -> Iterator[None]:
    """Turn whatever the engine or the disk says inside into ProviderError. `doing` completes "while …"."""
    try:
        yield
    except docker.errors.APIError as error:
        raise translate(str(error.explanation or error), doing, is_client_error=error.is_client_error()) from error
    except (docker.errors.DockerException, urllib3.exceptions.HTTPError) as error:
        raise ProviderError(
            f"The Docker engine does not answer (while {doing}): {error}", code="docker_down"
        ) from error
    except OSError as error:
        text = str(error)
        if error.errno is None or isinstance(error, ConnectionError):  # requests' errors are OSErrors with no errno
            raise ProviderError(
                f"The Docker engine does not answer (while {doing}): {text}", code="docker_down"
            ) from error
        raise translate(text, doing, is_client_error=isinstance(error, PermissionError)) from error


def translate(text: str, doing: str, *, is_client_error: bool) -> ProviderError:
    """The engine's sentence as an error with our code; the sentence stays in the message."""
    low = text.lower()
    if "port is already allocated" in low or "address already in use" in low:
        return ProviderError(f"The port is taken (while {doing}): {text}", code="port_taken")
    if "no space left on device" in low or "disk quota exceeded" in low:
        return ProviderError(f"The disk is full (while {doing}): {text}", code="disk_full")
    if "no such image" in low or "manifest unknown" in low or "pull access denied" in low:
        return ProviderError(f"The image is missing (while {doing}): {text}", code="image_missing")
    if "permission denied" in low or "operation not permitted" in low:
        return ProviderError(f"Not allowed (while {doing}): {text}", permanent=True, code="not_permitted")
    # A conflict (409) is the engine in the middle of something: worth a retry, like its own failures.
    is_lasting = is_client_error and "conflict" not in low and "in progress" not in low
    return ProviderError(f"Docker refused (while {doing}): {text}", permanent=is_lasting, code="docker_refused")


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock file; the kernel lets go of it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
