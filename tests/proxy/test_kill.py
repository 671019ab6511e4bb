"""kill -9 of a proxy in the middle of calls: no acknowledged usage is lost, and the books balance after the sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import httpx2

from clawhaven import ledger, metering
from clawhaven.core.db import Database
from tests.conftest import free_port
from tests.proxy.conftest import KEY, House, ScriptedVendor, stream_script
from tests.proxy.test_app import DELTA, START, STOP, TEXT, claude_body

ROOT = Path(__file__).resolve().parents[2]


def start(port: int, database_url: str, vendor: ScriptedVendor, folder: Path) -> subprocess.Popen[bytes]:
    arguments = [str(port), database_url, f"http://127.0.0.1:{vendor.port}", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "tests.proxy.serve_once", *arguments], cwd=ROOT, env=environment)
    deadline = time.monotonic() + 60
    while True:
        try:
            assert httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
            return process
        except httpx2.TransportError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_kill_9_in_the_middle_of_calls(
    house: House, vendor: ScriptedVendor, db: Database, database_url: str, tmp_path: Path
) -> None:
    house.grant(max_in_flight=None)
    port = free_port()
    process = start(port, database_url, vendor, tmp_path)
    url, headers = f"http://127.0.0.1:{port}/v1/messages", {"x-api-key": KEY}
    acknowledged: list[str] = []
    begun = threading.Event()

    def client(number: int) -> None:
        while process.poll() is None:
            try:
                with httpx2.stream("POST", url, json=claude_body(stream=True), headers=headers, timeout=20) as answer:
                    got = b"".join(answer.iter_raw())
                if STOP in got:
                    acknowledged.append(answer.headers["x-clawhaven-call"])
                    if len(acknowledged) >= 8:
                        begun.set()
            except httpx2.TransportError:
                return

    vendor.script = stream_script(START, TEXT, TEXT, DELTA, STOP, pause=0.03)
    clients = [threading.Thread(target=client, args=(number,)) for number in range(6)]
    for thread in clients:
        thread.start()
    assert begun.wait(60)
    vendor.script = stream_script(START, TEXT, TEXT, DELTA, STOP, pause=2)  # whoever calls now is under way for long
    earlier, until = {row.id for row in house.calls()}, time.monotonic() + 60
    while not any(row.state == "open" and row.id not in earlier for row in house.calls()):
        assert time.monotonic() < until, "nobody calls"
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    for thread in clients:
        thread.join(30)

    rows = {row.id: row for row in house.calls()}
    assert all(rows[call].state == "closed" for call in acknowledged)
    assert all(rows[call].output_tokens == 77 for call in acknowledged)
    still_open = [row.id for row in rows.values() if row.state == "open"]
    assert still_open, "the kill hit no call under way"
    with db.tx() as tx:
        assert ledger.check_books(tx, metering.held_by_calls(tx)) == []
        assert ledger.balance(tx, house.account).held_micros > 0
        now = house.clock.now() + metering.CALL_LIFETIME + timedelta(seconds=1)
        assert sorted(metering.sweep(tx, now=now)) == sorted(still_open)
    house.assert_books_balance()
