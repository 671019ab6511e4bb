"""Many at once on one wallet, from several processes: never below the floor, nothing lost, the books balance."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from clawhaven import ledger
from clawhaven.core.db import Database, make_engine
from clawhaven.core.errors import PaymentRequired
from clawhaven.ledger.models import LedgerEntry, LedgerPosting, Reservation

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=30)
FLOOR = 10_000_000
START = 14_000_000
PROCESSES, THREADS, ROUNDS = 4, 16, 6


def work(url: str, wallet: str, process: int, results: multiprocessing.Queue[Counter[str]]) -> None:
    """One process: its threads debit, top up, hold, settle more or less than held, and release."""
    database = Database(make_engine(url, pool_size=THREADS))
    with ThreadPoolExecutor(THREADS) as pool:
        parts = pool.map(lambda thread: spend(database, wallet, f"{process}-{thread}"), range(THREADS))
        total: Counter[str] = sum(parts, Counter())
    database.close()
    results.put(total)


def spend(database: Database, wallet: str, name: str) -> Counter[str]:
    """What this worker believes to have moved, in micro-dollars, and how often it was refused."""
    done: Counter[str] = Counter()
    chance = random.Random(name)
    for number in range(ROUNDS):
        key, amount = f"{name}-{number}", chance.randint(1, 300_000)
        try:
            match number % 3:
                case 0:
                    with database.tx() as db:
                        ledger.debit(db, key=key, ledger_account_id=wallet, amount_micros=amount, now=NOW, kind="usage")
                    done["out"] += amount
                case 1:
                    for _ in range(2):  # a repeat moves nothing
                        with database.tx() as db:
                            ledger.credit(db, key=key, ledger_account_id=wallet, amount_micros=amount, now=NOW)
                    done["in"] += amount
                case _:
                    done["out"] += call(database, wallet, key, amount, chance)
        except PaymentRequired:
            done["refused"] += 1
    return done


def call(database: Database, wallet: str, key: str, amount: int, chance: random.Random) -> int:
    """A hold and its end; returns what was charged."""
    with database.tx() as db:
        ledger.hold(db, key, wallet, amount, LATER, now=NOW)
    if chance.random() < 0.2:
        with database.tx() as db:
            ledger.release(db, key)
        return 0
    used = int(amount * chance.choice([0.1, 0.9, 1.0, 1.4]))
    with database.tx() as db:
        return ledger.settle(db, key, used, to="usage_revenue", now=NOW).charged_micros


def test_64_at_once_on_one_wallet_from_several_processes(database_url: str, db: Database) -> None:
    with db.tx() as tx:
        wallet = ledger.open_account(tx, "wallet", "acc_busy", FLOOR, now=NOW)
        for kind in ("payments", "usage_revenue"):
            ledger.platform_account(tx, kind, now=NOW)
        ledger.credit(tx, key="start", ledger_account_id=wallet, amount_micros=START, now=NOW)
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    workers = [spawn.Process(target=work, args=(database_url, wallet, number, results)) for number in range(PROCESSES)]
    low, stop = [START], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            with db.read() as tx:
                found = ledger.balance(tx, wallet)
            low.append(found.balance_micros - found.held_micros)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for worker in workers:
        worker.start()
    total: Counter[str] = sum((results.get(timeout=60) for _ in workers), Counter())
    for worker in workers:
        worker.join(timeout=30)
    stop.set()
    watcher.join()

    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert min(low) >= FLOOR, "what is free was below the floor for a moment"
    assert total["refused"] > 0, "the wallet was never at its floor, so nothing was tried"
    with db.read() as tx:
        after = tx.scalar(sa.select(sa.func.min(LedgerPosting.balance_after_micros)).where(LedgerPosting.id > 2))
        assert after is not None
        assert after >= FLOOR
        found = ledger.balance(tx, wallet)
        assert found.balance_micros == START + total["in"] - total["out"]
        assert found.held_micros == 0
        assert tx.scalar(sa.select(sa.func.count()).where(Reservation.state == "held")) == 0
        topups = PROCESSES * THREADS * ROUNDS // 3 + 1
        assert tx.scalar(sa.select(sa.func.count()).where(LedgerEntry.kind == "topup")) == topups
        assert ledger.check_books(tx) == []
