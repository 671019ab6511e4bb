"""How the sandbox's events reach the product: signed, over HTTP, at least once."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx2
from pydantic import SecretStr

from clawhaven.core.clock import Clock
from clawhaven.core.ids import new_id
from clawhaven.core.settings import Settings
from clawhaven.core.tls import authorities
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.sandbox_events import due, mark
from clawhaven.providers.payments.sandbox_store import Store
from clawhaven.providers.payments.sandbox_trouble import read_trouble
from clawhaven.providers.payments.signature import sign

SIGNATURE_HEADER: Final = "sandbox-signature"
_POLL_SECONDS: Final = 0.5
_ANSWER_TIMEOUT_SECONDS: Final = 10

log = logging.getLogger(__name__)


class Courier:
    """Carries events from the store to `<base_url>/api/webhooks/sandbox`."""

    def __init__(self, store: Store, clock: Clock, settings: Settings, given: SecretStr) -> None:
        self._store, self._clock = store, clock
        self._url = f"{settings.base_url}/api/webhooks/sandbox"
        self._given = [part.strip() for part in given.get_secret_value().split(",") if part.strip()]
        self._kept_at = settings.data_dir / "sandbox-payments.secret"

    def secrets(self) -> list[str]:
        """The secrets that are accepted, newest first; the first signs."""
        return self._given or [_kept_secret(self._kept_at)]

    def headers(self, body: bytes) -> dict[str, str]:
        """Headers of one sending of `body`, signed for this moment."""
        timestamp = int(self._clock.now().timestamp())
        return {"content-type": "application/json", SIGNATURE_HEADER: sign(self.secrets()[0], timestamp, body)}

    def deliver(self, once: bool) -> int:
        """Send what is due, in passes until nothing is (or one pass); how many copies were acknowledged."""
        acknowledged = 0
        with httpx2.Client(
            timeout=_ANSWER_TIMEOUT_SECONDS, trust_env=False, follow_redirects=False, verify=authorities()
        ) as client:
            while True:
                with self._store.read() as db:
                    waiting = [] if read_trouble(db).is_down else due(db, self._clock.now())
                for delivery in waiting:
                    is_delivered = self._post(client, delivery.body)
                    with self._store.tx() as db:
                        mark(db, delivery, is_delivered, self._clock.now())
                    acknowledged += is_delivered
                if once or not waiting:
                    return acknowledged

    def start(self, stop: threading.Event, advance: Callable[[], object]) -> threading.Thread:
        """Call `advance` and deliver in a background thread until `stop` is set."""
        thread = threading.Thread(target=self._run, args=(stop, advance), name="sandbox-payments", daemon=True)
        thread.start()
        return thread

    def _run(self, stop: threading.Event, advance: Callable[[], object]) -> None:
        while not stop.wait(_POLL_SECONDS):
            try:
                advance()
                self.deliver(once=True)
            except ProviderError as error:
                log.warning("sandbox payments: events could not be delivered: %s", error.message)

    def _post(self, client: httpx2.Client, body: bytes) -> bool:
        try:
            answer = client.post(self._url, content=body, headers=self.headers(body))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            log.info("sandbox payments: the webhook did not answer: %s", type(error).__name__)
            return False
        return answer.is_success


def _kept_secret(path: Path) -> str:
    """The secret kept at `path`, made now if there is none; of several processes that make it, one wins."""
    try:
        with suppress(FileNotFoundError):
            return path.read_text().strip()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{new_id('new')}")
        handle = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(fresh, path)  # unlike creating `path` itself, never seen half-written by another process
        finally:
            fresh.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ProviderError(f"The sandbox's secret cannot be kept at {path}: {error.strerror}") from error
