"""Every page of the site on an installation where something has happened: for screenshots and for axe.

A new page gets its line in `pages`; one that needs something to have happened first, a line in `furnish`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import uvicorn
from playwright.sync_api import Page
from sqlalchemy import select

from clawhaven.accounts import operators, signup
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, coupons, subscriptions
from clawhaven.cli.hosting import Doors
from clawhaven.context import Context
from clawhaven.core.ids import new_id
from clawhaven.instances import states
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason
from clawhaven.metering.models import UsageRow
from tests.fakes.world import FolderRuntime
from tests.web.conftest import TOKEN, Visit, draft, run_it
from tests.web.test_billing import pay, settle


@dataclass(frozen=True, slots=True)
class Shown:
    """One page: its name in file names, its address, who looks, and what is done there before it is looked at."""

    name: str
    path: str
    who: str = "stranger"
    act: Callable[[Page], None] | None = None


@dataclass(slots=True)
class House:
    """Who lives here, and the ids that addresses need."""

    visits: dict[str, Visit] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def cookies(self, who: str, base_url: str) -> list[Any]:
        """The sign-in of somebody, for a browser."""
        if who not in self.visits:
            return []
        jar = self.visits[who].http.cookies.jar
        return [{"name": one.name, "value": one.value or "", "url": base_url} for one in jar]


def furnish(ctx: Context, world: FolderRuntime) -> House:
    """A customer with a living, a paused, a failed and an unpaid assistant; one in trouble; a new one; an operator."""
    house = House()
    alice = _person(ctx, house, "customer", "alice@example.com")
    mine = house.visits["customer"]
    house.ids["live"] = _paid(ctx, mine, "Ada", plan="metered", telegram_bot_token=TOKEN)
    run_it(ctx, world, house.ids["live"])
    pay(ctx, mine.post("/topup", chosen="25", amount="").headers["location"])
    house.ids["paused"] = _paid(ctx, mine, "Grace & Co", plan="personal")
    run_it(ctx, world, house.ids["paused"])
    house.ids["failed"] = _paid(ctx, mine, "Hedy", plan="yearly")
    house.ids["pending"] = draft(mine, assistant_name="Mary", plan="monthly")
    with ctx.db.tx() as db:
        now = ctx.clock.now()
        states.suspend(db, house.ids["paused"], now, Reason.OWNER)
        states.fail(db, house.ids["failed"], now, "start_timeout", "It did not answer in time.")
        coupons.create(db, "WELCOME", kind="credit", value=5_000_000, now=now)
        coupons.create(db, "HALF", kind="percent", value=50, now=now)
        house.ids["checkout"] = checkouts.of_instance(db, house.ids["pending"]).id  # type: ignore[union-attr]
        house.ids["vendor"] = str(checkouts.of_instance(db, house.ids["pending"]).reference)  # type: ignore[union-attr]
    _use(ctx, alice, house.ids["live"])
    waiting = mine.post("/topup", chosen="other", amount="12.50").headers["location"].rpartition("/")[2]
    vendor = ctx.payments["sandbox"]
    with ctx.db.read() as db:
        house.ids["topup"] = checkouts.by_reference(db, "sandbox", waiting).id  # type: ignore[union-attr]
        bought = str(checkouts.of_instance(db, house.ids["live"]).reference)  # type: ignore[union-attr]
    customer = vendor.fetch(bought).customer_reference
    portal, invoice = vendor.portal_url(str(customer), "/billing"), str(vendor.invoices(str(customer))[0].page_url)
    house.ids["portal"], house.ids["invoice"] = portal.rpartition("/")[2], invoice.rpartition("/")[2]

    carol = _person(ctx, house, "debtor", "carol@example.com")
    house.ids["owing"] = _paid(ctx, house.visits["debtor"], "Bo", plan="personal")
    run_it(ctx, world, house.ids["owing"])
    with ctx.db.read() as db:
        (owed,) = subscriptions.of_account(db, carol.account.id)
    vendor.fail_renewal(owed.reference)  # type: ignore[attr-defined]
    settle(ctx, owed.checkout_id)

    _person(ctx, house, "newcomer", "dora@example.com")
    with ctx.db.tx() as db:
        operators.appoint(db, "olga@example.com", ctx.clock.now())
    _person(ctx, house, "operator", "olga@example.com")
    house.ids["account"] = alice.account.id
    return house


def pages(house: House) -> list[Shown]:
    """Every page, with every state of it that is worth a look."""
    ids = house.ids
    live = f"/instances/{ids['live']}"
    return [
        Shown("landing", "/"),
        Shown("style", "/dev/style"),
        Shown("configure", "/configure"),
        Shown("configure-wrong", "/configure", act=_send_wrong_sign_up),
        Shown("configure-more", "/configure", "customer"),
        Shown("waitlist", "/waitlist"),
        Shown("sign-in", "/sign-in"),
        Shown("sign-in-sent", "/sign-in", act=_ask_for_link),
        Shown("sign-in-link", "/sign-in/" + "x" * 43),
        Shown("error-missing", "/nothing"),
        Shown("error-missing-signed-in", "/nothing", "customer"),
        Shown("deploying-waiting", f"/deploying/{ids['pending']}", "customer"),
        Shown("deploying-stranger", f"/deploying/{ids['pending']}"),
        Shown("deploying-failed", f"/deploying/{ids['failed']}", "customer"),
        Shown("ready", f"/ready/{ids['live']}", "customer"),
        Shown("sandbox-checkout", f"/sandbox/checkout/{ids['vendor']}"),
        Shown("sandbox-invoice", f"/sandbox/invoice/{ids['invoice']}"),
        Shown("sandbox-portal", f"/sandbox/portal/{ids['portal']}"),
        Shown("sandbox", "/sandbox"),
        Shown("dashboard", "/dashboard", "customer"),
        Shown("dashboard-empty", "/dashboard", "newcomer"),
        Shown("dashboard-owing", "/dashboard", "debtor"),
        Shown("usage", "/usage", "customer"),
        Shown("usage-empty", "/usage", "newcomer"),
        Shown("ledger", "/ledger", "customer"),
        Shown("ledger-empty", "/ledger", "newcomer"),
        Shown("billing", "/billing", "customer"),
        Shown("billing-empty", "/billing", "newcomer"),
        Shown("billing-owing", "/billing", "debtor"),
        Shown("topup", "/topup", "customer"),
        Shown("topup-waiting", f"/topup/{ids['topup']}", "customer"),
        Shown("instance", live, "customer"),
        Shown("instance-paused", f"/instances/{ids['paused']}", "customer"),
        Shown("instance-failed", f"/instances/{ids['failed']}", "customer"),
        Shown("instance-pending", f"/instances/{ids['pending']}", "customer"),
        *(
            Shown(f"instance-{tab}", f"{live}/{tab}", "customer")
            for tab in ("chat", "channels", "configuration", "usage", "logs", "history")
        ),
        Shown("instance-usage-empty", f"/instances/{ids['paused']}/usage", "customer"),
        Shown("account-menu", "/dashboard", "operator", act=_open_menu),
        Shown("admin", "/admin", "operator"),
        Shown("admin-accounts", "/admin/accounts", "operator"),
        Shown("admin-accounts-none", "/admin/accounts?search=nobody", "operator"),
        Shown("admin-account", f"/admin/accounts/{ids['account']}", "operator"),
        Shown("admin-margin", "/admin/margin", "operator"),
        Shown("admin-coupons", "/admin/coupons", "operator"),
        Shown("admin-reconcile", "/admin/reconcile", "operator"),
    ]


@contextmanager
def serving(ctx: Context) -> Iterator[None]:
    """The doors on their port, without a worker: everything stays as it was furnished."""
    port = ctx.settings.platform_port
    config = uvicorn.Config(Doors(ctx), host="127.0.0.1", port=port, log_config=None, lifespan="off")
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        threading.Event().wait(0.05)
    yield
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def _person(ctx: Context, house: House, role: str, email: str) -> Owner:
    with ctx.db.tx() as db:
        owner = signup.find_owner(db, email) or signup.register(db, email, ctx.clock.now())
    house.visits[role] = Visit(ctx)
    house.visits[role].sign_in(owner)
    return owner


def _paid(ctx: Context, visit: Visit, name: str, **fields: str) -> str:
    instance_id = draft(visit, assistant_name=name, **fields)
    with ctx.db.read() as db:
        found = checkouts.of_instance(db, instance_id)
    assert found is not None
    pay(ctx, str(found.url))
    with ctx.db.read() as db:
        assert db.scalars(select(Instance.state).where(Instance.id == instance_id)).one() == "provisioning"
    return instance_id


def _use(ctx: Context, owner: Owner, instance_id: str) -> None:
    """Three weeks of calls, many of a person's and some automatic."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        for number in range(80):
            at = now - timedelta(hours=6 * number, minutes=number)
            db.add(
                UsageRow(
                    id=new_id("use"),
                    instance_id=instance_id,
                    account_id=owner.account.id,
                    plan_mode="metered",
                    model="claude-opus-5-2" if number % 4 == 0 else "claude-sonnet-5-5",
                    upstream="anthropic",
                    dialect="anthropic-messages",
                    price_id="p",
                    markup_percent=150,
                    state="closed",
                    source="person" if number % 3 else "automatic",
                    input_tokens=1200 + number * 37,
                    output_tokens=340 + number,
                    cache_read_tokens=9000,
                    price_micros=12_345 + number * 977 % 40_000,
                    started_at=at,
                    ended_at=at,
                    expires_at=at,
                )
            )


def _send_wrong_sign_up(page: Page) -> None:
    page.get_by_label("Your email").fill("nobody")
    page.locator("main form button[type=submit]").last.click()
    page.get_by_role("alert").first.wait_for()


def _ask_for_link(page: Page) -> None:
    page.get_by_label("Your email").fill("alice@example.com")
    page.get_by_role("button", name=re.compile("link", re.I)).click()
    page.wait_for_load_state()


def _open_menu(page: Page) -> None:
    page.locator("[data-menu] > summary").click()
