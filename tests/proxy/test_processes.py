"""The proxy in several processes: who dies, who stops, and that nothing of it is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import psutil
import pytest

from clawhaven import ledger
from clawhaven.core.db import Database, make_engine
from clawhaven.core.secrets import hash_token
from clawhaven.core.settings import Settings
from clawhaven.metering import (
    GrantTerms,
    PlanMode,
    UsageRow,
    drop_replaced_key,
    list_usage,
    put_grant,
    replace_key,
)
from clawhaven.wiring import migrate
from tests.conftest import free_port
from tests.proxy.conftest import KEY

pytestmark = pytest.mark.timeout(400)
PROGRAM = Path(sys.executable).with_name("clawhaven")
BODY = {"model": "sandbox-1", "messages": [{"role": "user", "content": "hello"}]}


class Proxy:
    """`clawhaven proxy` with two fronts, on a database of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.db = Database(make_engine(url))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/v1/chat/completions"
        env = {**os.environ, "DATABASE_URL": url, "DATA_DIR": str(folder), "LOG_LEVEL": "ERROR"}
        command = [str(PROGRAM), "proxy", "--bind", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen([*command, "--processes", "2"], env=env, cwd=folder)
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline:
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200:
                    return
            except httpx2.HTTPError:
                time.sleep(0.1)
        raise AssertionError("the proxy did not start")

    def fronts(self) -> list[psutil.Process]:
        found = psutil.Process(self.process.pid).children()
        return [one for one in found if "spawn_main" in " ".join(one.cmdline())]

    def ask(self, key: str = KEY) -> int:
        return httpx2.post(self.url, json=BODY, headers={"x-api-key": key}, timeout=20).status_code

    def calls(self) -> list[UsageRow]:
        with self.db.read() as tx:
            assert ledger.check_books(tx) == []
            return list(list_usage(tx, "acc_1").calls)


@pytest.fixture
def proxy(tmp_path: Path, database_url: str) -> Iterator[Proxy]:
    migrate(Settings(data_dir=tmp_path, database_url=database_url))
    db = Database(make_engine(database_url))
    with db.tx() as tx:
        now = datetime.now(UTC)
        account = ledger.open_account(tx, "wallet", "acc_1", 0, now=now)
        ledger.credit(tx, key="topup", ledger_account_id=account, amount_micros=10**8, now=now)
        terms = GrantTerms("ins_1", "acc_1", hash_token(KEY), PlanMode.METERED, account, is_active=True)
        put_grant(tx, terms, now=now)
    db.close()
    made = Proxy(tmp_path, database_url)
    yield made
    for one in [*made.fronts(), made.process] if made.process.poll() is None else []:
        one.kill()
    made.process.wait(10)
    made.db.close()


def test_fronts_serve_and_a_word_stops_all(proxy: Proxy) -> None:
    assert [proxy.ask() for _ in range(20)] == [200] * 20
    fronts = proxy.fronts()
    assert len(fronts) == 2
    proxy.process.send_signal(signal.SIGTERM)
    assert proxy.process.wait(20) == 0
    assert not [one for one in fronts if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert [row.state for row in proxy.calls()] == ["closed"] * 20


def test_a_key_that_is_replaced_is_noticed_at_once_by_every_front(proxy: Proxy) -> None:
    def asked(key: str) -> set[int]:
        return {proxy.ask(key) for _ in range(10)}

    now = datetime.now(UTC)
    assert (asked(KEY), asked("another")) == ({200}, {401})
    with proxy.db.tx() as tx:
        replace_key(tx, "ins_1", hash_token("another"), now=now)
    assert (asked(KEY), asked("another")) == ({200}, {200})
    with proxy.db.tx() as tx:
        drop_replaced_key(tx, "ins_1", now=now)
    assert (asked(KEY), asked("another")) == ({401}, {200})


def test_a_front_that_dies_ends_the_command_so_that_its_keeper_starts_it_anew(proxy: Proxy) -> None:
    assert proxy.ask() == 200
    first, second = proxy.fronts()
    first.kill()
    assert proxy.process.wait(20) == 1
    second.wait(10)
    assert len(proxy.calls()) == 1


def test_fronts_end_when_the_counter_dies(proxy: Proxy) -> None:
    assert proxy.ask() == 200
    fronts = proxy.fronts()
    proxy.process.kill()
    psutil.wait_procs(fronts, timeout=20)
    assert not [one for one in fronts if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert len(proxy.calls()) == 1
