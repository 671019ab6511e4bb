"""The vendor's own file and our tables, read once, side by side."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.billing.models import Checkout, Cover, Dunning, Receipt, Subscription
from clawhaven.instances.models import Instance
from clawhaven.ledger.models import LedgerAccount, LedgerEntry, LedgerPosting
from tests.fakes.world import FolderRuntime


class Place(Protocol):
    """An installation and its vendor, in this process or in others."""

    @property
    def now(self) -> datetime:
        """The time there."""

    @property
    def gateways(self) -> FolderRuntime:
        """Where its assistants run."""

    def vendor_rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """What the vendor's own file says."""


def disputed_of(payment: sqlite3.Row) -> int:
    """How much of a payment is, or was, disputed: all of it where the bank named no part."""
    part = payment["disputed_micros"]
    return int(payment["amount_micros"] if part is None else part)


class Facts:
    """The vendor's file and our tables, read once."""

    def __init__(self, place: Place, db: Session) -> None:
        self.place, self.db, self.now = place, db, place.now
        rows = place.vendor_rows
        self.sold = {row["reference"]: row for row in rows("SELECT * FROM subscriptions")}
        self.paid = {row["reference"]: row for row in rows("SELECT * FROM payments WHERE state = 'succeeded'")}
        given = rows("SELECT payment, sum(amount_micros) AS given FROM refunds WHERE NOT is_failed GROUP BY payment")
        self.came_back = {row["payment"] for row in rows("SELECT payment FROM refunds WHERE is_failed")}
        """Payments of which a refund did not arrive."""
        self.returned = {row["payment"]: int(row["given"]) for row in given}
        for reference, row in self.paid.items():
            if row["dispute"] == "lost":
                lost = self.returned.get(reference, 0) + disputed_of(row)
                self.returned[reference] = min(lost, int(row["amount_micros"]))
        self.bought = {row["reference"]: row for row in rows("SELECT * FROM checkouts")}
        self.changed = rows("SELECT * FROM changes")
        self.instances = {one.id: one for one in self.all_of(Instance)}
        self.subscriptions = {one.reference: one for one in self.all_of(Subscription)}
        self.checkouts = {one.id: one for one in self.all_of(Checkout)}
        self.receipts: list[Receipt] = self.all_of(Receipt)
        self.covers = {one.instance_id: one.subscription_id for one in self.all_of(Cover)}
        self.episodes: list[Dunning] = self.all_of(Dunning)
        self.entries = {one.idem_key: one for one in self.all_of(LedgerEntry)}
        self.postings: list[LedgerPosting] = self.all_of(LedgerPosting)
        self.wallets = {
            one.owner_id: one
            for one in self.all_of(LedgerAccount)
            if one.kind == "wallet" and one.owner_id != "platform"
        }

    def all_of(self, table: Any) -> list[Any]:
        """Every row of a table of ours."""
        return list(self.db.scalars(select(table)))

    def moved(self, key: str) -> int:
        """What an entry moved, in micro-dollars; 0 when there is none."""
        entry = self.entries.get(key)
        if entry is None:
            return 0
        return sum(one.amount_micros for one in self.postings if one.entry_id == entry.id and one.amount_micros > 0)

    def assistants_of(self, subscription: Subscription) -> list[Instance]:
        """What it pays for now."""
        return [self.instances[one] for one, covering in self.covers.items() if covering == subscription.id]
