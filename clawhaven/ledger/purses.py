"""Many holds and charges of many accounts in one go: locked once, decided in memory, written in four statements.

For model calls, of which thousands a second are opened and settled in common transactions. What one hold or charge does
is what `hold` and `settle` do (reservations.py); what is held is noted by the caller, in a row of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.db import table_of
from clawhaven.core.errors import PaymentRequired
from clawhaven.core.ids import new_ordered_id
from clawhaven.core.money import format_usd
from clawhaven.core.statements import InsertMany, Lookup, UpdateMany
from clawhaven.ledger.entries import platform_account
from clawhaven.ledger.models import PLATFORM, LedgerAccount, LedgerEntry, LedgerPosting

_ACCOUNT = table_of(LedgerAccount)
_ENTRY = table_of(LedgerEntry)
_POSTING = table_of(LedgerPosting)

_TAKE = Lookup(
    _ACCOUNT.c.id,
    sa.select(_ACCOUNT.c.id, _ACCOUNT.c.balance_micros, _ACCOUNT.c.held_micros, _ACCOUNT.c.floor_micros)
    .where(_ACCOUNT.c.balance_micros.is_not(None))
    .order_by(_ACCOUNT.c.id)
    .with_for_update(key_share=True),
)
_FIND_PLATFORM = Lookup(
    _ACCOUNT.c.kind,
    sa.select(_ACCOUNT.c.id, _ACCOUNT.c.kind).where(_ACCOUNT.c.owner_id == sa.literal_column(f"'{PLATFORM}'")),
)
_WRITE = UpdateMany(
    _ACCOUNT,
    where={"id": "purse_id", "balance_micros": "balance_before", "held_micros": "held_before"},
    values={"balance_micros": "balance_now", "held_micros": "held_now"},
)
_INSERT_ENTRY = InsertMany(_ENTRY)
_INSERT_POSTING = InsertMany(_POSTING)


@dataclass(slots=True)
class Purse:
    """One customer account, locked, with what this transaction does to it. Amounts in micro-dollars."""

    id: str
    balance_micros: int
    held_micros: int
    floor_micros: int | None
    before: tuple[int, int]

    def hold(self, amount_micros: int) -> None:
        """Set aside. Raises PaymentRequired, having changed nothing, where floor and other holds leave too little."""
        if amount_micros < 0:
            raise ValueError("a hold cannot be negative")
        if self.floor_micros is not None:
            available = self.balance_micros - self.held_micros - self.floor_micros
            if amount_micros > available:
                raise PaymentRequired(
                    f"This needs up to {format_usd(amount_micros)}; {format_usd(max(available, 0))} can be used.",
                    needed_micros=amount_micros,
                    available_micros=available,
                    balance_micros=self.balance_micros,
                )
        self.held_micros += amount_micros

    def free(self, held_micros: int) -> None:
        """Give back what was set aside. Raises RuntimeError when less is held than that."""
        if held_micros > self.held_micros:
            raise RuntimeError(f"ledger account {self.id} holds less than its calls")
        self.held_micros -= held_micros

    def charge(self, actual_micros: int, freed_micros: int) -> int:
        """Give `freed_micros` back and charge; returns what could be charged.

        More than was held is charged as far as the account covers it without touching its floor or other holds.
        """
        if actual_micros < 0:
            raise ValueError("a charge cannot be negative")
        self.free(freed_micros)
        charged = actual_micros
        if actual_micros > freed_micros and self.floor_micros is not None:
            available = self.balance_micros - self.held_micros - self.floor_micros
            charged = min(actual_micros, max(freed_micros, available))
        self.balance_micros -= charged
        return charged


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge that was made to a purse: its entry in the books. `balance_micros`: of the account, right after it."""

    key: str
    ledger_account_id: str
    amount_micros: int
    balance_micros: int
    to: str
    ref: str
    note: str
    kind: str = "usage"


def take_purses(db: Session, ledger_account_ids: Collection[str]) -> dict[str, Purse]:
    """The customer accounts of these ids that exist, locked in the order of their ids until the transaction ends."""
    return {
        row[0]: Purse(row[0], row[1], row[2], row[3], (row[1], row[2])) for row in _TAKE.fetch(db, ledger_account_ids)
    }


def write_purses(db: Session, purses: Iterable[Purse], charges: Sequence[Charge], *, now: datetime) -> None:
    """Write what was done to the purses, and the entries of the charges in their order (those of zero are left out).

    Raises RuntimeError when an account is not what it was when it was locked, or a key was booked before: nothing of
    this transaction may be kept then.
    """
    changed = [purse for purse in purses if (purse.balance_micros, purse.held_micros) != purse.before]
    if changed:
        _write_accounts(db, changed)
    booked = [charge for charge in charges if charge.amount_micros]
    if booked:
        _write_entries(db, booked, _platform_accounts(db, {charge.to for charge in booked}, now), now)


def _platform_accounts(db: Session, kinds: set[str], now: datetime) -> dict[str, str]:
    found = {kind: account_id for account_id, kind in _FIND_PLATFORM.fetch(db, kinds)}
    return {kind: found.get(kind) or platform_account(db, kind, now=now) for kind in kinds}


def _write_accounts(db: Session, changed: Sequence[Purse]) -> None:
    rows = [
        {
            "purse_id": purse.id,
            "balance_before": purse.before[0],
            "held_before": purse.before[1],
            "balance_now": purse.balance_micros,
            "held_now": purse.held_micros,
        }
        for purse in changed
    ]
    if _WRITE.run(db, rows) != len(rows):
        raise RuntimeError("a ledger account moved while it was locked")
    for purse in changed:
        purse.before = (purse.balance_micros, purse.held_micros)


def _write_entries(db: Session, charges: Sequence[Charge], platform: Mapping[str, str], now: datetime) -> None:
    entries: list[dict[str, Any]] = []
    postings: list[dict[str, Any]] = []
    for charge in charges:
        entry_id = new_ordered_id("ent", now)
        entries.append(
            {
                "id": entry_id,
                "idem_key": charge.key,
                "kind": charge.kind,
                "ref": charge.ref,
                "note": charge.note,
                "created_at": now,
            }
        )
        sides = (
            (charge.ledger_account_id, -charge.amount_micros, charge.balance_micros),
            (platform[charge.to], charge.amount_micros, None),
        )
        postings += [
            {"entry_id": entry_id, "ledger_account_id": side, "amount_micros": amount, "balance_after_micros": after}
            for side, amount, after in sides
        ]
    _INSERT_ENTRY.run(db, entries)
    _INSERT_POSTING.run(db, postings)
