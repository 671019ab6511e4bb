"""Customers, the operator and the bank: what each may do next. Everything goes through the product's own functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven import metering
from clawhaven.accounts import signup
from clawhaven.accounts.signup import Owner
from clawhaven.billing import wallet
from clawhaven.billing.models import Checkout, Receipt, Subscription
from clawhaven.core.errors import AppError, PaymentRequired
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State
from clawhaven.metering.batches import Ask, Closing, OpenCall, Opening, run_batch
from clawhaven.metering.models import Source
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.upstream import Usage
from clawhaven.providers.payments.sandbox_invoices import save_card
from clawhaven.providers.payments.sandbox_trouble import CARDS, Card
from clawhaven.workflows import balance, checkout, lifecycle, ownkey, plan, refunds, topups
from clawhaven.workflows.checkout import Form
from tests.money.mortality import Killed
from tests.money.world import Ground, disputed_part

DOLLAR = 1_000_000
CENT = 10_000
PLANS = ("personal", "metered", "metered", "tryout", "yearly", "monthly")
COUPONS = {"GIFT": ("credit", 5 * DOLLAR), "HALF": ("percent", 50), "TENNER": ("amount", 10 * DOLLAR)}
OPERATOR = "user:operator"


@dataclass(frozen=True)
class View:
    """What the books say of one customer now."""

    owner: Owner
    instances: list[Instance]
    subscriptions: list[Subscription]
    checkouts: list[Checkout]
    receipts: list[Receipt]


class Customer:
    """One history. `calls` are model calls under way."""

    def __init__(self, world: Ground, number: int) -> None:
        self.world, self.email = world, f"c{number}@example.com"
        self.calls: list[str] = []
        self._count, self._deed = 0, ""

    def act(self) -> None:
        """One thing happens to this customer."""
        view = self._look()
        self.world.actions += 1
        if view is None:
            self._deed = "sign_up"
            self.sign_up()
            return
        has_one = any(one.state in (State.PROVISIONING, State.ACTIVE, State.SUSPENDED) for one in view.instances)
        deeds = DEEDS if has_one or self.world.random.random() < 0.3 else BEGINNINGS
        if _without_plan(view) and self.world.random.random() < 0.5:
            deeds = [(Customer.reactivate, 1)]
        elif any(one.is_ending for one in view.subscriptions) and self.world.random.random() < 0.25:
            deeds = [(Customer.undo, 1)]
        deed = self.world.random.choices([one for one, _ in deeds], [weight for _, weight in deeds])[0]
        self._deed = deed.__name__
        deed(self, view)

    def _look(self) -> View | None:
        with self.world.ctx.db.read() as db:
            owner = signup.find_owner(db, self.email)
            if owner is None:
                return None
            return View(owner, *(_rows(db, table, owner) for table in (Instance, Subscription, Checkout, Receipt)))

    def _do(self, what: str, call: Callable[[], Any]) -> Any:
        """Through a door, where a refusal is an answer and a death is nothing at all."""
        try:
            done = call()
        except Killed as death:
            self.world.say(f"{self.email} {what}: killed {death}")
        except AppError as refusal:
            self.world.say(f"{self.email} {what}: refused, {refusal.message}")
        else:
            self._succeed(what)
            return done
        return None

    def _succeed(self, what: str) -> None:
        self.world.done[self._deed] += 1
        self.world.say(f"{self.email} {what}")

    def _at_vendor(self, what: str, call: Callable[[], Any]) -> None:
        """On the vendor's own pages."""
        try:
            call()
        except ProviderError as refusal:
            self.world.say(f"{self.email} {what}: the vendor says {refusal.code}")
        else:
            self._succeed(what)

    def _form(self, plan_id: str, coupon: str = "") -> Form:
        self._count += 1
        return Form(f"Ada {self._count}", "Help me.", plan_id, "personal", {}, coupon)

    def _pick(self, found: list[Any]) -> Any:
        return self.world.random.choice(found) if found else None

    def sign_up(self) -> None:
        chosen = self._pick(list(PLANS))
        coupon = self._pick(["", "", "", "HALF", "TENNER"])
        form = self._form(chosen, coupon)
        self._do(f"signs up for {chosen} {coupon}", lambda: checkout.sign_up(self.world.ctx, self.email, form))

    def visit_page(self, view: View) -> None:
        """A page that exists at the vendor: paid, declined, or left for good. One that does not is made."""
        for one in view.checkouts:
            if one.reference is None and one.state == "open":
                self._do("opens the payment page", partial(checkout.page_for, self.world.ctx, one.id))
        rows = self.world.vendor_rows("SELECT reference FROM checkouts WHERE state IN ('open', 'declined')")
        there = {row["reference"] for row in rows}
        one = self._pick([one for one in view.checkouts if one.reference in there])
        if one is None:
            return
        outcome: Any = self.world.random.choices(["paid", "declined", "cancelled"], [8, 1, 1])[0]
        self._at_vendor(
            f"ends the checkout {one.id} ({one.plan or one.kind}) as {outcome}",
            lambda: self.world.vendor.complete(one.reference, outcome),
        )

    def change_card(self, view: View) -> None:
        row = self.world.vendor_rows(
            "SELECT reference FROM customers WHERE owner = ?", f"account:{view.owner.account.id}"
        )
        if not row:
            return
        card: Card = self.world.random.choices(CARDS, [3, 2, 1])[0]
        with self.world.vendor._inside() as desk:
            save_card(desk.db, row[0]["reference"], card)
        self._succeed(f"has a card that {card}")

    def pay_owed(self, view: View) -> None:
        if one := self._pick([one for one in view.subscriptions if one.state != "canceled"]):
            self._at_vendor("pays what is owed", lambda: self.world.vendor.pay_owed(one.reference))

    def change_plan(self, view: View) -> None:
        if one := self._pick([one for one in view.subscriptions if one.state != "canceled"]):
            to, mine = self._pick(list(PLANS)), view.owner.account.id
            self._do(
                f"changes {one.plan} to {to}", lambda: plan.change(self.world.ctx, mine, one.id, to, f"user:{mine}")
            )

    def cancel(self, view: View) -> None:
        if one := self._pick([one for one in view.subscriptions if one.state != "canceled"]):
            mine = view.owner.account.id
            self._do(f"cancels {one.plan}", lambda: plan.cancel(self.world.ctx, mine, one.id, f"user:{mine}"))

    def undo(self, view: View) -> None:
        if one := self._pick([one for one in view.subscriptions if one.is_ending]):
            mine = view.owner.account.id
            self._do("takes the cancellation back", lambda: plan.undo(self.world.ctx, mine, one.id, f"user:{mine}"))

    def be_ended(self, view: View) -> None:
        """The operator ends a subscription on the vendor's own site, at once."""
        if one := self._pick([one for one in view.subscriptions if one.state != "canceled"]):
            self._at_vendor("is ended by hand", lambda: self.world.vendor.end(one.reference))

    def reactivate(self, view: View) -> None:
        down = [one for one in view.instances if one.state == State.SUSPENDED]
        if one := self._pick(_without_plan(view) or down):
            to = self._pick(["", *PLANS])
            self._do(f"reactivates {one.id} {to}", lambda: plan.reactivate(self.world.ctx, view.owner, one.id, to))

    def add(self, view: View) -> None:
        form = self._form(self._pick(list(PLANS)), self._pick(["", "", "", "HALF", "TENNER"]))
        self._do(
            f"adds an assistant, {form.plan} {form.coupon}",
            lambda: checkout.add_instance(self.world.ctx, view.owner, form),
        )

    def delete(self, view: View) -> None:
        if one := self._pick([one for one in view.instances if one.state != State.DELETED]):
            actor = f"user:{view.owner.user.id}"
            self._do(
                f"deletes {one.id}", self._in_tx(lambda db: lifecycle.ask_delete(db, self.world.ctx, one.id, actor))
            )

    def stop_or_start(self, view: View) -> None:
        if one := self._pick(view.instances):
            is_stopped = "owner" in (one.suspended_for or "")
            ask = lifecycle.ask_resume if is_stopped else lifecycle.ask_suspend
            self._do(
                f"{'starts' if is_stopped else 'stops'} {one.id}",
                self._in_tx(lambda db: ask(db, self.world.ctx, one.id, Reason.OWNER, f"user:{view.owner.user.id}")),
            )

    def top_up(self, view: View) -> None:
        amount = self.world.random.choice([10, 20, 50]) * DOLLAR
        made = self._do(f"tops up {amount}", lambda: topups.open_topup(self.world.ctx, view.owner, amount))
        if made is not None and made.reference and self.world.random.random() < 0.8:
            self._at_vendor("pays the top-up", lambda: self.world.vendor.complete(made.reference, "paid"))

    def set_auto(self, view: View) -> None:
        is_on, threshold = self.world.random.random() < 0.8, self.world.random.choice([0, 12, 15]) * DOLLAR
        self._do(
            f"sets the auto top-up {is_on} below {threshold}",
            self._in_tx(
                lambda db: balance.save_auto(
                    db,
                    self.world.ctx,
                    view.owner.account.id,
                    is_auto=is_on,
                    threshold_micros=threshold,
                    amount_micros=20 * DOLLAR,
                    actor=f"user:{view.owner.user.id}",
                )
            ),
        )

    def redeem(self, view: View) -> None:
        self._do(
            "redeems a coupon",
            self._in_tx(lambda db: balance.redeem(db, self.world.ctx, view.owner.account.id, "gift", "user:me")),
        )

    def be_given(self, view: View) -> None:
        """The operator's credit or correction; asked for again under its key when nobody knows how it ended."""
        self._count += 1
        account_id, key = view.owner.account.id, f"k{self._count}"
        if self.world.random.random() < 0.6:
            amount = self.world.random.randint(1, 9) * DOLLAR
            ends = self.world.now + timedelta(days=20) if self.world.random.random() < 0.5 else None
            give = self._in_tx(
                lambda db: balance.give_credit(
                    db, self.world.ctx, account_id, amount, "for the trouble", OPERATOR, key=key, expires_at=ends
                )
            )
            what = f"is given {amount} until {ends}"
        else:
            amount = self.world.random.choice([-3, -1, 2]) * DOLLAR
            give = self._in_tx(
                lambda db: balance.correct(db, self.world.ctx, account_id, amount, "set right", OPERATOR, key=key)
            )
            what = f"is corrected by {amount}"
        for _ in range(self.world.random.choice([1, 1, 2])):
            self._do(what, give)

    def be_refunded(self, view: View) -> None:
        one = self._pick([one for one in view.receipts if one.amount_micros > one.refunded_micros])
        if one is None:
            return
        share = self.world.random.choice([100, 100, 50, 10])
        amount = max(CENT, (one.amount_micros - one.refunded_micros) * share // 100 // CENT * CENT)
        if self.world.random.random() < 0.3:
            self._at_vendor("is refunded by hand", lambda: self.world.vendor.refund_rest(one.reference))
        else:
            self._do(
                f"is refunded {amount} of {one.reference}",
                self._in_tx(lambda db: refunds.ask(db, self.world.ctx, one.id, amount, "asked for it", OPERATOR)),
            )

    def lose_refund(self, view: View) -> None:
        if one := self._pick([one for one in view.receipts if one.refunded_micros and one.dispute != "lost"]):
            self._at_vendor("does not get the refund", lambda: self.world.vendor.fail_refunds(one.reference))

    def dispute(self, view: View) -> None:
        if one := self._pick(view.receipts):
            verdict: Any = self.world.random.choice(["won", "lost"]) if one.dispute == "open" else "open"
            part = disputed_part(one.reference, one.amount_micros)
            self._at_vendor(f"disputes: {verdict}", lambda: self.world.vendor.dispute(one.reference, verdict, part))

    def give_key(self, view: View) -> None:
        """The customer's own model key is put, changed or forgotten."""
        one = self._pick([one for one in view.instances if one.state != State.DELETED])
        if one is None:
            return
        ctx, actor = self.world.ctx, f"user:{view.owner.user.id}"
        if self.world.random.random() < 0.15:
            self._do("takes the model key away", self._in_tx(lambda db: ownkey.remove(db, ctx, one.id, actor)))
        else:
            self._do("gives a model key", lambda: ownkey.put(ctx, one.id, "sk-sandbox-mine", "sandbox", actor))

    def call_often(self, view: View) -> None:
        """Every call under way ends and several begin, in one transaction, as the proxy does it under load."""
        world, now = self.world, self.world.now
        with world.ctx.db.read() as db:
            active = [one for one in view.instances if one.state == State.ACTIVE]
            grants = [grant for one in active if (grant := metering.grant_of(db, one.id)) is not None]
        openings = [Opening(self._ask(), grant.key_hash, ("sandbox",)) for grant in grants for _ in range(3)]
        closings = [Closing(call_id, self._usage()) for call_id in self.calls]

        def run() -> None:
            with world.ctx.db.tx() as db:
                done = run_batch(db, openings, closings, now=now)
            self.calls = [one.id for one in done.opened if isinstance(one, OpenCall)]
            if any(isinstance(one, PaymentRequired) for one in done.opened):
                note_refusal(world, view.owner.account.id)

        self._do(f"ends {len(closings)} calls and begins {len(openings)}", run)

    def _ask(self) -> Ask:
        return Ask("sandbox-1", "anthropic-messages", self.world.random.randint(0, 150_000), 4_000, Source.PERSON)

    def _usage(self) -> Usage | None:
        random = self.world.random
        return Usage(random.randint(0, 150_000), random.randint(0, 4_000)) if random.random() < 0.9 else None

    def call_model(self, view: View) -> None:
        """A call begins, or one that is under way ends, or its process dies and nobody ever ends it."""
        random = self.world.random
        if self.calls and random.random() < 0.5:
            call_id = self.calls.pop(random.randrange(len(self.calls)))
            if random.random() < 0.2:
                self.world.say(f"{self.email} the process of {call_id} dies")
                return
            used = self._usage()
            self._do("ends a call", self._in_tx(lambda db: metering.close_call(db, call_id, used, now=self.world.now)))
            return
        one = self._pick([one for one in view.instances if one.state == State.ACTIVE])
        if one is not None:
            opened = self._do("begins a call", lambda: self._open_call(one))
            self.calls += [opened.id] if opened is not None else []

    def _open_call(self, instance: Instance) -> Any:
        ctx = self.world.ctx
        with ctx.db.read() as db:
            grant = metering.grant_of(db, instance.id)
        if grant is None:
            return None
        ask = self._ask()
        try:
            with ctx.db.tx() as db:
                return metering.open_call(db, ask, key_hash=grant.key_hash, upstreams=("sandbox",), now=self.world.now)
        except PaymentRequired:
            note_refusal(self.world, instance.account_id)
            raise

    def _in_tx(self, work: Callable[[Session], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with self.world.ctx.db.tx() as db:
                return work(db)

        return run


def note_refusal(world: Ground, account_id: str) -> None:
    """What the proxy does when a wallet cannot cover a call."""
    with world.ctx.db.tx() as db:
        wallet.mark_refused(db, account_id, world.now)


def _without_plan(view: View) -> list[Instance]:
    """Assistants that are down because their subscription ended."""
    ended = {one.instance_id for one in view.subscriptions if one.state == "canceled"}
    return [one for one in view.instances if one.state == State.SUSPENDED and one.id in ended]


def _rows(db: Session, table: Any, owner: Owner) -> list[Any]:
    return list(
        db.scalars(select(table).where(table.account_id == owner.account.id).order_by(table.created_at, table.id))
    )


DEEDS: list[tuple[Callable[[Customer, View], None], int]] = [
    (Customer.visit_page, 14),
    (Customer.call_model, 18),
    (Customer.call_often, 3),
    (Customer.give_key, 5),
    (Customer.top_up, 8),
    (Customer.change_card, 5),
    (Customer.pay_owed, 4),
    (Customer.change_plan, 6),
    (Customer.cancel, 5),
    (Customer.undo, 4),
    (Customer.be_ended, 3),
    (Customer.reactivate, 5),
    (Customer.add, 4),
    (Customer.delete, 1),
    (Customer.stop_or_start, 4),
    (Customer.set_auto, 3),
    (Customer.redeem, 2),
    (Customer.be_given, 3),
    (Customer.be_refunded, 5),
    (Customer.lose_refund, 5),
    (Customer.dispute, 2),
]

BEGINNINGS: list[tuple[Callable[[Customer, View], None], int]] = [(Customer.visit_page, 8), (Customer.add, 2)]
"""Of somebody who has no assistant yet, or none any more."""

EVERY_DEED = frozenset({"sign_up", *(deed.__name__ for deed, _ in DEEDS)})
