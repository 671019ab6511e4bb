"""Subscriptions of the sandbox: begun, billed, changed, ended. The calendar that moves them is sandbox_calendar.py."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from typing import Any, Final

from clawhaven.core.ids import new_id
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Price, VendorSubscription
from clawhaven.providers.payments.sandbox_events import about
from clawhaven.providers.payments.sandbox_invoices import (
    Bill,
    Desk,
    add_credit,
    ask_card,
    fail_invoice,
    pay_invoice,
    void_invoice,
    write_invoice,
)
from clawhaven.providers.payments.sandbox_prices import check_price, discounted, period_of, share_of, unpack
from clawhaven.providers.payments.sandbox_store import as_time, maybe_time, refused, row_of
from clawhaven.providers.payments.sandbox_trouble import Card

RETRY_DAYS: Final = (3, 5, 7)
"""A failed renewal is tried again so many days after the try before, then the subscription is unpaid.

Source: Stripe, "Automate payment retries", a custom schedule with "mark the subscription as unpaid" at its end.
"""

OWING: Final = frozenset({"past_due", "unpaid"})


def begin(desk: Desk, checkout: sqlite3.Row) -> tuple[str, str | None]:
    """The subscription of a checkout that was just paid, and its first payment; a trial has none."""
    reference, trial_days = new_id("ssub"), int(checkout["trial_days"])
    first = desk.at + timedelta(days=trial_days)
    period = (desk.at, first) if trial_days else period_of(desk.at, 0, checkout["interval"])
    _put(
        desk.db,
        reference,
        checkout=checkout["reference"],
        customer=checkout["customer"],
        plan=checkout["plan"],
        description=checkout["description"],
        interval=checkout["interval"],
        amount_micros=checkout["amount_micros"],
        state="trialing" if trial_days else "active",
        period_start=period[0].timestamp(),
        period_end=period[1].timestamp(),
        trial_end=first.timestamp() if trial_days else None,
        anchor=first.timestamp(),
        discount=checkout["discount"],
        discount_from=first.timestamp(),
        period_micros=0,
        created_at=desk.at.timestamp(),
    )
    if trial_days:
        return reference, None
    row = row_of(desk.db, "subscriptions", reference)
    invoice = _bill_period(desk, row, period, uses_credit=False)
    return reference, pay_invoice(desk, invoice)


def turn_period(desk: Desk, row: sqlite3.Row, card: Card | None = None) -> None:
    """The period or trial ends: the next one begins and is billed, or the subscription marked to end has ended.

    `card` None: as the saved card behaves. Who owes a period already owes only the new one: nobody served it.
    """
    if row["state"] == "canceled":
        raise refused("subscription_ended", "This subscription has ended.")
    if row["cancel_at_period_end"]:
        end(desk, row)
        return
    if row["state"] == "trialing":
        begins = min(desk.at, as_time(row["trial_end"])).timestamp()
        _change(desk.db, row, anchor=begins, trial_end=begins, discount_from=begins, cycle=0)
    else:
        _change(desk.db, row, cycle=row["cycle"] + 1)
    void_invoice(desk, row["owed"])
    was_unpaid = row["state"] == "unpaid"
    row = row_of(desk.db, "subscriptions", row["reference"])
    period = period_of(as_time(row["anchor"]), row["cycle"], row["interval"])
    _change(desk.db, row, period_start=period[0].timestamp(), period_end=period[1].timestamp(), owed=None)
    invoice = _bill_period(desk, row, period, uses_credit=True)
    if row["is_paused"]:
        # As at Stripe (pause_collection, behavior void): nobody pays for this period, now or later.
        void_invoice(desk, invoice["reference"])
        _change(desk.db, row, state="active", period_micros=0, attempts=0, next_attempt_at=None)
        desk.tell(["subscription.updated"], _about(row))
        return
    if was_unpaid and invoice["due_micros"]:
        _change(desk.db, row, owed=invoice["reference"])
        desk.tell(["subscription.updated"], _about(row))
        return
    _change(desk.db, row, attempts=0, next_attempt_at=None)
    collect(desk, row_of(desk.db, "subscriptions", row["reference"]), invoice, card)


def collect(desk: Desk, row: sqlite3.Row, invoice: sqlite3.Row, card: Card | None = None) -> None:
    """Try to have a period's invoice paid with the saved card; what fails is owed and tried again by the calendar."""
    if invoice["due_micros"] and (card := card or ask_card(desk.db, row["customer"])) != "works":
        payment = fail_invoice(desk, invoice)
        tries = int(row["attempts"])
        is_last = tries >= len(RETRY_DAYS)
        _change(
            desk.db,
            row,
            state="unpaid" if is_last else "past_due",
            owed=invoice["reference"],
            attempts=tries + 1,
            next_attempt_at=None if is_last else (desk.at + timedelta(days=RETRY_DAYS[tries])).timestamp(),
        )
        kind = "payment.action_required" if card == "needs_3ds" else "payment.failed"
        desk.tell([kind, "subscription.updated"], _about(row, payment, invoice["due_micros"]))
        return
    settle(desk, row, invoice)


