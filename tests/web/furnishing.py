"""An installation where something has happened, for the gallery: a customer's month, a debtor, newcomers, an operator.

What goes wrong for others is in troubled.py.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta

from sqlalchemy import text, update

from clawhaven.accounts import apikeys, farewells, operators, sessions, signup
from clawhaven.accounts.models import LoginSession
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, comparisons, coupons, subscriptions
from clawhaven.context import Context
from clawhaven.instances import backups, operations, states
from clawhaven.instances.states import Reason
from clawhaven.integrations import attachments, connected
from clawhaven.notices import kinds
from clawhaven.ports.integration import Access, Consent
from clawhaven.workflows import letters, prepared, progress
from clawhaven.workflows.vendors import SETTLE, Difference
from tests.fakes.usage import add_call
from tests.fakes.world import FolderRuntime
from tests.web import lived, troubled
from tests.web.conftest import TOKEN, draft, fill_in
from tests.web.household import House, add_person, build, buy
from tests.web.test_billing import pay, settle


def furnish(ctx: Context, world: FolderRuntime) -> House:
    """A customer with a living, a paused, a failed and an unpaid assistant; one in trouble; a new one; an operator."""
    house = House(troubled.installation(ctx, world.root))
    alice = add_person(ctx, house, "customer", "alice@example.com")
    mine = house.visits["customer"]
    house.ids["live"] = build(ctx, world, buy(ctx, mine, "Ada", plan="metered", telegram_bot_token=TOKEN))
    pay(ctx, mine.post("/topup", chosen="25", amount="").headers["location"])
    house.ids["paused"] = build(ctx, world, buy(ctx, mine, "Grace & Co", plan="personal"))
    house.ids["failed"] = buy(ctx, mine, "Hedy", plan="yearly")
    house.ids["building"] = buy(ctx, mine, "Lise", plan="quarterly")
    house.ids["pending"] = draft(mine, assistant_name="Mary", plan="monthly")
    with ctx.db.tx() as db:
        now = ctx.clock.now()
        house.ids["month"] = f"{now:%Y-%m}"
        states.suspend(db, house.ids["paused"], now, Reason.OWNER)
        states.fail(db, house.ids["failed"], now, "not_ready", progress.sentence("not_ready"))
        coupons.create(db, "WELCOME", kind="credit", value=5_000_000, now=now)
        coupons.create(db, "HALF", kind="percent", value=50, now=now)
        house.ids["checkout"] = checkouts.of_instance(db, house.ids["pending"]).id  # type: ignore[union-attr]
        house.ids["vendor"] = str(checkouts.of_instance(db, house.ids["pending"]).reference)  # type: ignore[union-attr]
    _half_build(ctx, house.ids["building"], gives_up=False)
    _half_build(ctx, house.ids["failed"], gives_up=True)
    _use(ctx, alice, house.ids["live"])
    _connect_google(ctx, alice, house.ids["live"])
    lived.live_in(ctx, world, alice, house.ids["live"])
    with ctx.db.read() as db:
        own = next(
            one for one in backups.list_backups(db, house.ids["live"]) if backups.is_removable(one) and one.digest
        )
    house.ids["backup"] = own.id
    waiting = mine.post("/topup", chosen="other", amount="12.50").headers["location"].rpartition("/")[2]
    vendor = ctx.payments["sandbox"]
    with ctx.db.read() as db:
        house.ids["topup"] = checkouts.by_reference(db, "sandbox", waiting).id  # type: ignore[union-attr]
        bought = str(checkouts.of_instance(db, house.ids["live"]).reference)  # type: ignore[union-attr]
    customer = vendor.fetch(bought).customer_reference
    portal, invoice = vendor.portal_url(str(customer), "/billing"), str(vendor.invoices(str(customer))[0].page_url)
    house.ids["portal"], house.ids["invoice"] = portal.rpartition("/")[2], invoice.rpartition("/")[2]

    carol = add_person(ctx, house, "debtor", "carol@example.com")
    house.ids["owing"] = build(ctx, world, buy(ctx, house.visits["debtor"], "Bo", plan="personal"))
    with ctx.db.read() as db:
        (owed,) = subscriptions.of_account(db, carol.account.id)
    vendor.fail_renewal(owed.reference)  # type: ignore[attr-defined]
    settle(ctx, owed.checkout_id)
    with ctx.db.tx() as db:  # signed in for long, and thinks of leaving
        farewells.issue(db, carol.user.id, ctx.clock.now())
        an_hour_ago = ctx.clock.now() - timedelta(hours=1)
        mine = update(LoginSession).where(LoginSession.user_id == carol.user.id)
        db.execute(mine.values(created_at=an_hour_ago))

    add_person(ctx, house, "newcomer", "dora@example.com")
    add_person(ctx, house, "chooser", "edith@example.com")
    fill_in(house.visits["chooser"], assistant_name="Emmy", custom_instructions="Help me plan my week.")
    fay = add_person(ctx, house, "keyless", "fay@example.com")
    fill_in(house.visits["keyless"], plan="monthly")
    with ctx.db.tx() as db:  # as if another browser had made it
        prepared.mark(db, ctx, fay.user.id, fay.account.id)
    with ctx.db.tx() as db:
        operators.appoint(db, "olga@example.com", ctx.clock.now())
    add_person(ctx, house, "operator", "olga@example.com")
    house.ids["account"], house.ids["user"] = alice.account.id, alice.user.id
    _watch(ctx, house, alice)
    troubled.furnish(ctx, world, house)
    return house


def _watch(ctx: Context, house: House, customer: Owner) -> None:
    """What operators look at: alerts, work that failed, a customer's own pages; the customer's browsers and keys."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        compared = comparisons.begin(db, "workflow:money", now, is_repair=False)
        gap = Difference("sub_1", "active here and gone at sandbox", "settle it", SETTLE, "chk_1", customer.account.id)
        comparisons.finish(db, compared.id, [asdict(gap), asdict(replace(gap, mend=""))], now)  # type: ignore[union-attr]
        operators.appoint(db, "vera@example.com", now)
        for agent in ("Mozilla/5.0 (iPhone) Version/18.1 Mobile Safari/604.1", "curl/8.5.0", ""):
            sessions.open_session(db, customer.user.id, now, days=7, user_agent=agent)
        owner = signup.owner_of(db, customer.account.id)
        apikeys.issue(db, owner, "Backup script of the small server in the cellar", ["read"], now)
        for number, subject in enumerate(
            ("The disk of this server is nearly full", "Ada has been down for 15 minutes")
        ):
            letters.post_to(db, ctx, f"alert-{number}", kinds.alert(subject, "…"), "ops@example.com")
        table = "workflow_status" if ctx.db.is_sqlite else "dbos.workflow_status"
        failed = f"SELECT workflow_uuid FROM {table} ORDER BY workflow_uuid LIMIT 2"
        gave_up = f"UPDATE {table} SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' WHERE workflow_uuid IN ({failed})"
        db.execute(text(gave_up))
    add_person(ctx, house, "viewer", "vera@example.com")
    path = f"/admin/accounts/{customer.account.id}"
    assert house.visits["viewer"].post(f"{path}/view", path).status_code == 303


