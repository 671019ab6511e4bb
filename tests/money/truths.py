"""What must be true once everything has calmed down: of assistants, trouble and letters, and of the books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

from clawhaven.billing import checkouts
from clawhaven.billing.models import Dunning, InboxEvent, Refund, Subscription
from clawhaven.instances import states
from clawhaven.instances.models import Operation
from clawhaven.instances.states import Reason, State
from clawhaven.ledger.models import Reservation
from clawhaven.metering.models import Grant
from clawhaven.notices.models import Notice
from clawhaven.workflows import money
from tests.money import books
from tests.money.facts import Facts
from tests.money.world import World

GRACE = timedelta(days=14)
HOUR = timedelta(hours=1)
PAID = ("active", "trialing")


def nothing_is_left_open(at: Facts) -> Iterator[str]:
    """Holds, calls, operations, events, letters, refunds and checkouts all came to an end."""
    held = [one for one in at.all_of(Reservation) if one.state == "held" and not one.key.startswith("dispute:")]
    if held:
        yield f"held without a call: {[one.key for one in held]}"
    for table, ended in ((Operation, ("done", "failed")), (InboxEvent, ("handled", "ignored")), (Notice, ("sent",))):
        for one in at.all_of(table):
            if one.state not in ended:
                yield f"left open: {table.__tablename__} {one.id} is {one.state}"
    for refund in at.all_of(Refund):
        if refund.state == "asked":
            yield f"the refund {refund.id} is not done"
    late = at.now - timedelta(days=1, hours=2)
    for checkout in at.checkouts.values():
        if checkout.state == "open" and checkout.created_at < late:
            yield f"the checkout {checkout.id} ({checkout.kind}) is open since {checkout.created_at}"
        row = at.bought.get(checkout.reference or "")
        if row is not None and row["state"] == "paid" and checkout.state == "open":
            yield f"the checkout {checkout.id} is paid at the vendor and open here"


def assistants_follow_the_money(at: Facts) -> Iterator[str]:
    """Nobody runs unpaid past the grace, nobody who paid is down, who is deleted pays nothing."""
    by_id = {one.id: one for one in at.subscriptions.values()}
    running: set[str] = set(at.place.gateways.running())
    grants = {one.instance_id: one for one in at.all_of(Grant)}
    for one in at.instances.values():
        is_up = one.state == State.ACTIVE
        if is_up != (one.id in running):
            yield f"{one.id} is {one.state}, its gateway {'runs' if one.id in running else 'does not'}"
        if one.id in grants and grants[one.id].is_active != is_up:
            yield f"{one.id} is {one.state}, its calls are {'served' if grants[one.id].is_active else 'refused'}"
        if one.deletion_asked_at is not None:
            if one.state != State.DELETED:
                yield f"{one.id} should be deleted and is {one.state}"
            continue
        ours = by_id.get(at.covers.get(one.id, ""))
        if ours is None:
            if one.state != State.PENDING:
                yield f"{one.id} is {one.state} and nobody pays for it"
            continue
        wanted = _should_run(at, ours)
        is_down = Reason.PAYMENT in states.reasons(one)
        if wanted is not None and wanted == is_down:
            state = at.sold[ours.reference]["state"]
            yield f"{one.id} is {one.state} ({one.suspended_for}), its subscription {state}"
        if wanted and one.state not in (State.ACTIVE, State.SUSPENDED):
            yield f"{one.id} is paid for and {one.state}"
        if one.state == State.SUSPENDED and not one.suspended_for:
            yield f"{one.id} is suspended for nothing"


def _should_run(at: Facts, ours: Subscription) -> bool | None:
    """What the vendor's own file says about who may run; None where our time of grace decides."""
    theirs = at.sold[ours.reference]
    mine = sorted(
        (row for row in at.paid.values() if row["subscription"] == ours.reference), key=lambda row: row["created_at"]
    )
    if theirs["state"] == "canceled" or any(row["dispute"] == "open" for row in mine):
        return False
    dated = [row for row in mine if row["period_start"] is not None]
    newest = max((row["period_start"] for row in dated), default=None)
    current = [row for row in dated if row["period_start"] == newest] or mine[-1:]
    if any(row["dispute"] == "lost" for row in current):
        return False
    back = [row for row in current if 0 < row["amount_micros"] <= at.returned.get(row["reference"], 0)]
    if back and len(back) == len(current):
        return False
    if theirs["state"] in PAID:
        return True
    mine_open = [one for one in at.episodes if one.subscription_id == ours.id and one.ended_at is None]
    if len(mine_open) != 1:
        return False
    if mine_open[0].suspend_at <= at.now - timedelta(minutes=10):
        return False
    return None if mine_open[0].state == "suspended" else True


def trouble_has_its_time(at: Facts) -> Iterator[str]:
    """Grace and the time until deletion are what was announced; one episode for each unpaid invoice at most."""
    failed = at.place.vendor_rows("SELECT DISTINCT subscription, invoice FROM payments WHERE state = 'failed'")
    unpaid = Counter(row["subscription"] for row in failed)
    begun: Counter[str] = Counter(one.subscription_id for one in at.episodes if one.cause == "payment")
    for reference, ours in at.subscriptions.items():
        if begun[ours.id] > unpaid[reference]:
            yield f"{reference}: {begun[ours.id]} times of trouble for {unpaid[reference]} unpaid invoices"
    for one in at.episodes:
        is_overdue = one.ended_at is None and one.delete_at < at.now - HOUR
        if is_overdue and not _is_coming_back(at, one):
            yield f"the trouble {one.id} should have ended with deletion on {one.delete_at}"
        if one.cause == "payment" and one.state == "grace" and one.suspend_at - one.began_at != GRACE:
            yield f"the grace of {one.id} is {one.suspend_at - one.began_at}"


