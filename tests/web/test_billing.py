"""The billing page and the way to a top-up, without JavaScript."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from sqlalchemy import select

from clawhaven.accounts import operators
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, coupons, customers, subscriptions
from clawhaven.billing.models import Subscription
from clawhaven.context import Context
from clawhaven.instances.models import Instance
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.workflows import plan as agreements
from clawhaven.workflows import settlement
from tests.fakes.world import FolderRuntime
from tests.web.conftest import Visit, order, run_it
from tests.workflows.test_plan import ByMail


def settle(ctx: Context, checkout_id: str) -> None:
    """What the workflow of an event does, here and now."""
    with ctx.db.read() as db:
        reference = checkouts.get(db, checkout_id).reference or ""
    seen = ctx.payments["sandbox"].fetch(reference)
    with ctx.db.tx() as db:
        settlement.equalise(db, ctx, checkouts.get(db, checkout_id), seen)


def pay(ctx: Context, url: str) -> str:
    """Pay the sandbox page at `url`; returns our checkout's id."""
    reference = url.rpartition("/")[2]
    ctx.payments["sandbox"].complete(reference, "paid")  # type: ignore[attr-defined]
    with ctx.db.read() as db:
        found = checkouts.by_reference(db, "sandbox", reference)
    assert found is not None
    settle(ctx, found.id)
    return found.id


@pytest.fixture
def paying(ctx: Context, mine: Visit) -> Visit:
    """The customer with one paid assistant."""
    pay(ctx, order(mine).headers["location"])
    return mine


@pytest.fixture
def live_and_paid(ctx: Context, world: FolderRuntime, mine: Visit) -> str:
    """The id of the customer's assistant, paid at the vendor and running."""
    pay(ctx, order(mine).headers["location"])
    with ctx.db.read() as db:
        instance_id = db.scalars(select(Instance)).one().id
    run_it(ctx, world, instance_id)
    return instance_id


def agreement(ctx: Context, owner: Owner) -> Subscription:
    with ctx.db.read() as db:
        (found,) = [one for one in subscriptions.of_account(db, owner.account.id) if one.state != "canceled"]
    return found


def test_the_page_shows_plan_payment_method_and_invoices(paying: Visit) -> None:
    html = paying.get("/billing").text
    for text in ("Personal", "$29", "Active", "Next payment", "ending in", "Download" if "pdf" in html else "Open"):
        assert text in html, text
    assert 'href="/topup"' in html


def test_without_a_plan_it_leads_to_the_first_assistant(mine: Visit) -> None:
    html = mine.get("/billing").text
    assert "No plan at the moment" in html
    assert "None yet" in html


def test_a_plan_is_cancelled_kept_and_changed(ctx: Context, paying: Visit, owner: Owner) -> None:
    base = f"/billing/subscriptions/{agreement(ctx, owner).id}"
    answer = paying.post(f"{base}/cancel", "/billing")
    assert (answer.status_code, answer.headers["location"]) == (303, "/billing?done=cancelled")
    assert "Keep the plan after all" in paying.get("/billing").text
    assert paying.post(f"{base}/resume", "/billing").headers["location"] == "/billing?done=resumed"
    assert paying.post(f"{base}/plan", "/billing", plan="metered").headers["location"] == "/billing?done=plan-changed"
    assert agreement(ctx, owner).plan == "metered"
    refused = paying.post(f"{base}/plan", "/billing", plan="nonsense")
    assert refused.status_code == 400
    assert 'role="alert"' in refused.text


def test_an_operator_s_look_holds_no_links_of_the_vendor_s(ctx: Context, paying: Visit, owner: Owner) -> None:
    subscription = agreement(ctx, owner)
    ctx.payments["sandbox"].fail_renewal(subscription.reference)  # type: ignore[attr-defined]
    settle(ctx, subscription.checkout_id)
    with ctx.db.tx() as db:
        boss = operators.appoint(db, "boss@example.com", ctx.clock.now())
    looking = Visit(ctx)
    looking.sign_in(boss)
    looking.post(f"/admin/accounts/{owner.account.id}/view", f"/admin/accounts/{owner.account.id}")
    for visitor, is_shown in ((paying, True), (looking, False)):
        html = visitor.get("/billing").text
        (table,) = re.findall(r"<table.*?</table>", html, re.DOTALL)
        assert ('rel="noreferrer"' in table) is is_shown
        assert ("Pay what is owed" in html) is is_shown
        assert ('rel="noreferrer"' in html) is is_shown