def settle(desk: Desk, row: sqlite3.Row, invoice: sqlite3.Row) -> None:
    """A period's invoice is paid, by whatever way: nothing is owed."""
    payment = pay_invoice(desk, invoice)
    _change(desk.db, row, state="active", owed=None, attempts=0, next_attempt_at=None)
    desk.tell(["payment.succeeded", "subscription.updated"], _about(row, payment, invoice["due_micros"]))


def end(desk: Desk, row: sqlite3.Row) -> None:
    """The subscription is over; already over is success. What it owed is not asked for any more."""
    if row["state"] == "canceled":
        return
    void_invoice(desk, row["owed"])
    _change(desk.db, row, state="canceled", owed=None, next_attempt_at=None)
    desk.tell(["subscription.canceled"], _about(row))


def mark_ending(desk: Desk, row: sqlite3.Row, is_ending: bool) -> None:
    """End with the period, or not after all. Raises a permanent ProviderError for one that is over and wanted back."""
    if row["state"] == "canceled" and not is_ending:
        raise refused("subscription_ended", "This subscription has ended.")
    if row["state"] == "canceled" or bool(row["cancel_at_period_end"]) == is_ending:
        return
    _change(desk.db, row, cancel_at_period_end=is_ending)
    desk.tell(["subscription.updated"], _about(row))


def mark_paused(desk: Desk, row: sqlite3.Row, is_paused: bool) -> None:
    """Collect no renewal, or collect them again; over or so already: nothing happens."""
    if row["state"] == "canceled" or bool(row["is_paused"]) == is_paused:
        return
    _change(desk.db, row, is_paused=is_paused)
    desk.tell(["subscription.updated"], _about(row))


def change_plan(desk: Desk, row: sqlite3.Row, price: Price, key: str) -> ProviderError | None:
    """Move to another price now. Returns the refusal when the saved card does not pay what the dearer plan costs:
    then nothing changed (Stripe's `payment_behavior=error_if_incomplete`).

    Raises a permanent ProviderError for one that has ended or owes an invoice, and for a key used for another change.
    """
    wanted = (row["reference"], price.plan, price.amount_micros, price.interval)
    before = desk.db.execute("SELECT * FROM changes WHERE key = ?", (key,)).fetchone()
    if before is not None:
        if tuple(before[name] for name in ("subscription", "plan", "amount_micros", "interval")) != wanted:
            raise refused("idempotency_mismatch", "This key was used before for another change of plan.")
        return None
    check_price(price)
    if row["state"] == "canceled":
        raise refused("subscription_ended", "This subscription has ended.")
    if row["state"] in OWING:
        raise refused("invoice_open", "What is owed must be paid before the plan can be changed.")
    if (row["plan"], row["amount_micros"], row["interval"]) != wanted[1:]:
        refusal = _move(desk, row, price)
        if refusal is not None:
            return refusal
    desk.db.execute(
        "INSERT INTO changes (key, subscription, plan, amount_micros, interval, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (key, *wanted, desk.at.timestamp()),
    )
    return None


def vendor_subscription(row: sqlite3.Row, pages: str | None) -> VendorSubscription:
    """A subscription as the port has it; `pages` is the address before an invoice's reference, None: not told."""
    return VendorSubscription(
        reference=row["reference"],
        state=row["state"],
        current_period_start=as_time(row["period_start"]),
        current_period_end=as_time(row["period_end"]),
        cancel_at_period_end=bool(row["cancel_at_period_end"]),
        plan=row["plan"] or None,
        amount_micros=row["amount_micros"],
        trial_end=maybe_time(row["trial_end"]),
        pay_url=f"{pages}/{row['owed']}" if pages and row["owed"] else None,
        is_paused=bool(row["is_paused"]),
    )


