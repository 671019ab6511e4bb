"""`clawhaven proxy` under load, killed with -9 again and again; and what must be true of its books afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import aiohttp
import httpx2
import psutil
import sqlalchemy as sa

from clawhaven import ledger, metering
from clawhaven.accounts.models import Account, User
from clawhaven.core.clock import Clock
from clawhaven.core.db import Database, make_engine
from clawhaven.core.money import MICROS_PER_DOLLAR
from clawhaven.core.secrets import hash_token
from clawhaven.metering import GrantTerms, PlanMode, UsageRow
from tests.conftest import free_port
from tests.proxy.rawvendor import RawVendor, Wire, chunk, stream_head, whole
from tests.proxy.wire import START, STOP, TEXT, claude_body, sse

PROGRAM = Path(sys.executable).with_name("clawhaven")
KEY = "chk_mortal_0123456789abcdef"
DOLLARS = 1_000_000
FIRST_FIGURE = 1_000
"""Every answer reports another number of output tokens, from here on, so that each can be told from all others."""

START_SECONDS = 60
ALONE_SECONDS = 10
"""Within which a process of the proxy ends when another one of it has died."""


@dataclass
class Findings:
    """What a run came to."""

    kills: int = 0
    served: int = 0
    acknowledged: int = 0
    unacknowledged_but_billed: int = 0
    abandoned: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Mortality:
    """One installation, its vendor, its clients, and the hand that kills. `folder` is for its data."""

    database_url: str
    folder: Path
    seed: int = 4
    clients: int = 12
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._vendor = RawVendor()
        self._vendor.script = self._serve
        self._served: dict[int, str] = {}
        self._acknowledged: dict[str, int] = {}
        self._is_over = threading.Event()
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._db = Database(make_engine(self.database_url))
        self._wallet = ""
        self._left_behind = 0

    def run(self, kills: int) -> Findings:
        """Kill it so many times, sweep, and compare what the clients have, the vendor gave, and the books say."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._wallet = self._open_books()
        self._vendor.start()
        load = threading.Thread(target=lambda: asyncio.run(self._press()), daemon=True)
        try:
            self._start()
            load.start()
            for number in range(kills):
                self._live(number)
                self._kill(self._rng.choice(("all", "main", "child")))
                self._start()
            self._live(kills)
            self._is_over.set()
            load.join(60)
            self._kill()  # the last one, with nothing under way
            return self._judge(kills)
        finally:
            self._is_over.set()
            self._kill()
            self._vendor.stop()
            self._db.close()

    # The parts

    def _open_books(self) -> str:
        now = Clock().now()
        with self._db.tx() as db:
            db.add(User(id="usr_1", email="one@example.com", created_at=now))
            db.flush()
            db.add(Account(id="acc_1", owner_id="usr_1", slug="one", created_at=now))
            db.flush()
            wallet = ledger.open_account(db, "wallet", "acc_1", 0, now=now)
            amount = DOLLARS * MICROS_PER_DOLLAR
            ledger.credit(db, key="credit", ledger_account_id=wallet, amount_micros=amount, now=now)
            given = {"ledger_account_id": wallet, "is_active": True, "max_in_flight": None}
            terms = GrantTerms("ins_1", "acc_1", hash_token(KEY), PlanMode.METERED, **given)  # type: ignore[arg-type]
            metering.put_grant(db, terms, now=now)
        return wallet

    def _start(self) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "PYTHONPATH", "LANG")},
            "DATABASE_URL": self.database_url,
            "DATA_DIR": str(self.folder / "data"),
            "ANTHROPIC_API_KEY": "sk-ant-operator",
            "ANTHROPIC_API_URL": self._vendor.url,
            "LOG_LEVEL": "ERROR",
        }
        command = [str(PROGRAM), "proxy", "--bind", f"127.0.0.1:{self._port}", *self.arguments]
        log = (self.folder / "proxy.log").open("ab")
        self._process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                assert httpx2.get(f"http://127.0.0.1:{self._port}/healthz", timeout=5).status_code == 200
                return
            except httpx2.TransportError:
                is_late = time.monotonic() > deadline or self._process.poll() is not None
                assert not is_late, (self.folder / "proxy.log").read_text()[-4000:]
                time.sleep(0.05)

    def _live(self, number: int) -> None:
        """Until calls are acknowledged again, and a moment of chance more."""
        before, deadline = len(self._acknowledged), time.monotonic() + START_SECONDS
        while len(self._acknowledged) < before + 5:
            assert time.monotonic() < deadline, f"no call was acknowledged before kill {number}"
            time.sleep(0.01)
        time.sleep(self._rng.uniform(0, 0.3))

    def _kill(self, victims: str = "all") -> None:
        """-9 to the process that was started, to one that it started, or to all; the others must end by themselves."""
        if self._process is None or self._process.poll() is not None:
            return
        main = psutil.Process(self._process.pid)
        children = main.children(recursive=True)
        everybody = [main, *children]
        # The tracker that Python's multiprocessing starts beside them serves nobody, and its end ends nothing.
        serving = [child for child in children if "--multiprocessing-fork" in child.cmdline()]
        chosen = {"all": everybody, "main": [main], "child": self._rng.sample(serving, 1) if serving else [main]}
        for one in chosen[victims]:
            os.kill(one.pid, signal.SIGKILL)
        waiting = threading.Thread(target=self._process.wait, daemon=True)
        waiting.start()
        _, left = psutil.wait_procs(everybody, timeout=ALONE_SECONDS)
        for one in left:
            if one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
                self._left_behind += 1
                one.kill()
        waiting.join(30)

    async def _serve(self, wire: Wire) -> None:
        number = len(self._served) + FIRST_FIGURE
        self._served[number] = ""
        pause = (number % 5) * 0.002
        if not json.loads(wire.seen.body).get("stream"):
            await asyncio.sleep(pause)
            usage = {"input_tokens": 10, "output_tokens": number}
            await wire.send(whole(json.dumps({"id": f"msg_{number}", "content": [], "usage": usage}).encode()))
            return
        await wire.send(stream_head())
        ending = sse("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": number})
        for event in (START.replace(b'{"usage"', b'{"id": "msg_%d", "usage"' % number), TEXT, TEXT, ending, STOP):
            await wire.send(chunk(event))
            await asyncio.sleep(pause)
        await wire.send(chunk(b""))

    async def _press(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            await asyncio.gather(*(self._call(session, number) for number in range(self.clients)))

    async def _call(self, session: aiohttp.ClientSession, number: int) -> None:
        is_stream = number % 2 == 0
        body, headers = json.dumps(claude_body(stream=is_stream)).encode(), {"x-api-key": KEY}
        while not self._is_over.is_set():
            try:
                url = f"http://127.0.0.1:{self._port}/v1/messages"
                async with session.post(url, data=body, headers=headers) as answer:
                    got = await answer.read()
                    call_id = answer.headers.get("x-clawhaven-call", "")
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(0.02)
                continue
            if answer.status == 200 and (got.endswith(STOP) if is_stream else got.endswith(b"}")):
                said = got.partition(b'"id": "msg_')[2].partition(b'"')[0]
                self._acknowledged[call_id] = int(said)

    # The judgement

    def _judge(self, kills: int) -> Findings:
        found = Findings(kills, len(self._served), len(self._acknowledged))
        later = Clock().now() + metering.CALL_LIFETIME + timedelta(seconds=1)
        swept: list[str] = []
        while True:
            with self._db.tx() as db:
                some = metering.sweep(db, now=later)
            swept += some
            if not some:
                break
        with self._db.read() as db:
            rows = {row.id: row for row in db.scalars(sa.select(UsageRow))}
            balance = ledger.balance(db, self._wallet)
            found.problems += [f"books: {problem}" for problem in ledger.check_books(db)]
        for call, figure in self._acknowledged.items():
            row = rows.get(call)
            if row is None or (row.state, row.output_tokens, row.is_estimated) != ("closed", figure, False):
                found.problems.append(
                    f"{call} was acknowledged with {figure} and is {row and (row.state, row.output_tokens)}"
                )
        billed = Counter(row.output_tokens for row in rows.values() if row.state == "closed" and row.price_micros)
        found.problems += [f"{figure} was billed {times} times" for figure, times in billed.items() if times > 1]
        found.problems += [f"{figure} was never served" for figure in billed if figure not in self._served]
        spent = sum(row.price_micros for row in rows.values())
        if balance.balance_micros != DOLLARS * MICROS_PER_DOLLAR - spent:
            found.problems.append(
                f"the wallet lost {DOLLARS * MICROS_PER_DOLLAR - balance.balance_micros}, not {spent}"
            )
        if balance.held_micros:
            found.problems.append(f"{balance.held_micros} are still held after the sweep")
        found.problems += [f"{row.id} is still open" for row in rows.values() if row.state == "open"]
        if self._left_behind:
            found.problems.append(f"{self._left_behind} processes outlived the one that died")
        found.abandoned = len(swept)
        found.unacknowledged_but_billed = len(billed) - found.acknowledged
        return found