def _half_build(ctx: Context, instance_id: str, *, gives_up: bool) -> None:
    """Up to the step that takes longest; or no further, and undone."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        operation = operations.under_way(db, instance_id)
        assert operation is not None
        for step in ("reserve_place", "write_files", "start_gateway"):
            operations.end_step(db, operation.id, step, now)
        operations.begin_step(db, operation.id, "wait_ready", now)
        if gives_up:
            operations.undo_steps(db, operation.id, now)
    if gives_up:
        progress.finish(ctx, operation.id, "not_ready")


def _connect_google(ctx: Context, owner: Owner, instance_id: str) -> None:
    """One box was left unticked; one assistant reads it."""
    parts = ctx.integrations["google"].parts
    given = Consent("1", "alice@gmail.example", frozenset({parts[1].scope}), "refresh", Access("access", 3600))
    with ctx.db.tx() as db:
        row, _ = connected.connect(db, ctx.keys, owner.account.id, "google", given, ctx.clock.now())
        attachments.attach(db, ctx.keys, instance_id, row, ctx.clock.now())


def _use(ctx: Context, owner: Owner, instance_id: str) -> None:
    """Three weeks of calls, many of a person's and some automatic."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        for number in range(80):
            at = now - timedelta(hours=6 * number, minutes=number)
            add_call(
                db,
                instance_id=instance_id,
                account_id=owner.account.id,
                model="claude-opus-5-2" if number % 4 == 0 else "claude-sonnet-5-5",
                upstream="anthropic",
                source="person" if number % 3 else "automatic",
                input_tokens=1200 + number * 37,
                output_tokens=340 + number,
                cache_read_tokens=9000,
                price_micros=12_345 + number * 977 % 40_000,
                started_at=at,
                ended_at=at,
            )