def test_a_form_of_another_site_changes_nothing(ctx: Context, paying: Visit, owner: Owner) -> None:
    url = f"/billing/subscriptions/{agreement(ctx, owner).id}/cancel"
    assert paying.http.post(url, data={"csrf": "x"}).status_code == 403
    assert paying.http.post(url, data={}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert not agreement(ctx, owner).is_ending


def test_who_has_ended_can_come_back(ctx: Context, paying: Visit, owner: Owner) -> None:
    subscription = agreement(ctx, owner)
    ctx.payments["sandbox"].end(subscription.reference)  # type: ignore[attr-defined]
    settle(ctx, subscription.checkout_id)
    with ctx.db.tx() as db:
        db.get_one(Subscription, subscription.id).pay_url = "https://pay.example/old"
    html = paying.get("/billing").text
    assert "https://pay.example/old" not in html, "to pay that brings nothing back"
    (path,) = re.findall(r'action="(/instances/[a-z0-9_]+/reactivate)"', html)
    answer = paying.post(path, "/billing", plan="personal")
    assert answer.status_code == 303
    pay(ctx, answer.headers["location"])
    assert agreement(ctx, owner).state == "active"


def test_what_is_owed_is_not_called_paid(ctx: Context, paying: Visit, owner: Owner) -> None:
    assert "paid until" in paying.get("/dashboard").text
    subscription = agreement(ctx, owner)
    ctx.payments["sandbox"].fail_renewal(subscription.reference)  # type: ignore[attr-defined]
    settle(ctx, subscription.checkout_id)
    assert agreement(ctx, owner).state == "past_due"
    dashboard, billing = paying.get("/dashboard").text, paying.get("/billing").text
    assert "paid until" not in dashboard
    assert "payment failed" in dashboard
    assert "Next payment" not in billing
    assert "Pay what is owed" in billing


def dispute(ctx: Context, subscription: Subscription, verdict: str) -> None:
    """The customer's bank takes the newest payment back, or has decided."""
    vendor: Any = ctx.payments["sandbox"]
    with ctx.db.read() as db:
        reference = checkouts.get(db, subscription.checkout_id).reference or ""
    vendor.dispute(vendor.fetch(reference).payments[-1].reference, verdict)
    settle(ctx, subscription.checkout_id)


def test_a_disputed_plan_is_called_paused_and_says_what_to_do(
    ctx: Context, mine: Visit, live_and_paid: str, owner: Owner
) -> None:
    subscription = agreement(ctx, owner)
    dispute(ctx, subscription, "open")
    html = mine.get("/billing").text
    for words in ("Paused: payment disputed", "ask your bank to take the dispute back", "mailto:", "Period until"):
        assert words in html, words
    for words in (">Active<", "Change the plan", "Next payment", "Pay what is owed"):
        assert words not in html, words
    for path in ("/dashboard", f"/instances/{live_and_paid}"):
        seen = mine.get(path).text.lower()
        assert "paused: payment disputed" in seen
        assert "paid until" not in seen
    refused = mine.post(f"/billing/subscriptions/{subscription.id}/plan", "/billing", plan="metered")
    assert (refused.status_code, "disputed or returned" in refused.text) == (409, True)
    dispute(ctx, subscription, "won")
    html = mine.get("/billing").text
    assert ">Active<" in html
    assert "Change the plan" in html


def test_a_returned_payment_is_not_called_active(ctx: Context, mine: Visit, live_and_paid: str, owner: Owner) -> None:
    subscription = agreement(ctx, owner)
    vendor: Any = ctx.payments["sandbox"]
    with ctx.db.read() as db:
        reference = checkouts.get(db, subscription.checkout_id).reference or ""
    vendor.refund_rest(vendor.fetch(reference).payments[-1].reference)
    settle(ctx, subscription.checkout_id)
    html = mine.get("/billing").text
    for words in ("Paused: payment returned", "To go on, write to us"):
        assert words in html, words
    assert ">Active<" not in html


@pytest.mark.parametrize(
    ("months", "told"), [(0, "off this period. From"), (3, "off every payment before"), (None, "off every payment.")]
)
def test_a_running_coupon_is_shown_with_its_end(ctx: Context, mine: Visit, months: int | None, told: str) -> None:
    with ctx.db.tx() as db:
        coupons.create(db, "HALF", "percent", 50, now=ctx.clock.now(), months=months)
    pay(ctx, order(mine, coupon="half").headers["location"])
    html = mine.get("/billing").text
    assert "HALF: 50 %" in html
    assert told in html


def test_the_portal_is_the_vendor_s(paying: Visit, mine: Visit) -> None:
    answer = paying.post("/billing/portal", "/billing")
    assert answer.status_code == 303
    assert "/sandbox/" in answer.headers["location"]


def test_a_vendor_that_is_away_hides_nothing_else(ctx: Context, paying: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    from clawhaven.core.errors import Unavailable

    def away(*_: object) -> None:
        raise Unavailable("The payment provider cannot be reached at the moment.")

    monkeypatch.setattr(agreements, "list_invoices", away)
    html = paying.get("/billing").text
    assert "cannot be reached" in html
    assert "Personal" in html


def test_a_new_price_is_said_to_be_taken_only_when_it_is(
    ctx: Context, paying: Visit, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = agreement(ctx, owner)
    now = dataclasses.replace(ctx.plans.get("personal"), price_micros=39_000_000)
    monkeypatch.setitem(ctx.plans._plans, "personal", now)
    path = f"/billing/subscriptions/{subscription.id}/accept-price"
    assert f'action="{path}"' in paying.get("/billing").text
    with monkeypatch.context() as patched:
        patched.setattr(Sandbox, "change_plan", lambda *_: None)  # it waits for its payment
        waiting = paying.post(path, "/billing")
    assert (waiting.status_code, "has to be paid first" in waiting.text) == (402, True)
    assert agreement(ctx, owner).amount_micros == 29_000_000
    vendor: Any = ctx.payments["sandbox"]
    with ctx.db.read() as db:
        customer = customers.find(db, owner.account.id, "sandbox") or ""
    vendor.use_card(customer, "declined")
    declined = paying.post(path, "/billing")
    assert (declined.status_code, "was declined" in declined.text) == (402, True)
    vendor.use_card(customer, "works")
    assert paying.post(path, "/billing").headers["location"] == "/billing?done=price-accepted"
    assert agreement(ctx, owner).amount_micros == 39_000_000
    assert f'action="{path}"' not in paying.get("/billing").text


def test_nobody_who_owes_is_offered_a_new_price(
    ctx: Context, paying: Visit, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = agreement(ctx, owner)
    now = dataclasses.replace(ctx.plans.get("personal"), price_micros=39_000_000)
    monkeypatch.setitem(ctx.plans._plans, "personal", now)
    ctx.payments["sandbox"].fail_renewal(subscription.reference)  # type: ignore[attr-defined]
    settle(ctx, subscription.checkout_id)
    page = paying.get("/billing").text
    assert "This plan now costs" in page
    assert "accept-price" not in page
    assert paying.post(f"/billing/subscriptions/{subscription.id}/accept-price", "/billing").status_code == 409


def test_each_vendor_that_knows_the_customer_has_its_button(ctx: Context, paying: Visit, owner: Owner) -> None:
    assert paying.get("/billing").text.count('action="/billing/portal"') == 1
    vendors: Any = {"bymail": ByMail(), "sandbox": ctx.payments["sandbox"]}
    visit = Visit(dataclasses.replace(ctx, payments=vendors))
    visit.sign_in(owner)
    assert visit.get("/billing").text.count('action="/billing/portal"') == 1, "the other one does not know them"
    with ctx.db.tx() as db:
        customers.remember(db, owner.account.id, "bymail", "cust_1", ctx.clock.now())
    page = visit.get("/billing").text
    for words in ("Manage at Bymail", "Manage at Sandbox", "at Sandbox</span>"):
        assert words in page, words
    theirs = visit.post("/billing/portal", "/billing", provider="bymail")
    assert theirs.headers["location"] == "https://bymail.example/cust_1"
    assert "/sandbox/" in visit.post("/billing/portal", "/billing", provider="sandbox").headers["location"]