def _move(desk: Desk, row: sqlite3.Row, price: Price) -> ProviderError | None:
    changes: dict[str, Any] = {
        "plan": price.plan,
        "description": price.name,
        "amount_micros": price.amount_micros,
        "interval": price.interval,
    }
    bill = None
    if row["state"] == "active":
        start, stop = as_time(row["period_start"]), as_time(row["period_end"])
        rest, total = (stop - desk.at).total_seconds(), (stop - start).total_seconds()
        is_new_period = price.interval != row["interval"]
        period = period_of(desk.at, 0, price.interval) if is_new_period else (start, stop)
        net = _net(row, price.amount_micros, period[0])
        unused = share_of(row["period_micros"], rest, total)
        owed = (net if is_new_period else share_of(net, rest, total)) - unused
        changes["period_micros"] = net
        if is_new_period:
            changes |= {"anchor": desk.at.timestamp(), "cycle": 0}
            changes |= {"period_start": period[0].timestamp(), "period_end": period[1].timestamp()}
        bill = Bill(
            customer=row["customer"],
            checkout=row["checkout"],
            subscription=row["reference"],
            plan=price.plan if is_new_period else None,
            description=price.name if is_new_period else f"{price.name}, rest of the period",
            amount_micros=max(0, owed),
            period=period if is_new_period else None,
            uses_credit=True,
        )
        credit = int(row_of(desk.db, "customers", row["customer"])["credit_micros"])
        if bill.amount_micros > credit and (card := ask_card(desk.db, row["customer"])) != "works":
            return _not_paid(card)
        add_credit(desk.db, row["customer"], max(0, -owed))
    _change(desk.db, row, **changes)
    if bill is not None and (bill.period or bill.amount_micros):
        invoice = write_invoice(desk, bill)
        paid = pay_invoice(desk, invoice)
        desk.tell(["payment.succeeded", "subscription.updated"], _about(row, paid, invoice["due_micros"]))
    else:
        desk.tell(["subscription.updated"], _about(row))
    return None


def _not_paid(card: Card) -> ProviderError:
    if card == "needs_3ds":
        return refused("authentication_required", "The saved card's bank asks its owner to confirm the payment.")
    return refused("card_declined", "The saved card was declined; the plan was not changed.")


def _bill_period(desk: Desk, row: sqlite3.Row, period: tuple[datetime, datetime], *, uses_credit: bool) -> sqlite3.Row:
    net = _net(row, row["amount_micros"], period[0])
    _change(desk.db, row, period_micros=net)
    bill = Bill(
        customer=row["customer"],
        checkout=row["checkout"],
        subscription=row["reference"],
        plan=row["plan"],
        description=row["description"],
        amount_micros=net,
        period=period,
        uses_credit=uses_credit,
    )
    return write_invoice(desk, bill)


def _net(row: sqlite3.Row, amount_micros: int, period_start: datetime) -> int:
    begins = as_time(row["discount_from"] or row["anchor"])
    return discounted(amount_micros, unpack(row["discount"]), begins, period_start)


def _about(row: sqlite3.Row, payment: str | None = None, amount_micros: int | None = None) -> dict[str, Any]:
    return about(row["checkout"], row["reference"], payment, amount_micros)


def _put(db: sqlite3.Connection, reference: str, **values: Any) -> None:
    names = ", ".join(["reference", *values])
    marks = ", ".join("?" * (1 + len(values)))
    db.execute(
        f"INSERT INTO subscriptions ({names}) VALUES ({marks})",  # noqa: S608 - names are literals above
        (reference, *values.values()),
    )


def _change(db: sqlite3.Connection, row: sqlite3.Row, **values: Any) -> None:
    names = ", ".join(f"{name} = ?" for name in values)
    db.execute(
        f"UPDATE subscriptions SET {names} WHERE reference = ?",  # noqa: S608 - names are literals above
        (*values.values(), row["reference"]),
    )
