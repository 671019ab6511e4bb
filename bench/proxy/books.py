"""The installation under our proxy: its customers before, its books after. A script of its own, so that it can run
with another tree's packages (PYTHONPATH): `python books.py prepare|check`; the settings are in the environment."""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven import ledger, metering, wiring
from clawhaven.accounts import signup
from clawhaven.core.db import Database, make_engine
from clawhaven.core.secrets import hash_token
from clawhaven.core.settings import Settings
from clawhaven.ledger.models import PLATFORM, LedgerAccount
from clawhaven.metering.models import CallState, UsageRow
from clawhaven.ports.upstream import Usage

WALLET_MICROS = 10_000_000 * 1_000_000
MARKUP_PERCENT = 150
SETTLING_SECONDS = 20.0
"""Calls whose client went away are read to their end; then all are closed."""


def prepare(instances: int, in_flight: int, *, has_all_limits: bool) -> dict[str, Any]:
    """An empty installation with so many customers on the metered plan, each with one instance and a full wallet.

    Gives their keys, and for each vendor the name of a model of its.
    """
    settings, now, keys = Settings(), datetime.now(UTC), []
    wiring.migrate(settings)
    database = Database(make_engine(settings.database_url))
    for number in range(instances):
        key = f"bench-key-{number:04d}-{'k' * 32}"
        with database.tx() as db:
            owner = signup.register(db, f"bench-{number}@example.com", now, verified_at=now)
            wallet = ledger.open_account(db, "wallet", owner.account.id, 10_000_000, now=now)
            ledger.credit(db, key=f"bench:{number}", ledger_account_id=wallet, amount_micros=WALLET_MICROS, now=now)
            terms = metering.GrantTerms(
                instance_id=f"ins_bench_{number:04d}",
                account_id=owner.account.id,
                key_hash=hash_token(key),
                plan_mode=metering.PlanMode.METERED,
                ledger_account_id=wallet,
                is_active=True,
                messages_per_hour=10**9 if has_all_limits else None,
                tokens_per_day=10**12 if has_all_limits else None,
                max_in_flight=in_flight,
                markup_percent=MARKUP_PERCENT,
            )
            metering.put_grant(db, terms, now=now)
        keys.append(key)
    database.close()
    models = {price.upstream: price.model for price in reversed(metering.builtin_prices().current(now))}
    return {"keys": keys, "models": models}


def check(vendor: str, before: list[dict[str, int]], acknowledged: int, cut: int, model: str) -> dict[str, Any]:
    """What the books say, and under `lies` what of it is not true.

    `vendor`: the address where the stub says what it served, by tokens; `before`: what it said first. `acknowledged`:
    whole answers that clients have got. `cut`: clients that left before their answer was whole, at most.
    """
    database = Database(make_engine(Settings().database_url))
    still, reported = _wait_for_the_last(database, vendor)
    reported -= _by_tokens(before)
    with database.read() as db:
        calls = _read_calls(db)
        moved = _read_moved(db)
        income = ledger.account_of(db, "usage_revenue", PLATFORM)
        revenue = ledger.balance(db, income).balance_micros if income else 0
        lies = [f"the ledger: {one}" for one in ledger.check_books(db)]
    database.close()
    billed, closed = calls.billed_micros, calls.booked.total() + calls.estimated
    lies += _find_wrong_prices(calls, model)
    if still or calls.abandoned:
        lies.append(f"{still} calls are still open, {calls.abandoned} were abandoned")
    if not acknowledged <= closed <= acknowledged + cut:
        lies.append(f"{acknowledged} answers were acknowledged (and at most {cut} cut), {closed} calls billed")
    is_possible = calls.booked <= reported and reported.total() <= closed and calls.estimated <= cut
    if not (is_possible if calls.estimated else calls.booked == reported):
        said = f"{dict(calls.booked)} and {calls.estimated} estimated"
        lies.append(f"the vendor served {dict(reported)}, the books say {said}")
    if not billed == -moved == revenue:
        lies.append(f"calls were billed {billed}, wallets moved {moved}, revenue is {revenue}")
    return {
        "acknowledged": acknowledged,
        "served": reported.total(),
        "closed": closed,
        "estimated": calls.estimated,
        "failed": calls.failed,
        "billed_micros": billed,
        "wallets_moved_micros": moved,
        "lies": lies,
    }


@dataclass(slots=True)
class _Calls:
    """The calls in the books: closed ones by tokens, with what they were billed together, and the others."""

    booked: Counter[tuple[int, int]] = field(default_factory=Counter)
    prices: Counter[tuple[int, int]] = field(default_factory=Counter)
    billed_micros: int = 0
    estimated: int = 0
    abandoned: int = 0
    failed: int = 0


def _read_calls(db: Session) -> _Calls:
    row, calls = UsageRow, _Calls()
    total = sa.func.coalesce(sa.func.sum(row.price_micros), 0)
    kinds = (row.state, row.is_estimated, row.input_tokens + row.cache_read_tokens, row.output_tokens)
    for state, is_estimated, given, made, count, price in db.execute(
        sa.select(*kinds, sa.func.count(), total).group_by(*kinds)
    ):
        calls.billed_micros += int(price)
        if state != CallState.CLOSED.value:
            calls.abandoned += count
        elif is_estimated:
            calls.estimated += count
        elif given or made:
            calls.booked[given, made] += count
            calls.prices[given, made] += int(price)
        else:
            calls.failed += count
    return calls


def _find_wrong_prices(calls: _Calls, model: str) -> list[str]:
    price, lies = metering.builtin_prices().find(model, datetime.now(UTC)), []
    assert price
    for (given, made), count in calls.booked.items():
        unit = metering.cost(price, Usage(input_tokens=given, output_tokens=made), MARKUP_PERCENT).price_micros
        if calls.prices[given, made] != unit * count:
            billed = calls.prices[given, made]
            lies.append(f"{count} calls of {given}+{made} tokens were billed {billed}, not {unit} each")
    return lies


def _wait_for_the_last(database: Database, vendor: str) -> tuple[int, Counter[tuple[int, int]]]:
    """Until no call is open and the vendor is asked no more: calls that are open after SETTLING_SECONDS, and what the
    vendor has served."""
    deadline, last = time.monotonic() + SETTLING_SECONDS, Counter[tuple[int, int]]()
    while True:
        with urllib.request.urlopen(f"{vendor}/served", timeout=10) as answer:
            reported = _by_tokens(json.load(answer)["served"])
        with database.read() as db:
            query = sa.select(sa.func.count()).where(UsageRow.state == CallState.OPEN.value)
            still = int(db.execute(query).scalar_one())
        if (not still and reported == last) or time.monotonic() > deadline:
            return still, reported
        last = reported
        time.sleep(0.5)


def _by_tokens(served: list[dict[str, int]]) -> Counter[tuple[int, int]]:
    return Counter({(one["input"], one["output"]): one["answers"] for one in served})


def _read_moved(db: Session) -> int:
    """What the wallets lost since they were filled, in micro-dollars (so it is not above zero)."""
    account = LedgerAccount
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(account.balance_micros), 0))
    count, balance = db.execute(query.where(account.kind == "wallet")).one()
    return int(balance or 0) - count * WALLET_MICROS


def main() -> int:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("prepare", "check"))
    parser.add_argument("--instances", type=int, default=16)
    parser.add_argument("--in-flight", type=int, default=2000)
    parser.add_argument("--all-limits", action="store_true")
    given = parser.parse_args()
    if given.verb == "prepare":
        said = prepare(given.instances, given.in_flight, has_all_limits=given.all_limits)
    else:
        said = check(**json.load(sys.stdin))
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