def _is_coming_back(at: Facts, trouble: Dunning) -> bool:
    """A payment page for one of its assistants was opened before the announced day, and can still be paid."""
    return any(
        one.state == "open"
        and one.created_at <= trouble.delete_at
        and at.now < one.created_at + checkouts.LIFE + 2 * HOUR
        for one in at.checkouts.values()
        if one.instance_id is not None and at.covers.get(one.instance_id) == trouble.subscription_id
    )


def the_deleted_pay_nothing(at: Facts) -> Iterator[str]:
    """No living subscription for assistants that are all gone, and what they paid since then went back."""
    for ours in at.subscriptions.values():
        mine = at.assistants_of(ours)
        if not mine or any(one.deletion_asked_at is None for one in mine):
            continue
        if at.sold[ours.reference]["state"] != "canceled":
            yield f"{ours.reference} is {at.sold[ours.reference]['state']} and all it paid for is deleted"
        ended_at = max(one.deletion_asked_at for one in mine if one.deletion_asked_at)
        for row in at.paid.values():
            is_later = row["subscription"] == ours.reference and row["created_at"] > ended_at.timestamp()
            if row["reference"] in at.came_back:
                continue  # the operator was told
            if is_later and at.returned.get(row["reference"], 0) < row["amount_micros"] and row["dispute"] != "open":
                yield f"{row['reference']} was paid after the deletion and kept"


def nobody_pays_twice(at: Facts) -> Iterator[str]:
    """Every living subscription pays for an assistant."""
    for reference, row in at.sold.items():
        if row["state"] != "canceled" and not at.assistants_of(at.subscriptions[reference]):
            yield f"{reference} is {row['state']} and pays for no assistant"


def trials_are_had_once(at: Facts) -> Iterator[str]:
    """One trial for an account, told about before it is paid for, at most once."""
    # A page of a draft that was deleted meanwhile can be paid: that agreement is ended at once and serves nobody.
    owners = {
        one.reference: one.account_id
        for one in at.subscriptions.values()
        if any(assistant.active_at for assistant in at.assistants_of(one)) or one.state != "canceled"
    }
    tried = Counter(owners.get(row["reference"], "") for row in at.sold.values() if row["trial_end"] is not None)
    del tried[""]
    if several := [account_id for account_id, count in tried.items() if count > 1]:
        yield f"more than one trial: {several}"
    told = Counter(one.key.split(":")[1] for one in at.all_of(Notice) if one.key.startswith("trial:"))
    if twice := [one for one, count in told.items() if count > 1]:
        yield f"told twice of a trial's end: {twice}"


def renewals_wait_for_the_verdict(at: Facts) -> Iterator[str]:
    """A living subscription is charged no renewals while a payment of it is disputed, and is charged them again."""
    disputed = {row["subscription"] for row in at.paid.values() if row["dispute"] == "open"}
    for reference, row in at.sold.items():
        if row["state"] != "canceled" and bool(row["is_paused"]) != (reference in disputed):
            yield f"{reference} is {'held back' if row['is_paused'] else 'charged'}, disputed: {reference in disputed}"


def letters_came_once(at: Facts) -> Iterator[str]:
    """One letter for one thing."""
    kinds = Counter(one.kind for one in at.all_of(Notice))
    paid = sum(1 for row in at.paid.values() if row["amount_micros"])
    if kinds["receipt"] != paid:
        yield f"{kinds['receipt']} receipts by mail for {paid} payments"
    operations = {one.id: one.instance_id for one in at.all_of(Operation)}
    told = [one.key.partition(":")[2] for one in at.all_of(Notice) if one.kind == "ready"]
    ready = Counter(operations[operation_id] for operation_id in told)
    if twice := [one for one, count in ready.items() if count > 1]:
        yield f"told twice to be ready: {twice}"


def mail_is_what_the_outbox_says(world: World, at: Facts) -> Iterator[str]:
    """Every letter arrived; a copy only where a process died between sending and noting it."""
    arrived = Counter(one.key for one in world.mailbox.letters)
    copies, deaths = sum(count - 1 for count in arrived.values()), world.fate.deaths
    if copies > deaths["after send"] + deaths["before a commit"]:
        yield f"{copies} letters came twice"
    for one in {notice.id for notice in at.all_of(Notice)} ^ arrived.keys():
        yield f"the letter {one} is in the outbox and never came, or the other way"


def reconciling_finds_nothing(world: World) -> Iterator[str]:
    """What is left needs a person, or nothing is left."""
    for one in money.look_over(world.ctx):
        yield f"reconciling: {one.subject}: {one.problem}. {one.repair}"


TRUTHS: tuple[Callable[[Facts], Iterator[str]], ...] = (
    books.subscriptions_are_equal,
    books.payments_are_booked_once,
    books.periods_have_their_credit,
    books.expired_credit_was_what_was_left,
    books.wallets_add_up,
    books.disputed_top_ups_are_set_aside,
    books.crossings_are_charged_once,
    books.own_keys_cost_nothing,
    nothing_is_left_open,
    assistants_follow_the_money,
    trouble_has_its_time,
    the_deleted_pay_nothing,
    nobody_pays_twice,
    trials_are_had_once,
    renewals_wait_for_the_verdict,
    letters_came_once,
)


def find_lies(world: World) -> list[str]:
    """Every truth that does not hold, in sentences; empty when all is well."""
    found = [f"something broke: {sentence}" for sentence in world.hands.broken]
    with world.ctx.db.read() as db:
        at = Facts(world, db)
        found += [f"{truth.__name__}: {lie}" for truth in TRUTHS for lie in truth(at)]
        found += mail_is_what_the_outbox_says(world, at)
    return [*found, *reconciling_finds_nothing(world)]
