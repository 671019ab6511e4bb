"""What an operator rehearses at the sandbox vendor: a period's end now, disputes, trouble, a moved calendar."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from clawhaven.core.ids import new_id
from clawhaven.ports.payments import VendorPayment
from clawhaven.providers.payments import sandbox_calendar
from clawhaven.providers.payments import sandbox_subscriptions as subscriptions
from clawhaven.providers.payments.sandbox_checkouts import CHARGE
from clawhaven.providers.payments.sandbox_events import about
from clawhaven.providers.payments.sandbox_invoices import Desk, fail_refunds, payments_of, refund_payment
from clawhaven.providers.payments.sandbox_office import Office
from clawhaven.providers.payments.sandbox_store import as_time, refused, row_of
from clawhaven.providers.payments.sandbox_trouble import Trouble, ahead, push_clock, read_trouble, write_trouble

Verdict = Literal["open", "won", "lost"]

DISPUTE_ANSWER: Final = timedelta(days=7)
"""So long an answer to a dispute is taken."""

_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class RehearsedPayment:
    """A payment that something can still be rehearsed with. `left_micros`: what was not given back."""

    reference: str
    amount_micros: int
    left_micros: int
    dispute: str | None
    paid_at: datetime | None


@dataclass(frozen=True, slots=True)
class RehearsedSubscription:
    """A line of the demo page. `card` is how the customer's saved card behaves."""

    reference: str
    email: str
    description: str
    state: str
    amount_micros: int
    interval: str
    period_end: datetime
    next_attempt_at: datetime | None
    is_ending: bool
    is_owing: bool
    card: str | None
    payments: tuple[RehearsedPayment, ...]


@dataclass(frozen=True, slots=True)
class RehearsedSale:
    """A payment made once: a top-up. `is_charge`: the saved card was charged while the customer was away."""

    email: str
    description: str
    is_charge: bool
    payment: RehearsedPayment


@dataclass(frozen=True, slots=True)
class Stage:
    """What the demo page shows. `now` is the vendor's, `ahead` how far it is before the real time."""

    trouble: Trouble
    now: datetime
    ahead: timedelta
    waiting_events: int
    subscriptions: tuple[RehearsedSubscription, ...]
    sales: tuple[RehearsedSale, ...]


