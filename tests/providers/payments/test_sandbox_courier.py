"""How the sandbox's events arrive, whatever dies in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clawhaven.core.clock import Clock
from clawhaven.providers.payments.sandbox import Sandbox
from tests.contracts.payments import START, request_of
from tests.providers.payments.test_sandbox import SECRET, make, subscribe

COMPLETED = ["checkout.completed", "subscription.created", "payment.succeeded"]


class Webhook(ThreadingHTTPServer):
    """A receiver that answers with `status` (or holds its answer until `release` is set) and keeps what came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.arrived, self.release = threading.Event(), threading.Event()
        self.release.set()

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def types(self, vendor: Sandbox) -> list[str]:
        """Vendor types of what arrived, each checked as a webhook door would."""
        return [vendor.parse_event(headers, body).vendor_type for _, headers, body in self.received]

    def handle_error(self, request: object, client_address: object) -> None:
        """A sender that was killed is no news."""


class _Door(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, dict(self.headers), body))
        self.server.arrived.set()
        self.server.release.wait(30)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@contextmanager
def serving(server: Webhook) -> Iterator[Webhook]:
    """The receiver, running."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with serving(Webhook()) as server:
        yield server


class StillClock(Clock):
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        super().__init__()
        self._start = super().now()

    def now(self) -> datetime:
        return self._start + self._offset


@pytest.fixture
def clock() -> Clock:
    return StillClock()


@pytest.fixture
def vendor(tmp_path: Path, clock: Clock, webhook: Webhook) -> Sandbox:
    return make(tmp_path, clock=clock, base_url=webhook.url)


def run_and_kill(tmp_path: Path, base_url: str, code: str) -> subprocess.Popen[bytes]:
    """Another process with the same vendor, running `code` over `vendor`."""
    program = (
        "import os, signal; from pathlib import Path\n"
        "from tests.providers.payments.test_sandbox import make, subscribe, request_of\n"
        f"vendor = make(Path({str(tmp_path)!r}), base_url={base_url!r})\n{code}\n"
    )
    return subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[3], env={**os.environ})


def test_events_arrive_signed_once_and_in_order(vendor: Sandbox, webhook: Webhook) -> None:
    subscribe(vendor)
    assert vendor.deliver() == 3
    assert webhook.types(vendor) == COMPLETED
    assert {path for path, _, _ in webhook.received} == {"/api/webhooks/sandbox"}
    assert vendor.deliver() == 0
    assert len(webhook.received) == 3


def test_copies_and_reversed_order(vendor: Sandbox, webhook: Webhook) -> None:
    reference = vendor.create_checkout(request_of("chk_1")).reference
    vendor.complete(reference, "paid", duplicate=1, reorder=True)
    vendor.deliver()
    assert webhook.types(vendor) == COMPLETED[::-1] * 2
    events = [vendor.parse_event(headers, body) for _, headers, body in webhook.received]
    assert len({event.event_id for event in events}) == 3
    by_time = sorted(events, key=lambda event: event.created_at)
    assert [event.vendor_type for event in by_time][::2] == COMPLETED


def test_late_events_wait(vendor: Sandbox, webhook: Webhook, clock: Clock) -> None:
    reference = vendor.create_checkout(request_of("chk_1")).reference
    vendor.complete(reference, "paid", delay_seconds=600)
    assert vendor.deliver() == 0
    assert len(vendor.unseen(START)) == 3
    clock.advance(timedelta(seconds=601))
    assert vendor.deliver() == 3
    assert webhook.types(vendor) == COMPLETED


def test_refused_events_come_again_later_each_time(vendor: Sandbox, webhook: Webhook, clock: Clock) -> None:
    reference = vendor.create_checkout(request_of("chk_1")).reference
    vendor.complete(reference, "declined")
    webhook.status = 500
    for wait in (1, 2, 4, 8, 16, 32, 60, 60):
        seen = len(webhook.received)
        assert vendor.deliver() == 0
        assert len(webhook.received) == seen + 1
        clock.advance(timedelta(seconds=wait - 0.5))
        assert vendor.deliver() == 0
        assert len(webhook.received) == seen + 1, f"came back before {wait} s"
        clock.advance(timedelta(seconds=0.5))
    webhook.status = 204
    assert vendor.deliver() == 1
    clock.advance(timedelta(hours=1))
    assert vendor.deliver() == 0


def test_a_redirect_is_no_acknowledgement(vendor: Sandbox, webhook: Webhook) -> None:
    subscribe(vendor)
    webhook.status = 302
    assert vendor.deliver(once=True) == 0


def test_nobody_listening_loses_nothing(tmp_path: Path, clock: Clock, webhook: Webhook) -> None:
    silent = make(tmp_path, clock=clock, base_url="http://127.0.0.1:9")
    subscribe(silent)
    assert silent.deliver() == 0
    clock.advance(timedelta(seconds=2))
    assert make(tmp_path, clock=clock, base_url=webhook.url).deliver() == 3


def test_killed_between_payment_and_delivery(
    tmp_path: Path, vendor: Sandbox, webhook: Webhook, clock: StillClock
) -> None:
    dead = run_and_kill(tmp_path, webhook.url, "subscribe(vendor); os.kill(os.getpid(), signal.SIGKILL)")
    assert dead.wait(60) == -signal.SIGKILL
    assert webhook.received == []
    clock.advance(timedelta(minutes=1))  # past the other process's own clock
    assert vendor.deliver() == 3
    assert webhook.types(vendor) == COMPLETED


def test_killed_while_the_webhook_answers(tmp_path: Path, vendor: Sandbox, webhook: Webhook) -> None:
    subscribe(vendor)
    webhook.release.clear()
    sender = run_and_kill(tmp_path, webhook.url, f"assert vendor._courier.secrets() == [{SECRET!r}]; vendor.deliver()")
    assert webhook.arrived.wait(60)
    sender.kill()
    sender.wait(60)
    webhook.release.set()
    assert vendor.deliver() == 3
    assert webhook.types(vendor) == [COMPLETED[0], *COMPLETED]
    first, again = (vendor.parse_event(headers, body) for _, headers, body in webhook.received[:2])
    assert first == again


def test_killed_anywhere_state_and_events_agree(tmp_path: Path, vendor: Sandbox) -> None:
    loop = (
        "import itertools, sys\n"
        "for number in itertools.count():\n"
        "    reference = vendor.create_checkout(request_of(f'chk_{os.getpid()}_{number}')).reference\n"
        "    print(reference, flush=True)\n"
        "    vendor.complete(reference, 'paid')\n"
    )
    references: list[str] = []
    for round_number in range(3):
        output = tmp_path / f"out{round_number}"
        with output.open("wb") as file:
            program = (
                "import os; from pathlib import Path\n"
                "from tests.providers.payments.test_sandbox import make, request_of\n"
                f"vendor = make(Path({str(tmp_path)!r}))\n{loop}"
            )
            worker = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[3], stdout=file)
        while output.read_bytes().count(b"\n") < 10 + round_number and worker.poll() is None:
            time.sleep(0.01)
        worker.kill()
        assert worker.wait(60) == -signal.SIGKILL
        references += output.read_text().split()
    told: dict[str | None, list[str]] = {}
    for headers, body in vendor.unseen(START):
        event = vendor.parse_event(headers, body)
        told.setdefault(event.checkout_reference, []).append(event.vendor_type)
    states = {reference: vendor.fetch(reference).checkout_state for reference in references}
    assert len(states) >= 33
    for reference, state in states.items():
        assert told.get(reference, []) == (COMPLETED if state == "paid" else [])


def test_several_couriers_at_once_lose_nothing(tmp_path: Path, vendor: Sandbox, webhook: Webhook) -> None:
    subscribe(vendor)
    couriers = [make(tmp_path, base_url=webhook.url) for _ in range(4)]
    threads = [threading.Thread(target=one.deliver) for one in couriers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(webhook.types(vendor)) == set(COMPLETED)
    assert vendor.deliver() == 0


def test_the_background_thread_delivers_until_told_to_stop(vendor: Sandbox, webhook: Webhook) -> None:
    stop = threading.Event()
    thread = vendor.start(stop)
    subscribe(vendor)
    assert webhook.arrived.wait(30)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert webhook.types(vendor)[0] == COMPLETED[0]