class Rehearsals(Office):
    """The vendor's inside. Nothing here asks whether the vendor is switched off: only the outside sees that."""

    def renew(self, subscription_reference: str) -> None:
        """The next period begins and is paid; one marked to end ends instead; one that owes pays and recovers."""
        with self._inside() as desk:
            row = row_of(desk.db, "subscriptions", subscription_reference)
            if row["owed"]:
                subscriptions.settle(desk, row, row_of(desk.db, "invoices", row["owed"]))
            else:
                subscriptions.turn_period(desk, row, "works")

    def fail_renewal(self, subscription_reference: str) -> None:
        """The next period begins and its payment fails: past_due. One that owes fails once more."""
        with self._inside() as desk:
            row = row_of(desk.db, "subscriptions", subscription_reference)
            if row["owed"]:
                subscriptions.collect(desk, row, row_of(desk.db, "invoices", row["owed"]), "declined")
            else:
                subscriptions.turn_period(desk, row, "declined")

    def bill(self, subscription_reference: str) -> None:
        """The next period begins, or what is owed is tried again, and the saved card decides how it goes."""
        with self._inside() as desk:
            row = row_of(desk.db, "subscriptions", subscription_reference)
            if row["owed"]:
                subscriptions.collect(desk, row, row_of(desk.db, "invoices", row["owed"]))
            else:
                subscriptions.turn_period(desk, row)

    def pay_owed(self, subscription_reference: str) -> None:
        """The customer pays what is owed, on the invoice's page; nothing owed is success."""
        with self._inside() as desk:
            row = row_of(desk.db, "subscriptions", subscription_reference)
            if row["owed"]:
                subscriptions.settle(desk, row, row_of(desk.db, "invoices", row["owed"]))

    def end(self, subscription_reference: str) -> None:
        """End a subscription now; already ended is success."""
        with self._inside() as desk:
            subscriptions.end(desk, row_of(desk.db, "subscriptions", subscription_reference))

    def dispute(self, payment_reference: str, verdict: Verdict, amount_micros: int | None = None) -> None:
        """The customer's bank takes a payment back (`open`), or has decided: `won` is ours, `lost` is gone.

        `amount_micros`: how much of it is disputed; None: all of it. The same again is success. Permanent
        ProviderError for a payment given back in full, for more than is left of it, and for a verdict where no
        dispute is open.
        """
        if verdict not in ("open", "won", "lost"):
            raise refused("unknown_verdict", "A dispute is open, won or lost.")
        with self._inside() as desk:
            row = row_of(desk.db, "payments", payment_reference)
            if row["dispute"] == verdict:
                return
            if verdict == "open":
                self._refuse_dispute(desk, payment_reference, row["checkout"], amount_micros)
            elif row["dispute"] != "open":
                raise refused("no_dispute", "No dispute of this payment is open.")
            desk.db.execute(
                "UPDATE payments SET dispute = ?, dispute_due_at = ? WHERE reference = ?",
                (verdict, (desk.at + DISPUTE_ANSWER).timestamp(), payment_reference),
            )
            if verdict == "open":
                part = (amount_micros, payment_reference)
                desk.db.execute("UPDATE payments SET disputed_micros = ? WHERE reference = ?", part)
            said = about(row["checkout"], row["subscription"], payment_reference, row["amount_micros"])
            desk.tell(["dispute.opened" if verdict == "open" else "dispute.closed"], said)

    def refund_rest(self, payment_reference: str) -> None:
        """Give back all that is left of a payment, as an operator does on a vendor's own site.

        ProviderError (permanent) for a payment that failed, and where nothing is left.
        """
        with self._inside() as desk:
            row = row_of(desk.db, "payments", payment_reference)
            paid = [one for one in payments_of(desk.db, row["checkout"]) if one.reference == payment_reference]
            left = sum(one.amount_micros - (one.refunded_micros or 0) for one in paid)
            refund_payment(desk, row, left, new_id("by_hand"))

    def fail_refunds(self, payment_reference: str) -> None:
        """The customer's bank does not take what was given back: it is ours again."""
        with self._inside() as desk:
            fail_refunds(desk, row_of(desk.db, "payments", payment_reference))

    def trouble(self) -> Trouble:
        """What goes wrong at present."""
        with self._store.read() as db:
            return read_trouble(db)

    def make_trouble(self, trouble: Trouble) -> None:
        """From now on this goes wrong, in every process, until it is taken back with `Trouble()`."""
        with self._inside() as desk:
            write_trouble(desk.db, trouble)

    def change_trouble(self, **changes: Any) -> None:
        """Change some fields of the present trouble. ProviderError (permanent) naming one that cannot be so."""
        with self._inside() as desk:
            write_trouble(desk.db, replace(read_trouble(desk.db), **changes))

    def push_clock(self, by: timedelta) -> None:
        """Move the vendor's calendar on and do what is due then. Ours stays: periods end early for us."""
        with self._inside() as desk:
            push_clock(desk.db, by)
        self.advance()

    def advance(self, now: datetime | None = None) -> int:
        """Renew, retry, end and remind whatever is due by `now` on the vendor's calendar; how much it was."""
        tell_at: Callable[[], datetime] = self._clock.now
        return sandbox_calendar.advance(self._store, now or self.now(), tell_at)

    def stage(self) -> Stage:
        """What the demo page shows: the trouble there is, the newest subscriptions and the newest single payments."""
        with self._store.read() as db:
            rows = db.execute(
                "SELECT s.*, c.email, c.card FROM subscriptions s JOIN customers c ON c.reference = s.customer"
                " ORDER BY s.state = 'canceled', s.created_at DESC, s.rowid DESC LIMIT ?",
                (_SHOWN,),
            ).fetchall()
            shown = tuple(
                RehearsedSubscription(
                    reference=row["reference"],
                    email=row["email"],
                    description=row["description"],
                    state=row["state"],
                    amount_micros=row["amount_micros"],
                    interval=row["interval"],
                    period_end=as_time(row["period_end"]),
                    next_attempt_at=as_time(row["next_attempt_at"]) if row["next_attempt_at"] else None,
                    is_ending=bool(row["cancel_at_period_end"]),
                    is_owing=row["owed"] is not None,
                    card=row["card"],
                    payments=tuple(_rehearsed(one) for one in payments_of(db, row["checkout"])[-3:]),
                )
                for row in rows
            )
            by = ahead(db)
            (waiting,) = db.execute("SELECT count(*) FROM deliveries WHERE delivered_at IS NULL").fetchone()
            return Stage(read_trouble(db), self._clock.now() + by, by, waiting, shown, _sales(db))

    @staticmethod
    def _refuse_dispute(desk: Desk, payment_reference: str, checkout: str, part_micros: int | None) -> None:
        found = [one for one in payments_of(desk.db, checkout) if one.reference == payment_reference]
        left = found[0].amount_micros - (found[0].refunded_micros or 0) if found else 0
        if left <= 0:
            raise refused("nothing_to_dispute", "Nothing is left of this payment to dispute.")
        if part_micros is not None and not 0 < part_micros <= left:
            raise refused("nothing_to_dispute", "A dispute is about a part of what is left of the payment.")
        if found[0].dispute:
            raise refused("dispute_closed", "This payment was disputed before; that is decided.")


def _sales(db: sqlite3.Connection) -> tuple[RehearsedSale, ...]:
    rows = db.execute(
        "SELECT reference, email, description, kind FROM checkouts WHERE interval IS NULL AND state = 'paid'"
        " ORDER BY created_at DESC, rowid DESC LIMIT ?",
        (_SHOWN,),
    ).fetchall()
    return tuple(
        RehearsedSale(row["email"], row["description"], row["kind"] == CHARGE, _rehearsed(one))
        for row in rows
        for one in payments_of(db, row["reference"])
    )


def _rehearsed(one: VendorPayment) -> RehearsedPayment:
    return RehearsedPayment(
        reference=one.reference,
        amount_micros=one.amount_micros,
        left_micros=one.amount_micros - (one.refunded_micros or 0),
        dispute=one.dispute,
        paid_at=one.paid_at,
    )
