"""The sandbox vendor's pages: checkout, invoice, portal, and the one where trouble is rehearsed."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from clawhaven.billing.models import Checkout
from clawhaven.context import Context
from clawhaven.core.settings import Settings
from clawhaven.ports.payments import Discount, VendorSubscription
from tests.contracts.payments import START, charge_of, request_of
from tests.web.conftest import Visit, draft


@pytest.fixture
def opened(mine: Visit, ctx: Context) -> Checkout:
    """An open checkout of the signed-in customer."""
    draft(mine)
    with ctx.db.read() as db:
        return db.scalars(select(Checkout)).one()


@pytest.fixture
def vendor(ctx: Context) -> Any:
    """The vendor's own side."""
    return ctx.payments["sandbox"]


@pytest.fixture
def paid(vendor: Any) -> str:
    """A paid subscription's checkout, made at the vendor alone."""
    return pay(vendor)


def pay(vendor: Any, key: str = "chk_1", **more: Any) -> str:
    """A checkout at the vendor, paid."""
    reference = str(vendor.create_checkout(request_of(key, **more)).reference)
    vendor.complete(reference, "paid")
    return reference


def subscription(vendor: Any, checkout: str) -> VendorSubscription:
    """The checkout's subscription as it is now."""
    found = vendor.fetch(checkout).subscription
    assert isinstance(found, VendorSubscription)
    return found


def path_of(url: str | None) -> str:
    """The path of a page of the vendor."""
    assert url is not None
    return url[url.index("/sandbox/") :]


def test_the_vendors_page_shows_plan_amount_and_buttons(visit: Visit, opened: Checkout) -> None:
    page = visit.get(f"/sandbox/checkout/{opened.reference}").text
    for words in ("Clawhaven: Personal", "$29", "a month", 'value="paid"', 'value="declined"', 'value="cancelled"'):
        assert words in page


def test_a_script_may_press_the_buttons(visit: Visit, ctx: Context, opened: Checkout) -> None:
    path = f"/sandbox/checkout/{opened.reference}"
    declined = visit.http.post(path, data={"outcome": "declined"}, headers={"sec-fetch-site": "cross-site"})
    assert (declined.status_code, declined.headers["location"]) == (303, path)
    assert "declined" in visit.get(path).text
    faults = {"duplicate": "2", "reorder": "on", "delay_seconds": "0.5"}
    paid = visit.http.post(path, data={"outcome": "paid", **faults})
    success = f"{ctx.settings.base_url}/deploying/{opened.instance_id}?paid=1"
    assert (paid.status_code, paid.headers["location"]) == (303, success)
    assert ctx.payments["sandbox"].fetch(str(opened.reference)).checkout_state == "paid"
    assert visit.http.post(path, data={"outcome": "cancelled"}).headers["location"] == success  # paid is final
    assert "This is paid" in visit.get(path).text


def test_a_cancelled_payment_says_so(visit: Visit, ctx: Context, opened: Checkout) -> None:
    path = f"/sandbox/checkout/{opened.reference}"
    answer = visit.http.post(path, data={"outcome": "cancelled"})
    assert answer.headers["location"] == path
    page = visit.get(path).text
    assert "Nothing was charged" in page
    assert f'href="{ctx.settings.base_url}/deploying/{opened.instance_id}"' in page


@pytest.mark.parametrize(
    "form", [{}, {"outcome": "stolen"}, {"outcome": "paid", "duplicate": "-1"}, {"outcome": "paid", "duplicate": "nan"}]
)
def test_nonsense_is_refused_and_changes_nothing(
    visit: Visit, ctx: Context, opened: Checkout, form: dict[str, str]
) -> None:
    assert visit.http.post(f"/sandbox/checkout/{opened.reference}", data=form).status_code == 400
    assert ctx.payments["sandbox"].fetch(str(opened.reference)).checkout_state == "open"


def test_there_is_no_sandbox_page_in_production_or_without_the_sandbox(
    ctx: Context, settings: Settings, opened: Checkout
) -> None:
    path = f"/sandbox/checkout/{opened.reference}"
    production = dataclasses.replace(ctx, settings=settings.model_copy(update={"environment": "production"}))
    for other in (production, dataclasses.replace(ctx, payments={})):
        visit = Visit(other)
        assert visit.get(path).status_code == 404
        assert visit.http.post(path, data={"outcome": "paid"}).status_code == 404
    assert Visit(ctx).get("/sandbox/checkout/sco_unknown").status_code == 404
    assert Visit(ctx).http.post("/sandbox/checkout/sco_unknown", data={"outcome": "paid"}).status_code == 404


def test_a_trial_and_a_coupon_say_what_is_paid_now(visit: Visit, vendor: Any) -> None:
    trial = path_of(vendor.create_checkout(request_of("chk_1", trial_days=14)).url)
    page = visit.get(trial).text
    for words in ("for 14 days, then $29 a month", "Start the free trial"):
        assert words in page
    half = Discount("HALF", percent_off=50)
    coupon = path_of(vendor.create_checkout(request_of("chk_2", discount=half)).url)
    page = visit.get(coupon).text
    for words in ("Pay $14.50", "instead of $29 a month", "HALF"):
        assert words in page


def test_three_d_secure_is_confirmed_on_the_charges_page(visit: Visit, vendor: Any, paid: str) -> None:
    customer = vendor.fetch(paid).customer_reference
    vendor.use_card(customer, "needs_3ds")
    charge = vendor.charge_saved(charge_of("chk_2", customer))
    path = path_of(charge.url)
    assert "3-D Secure" in visit.get(path).text
    answer = visit.http.post(path, data={"outcome": "paid"})
    assert answer.headers["location"] == path
    assert "This is paid" in visit.get(path).text
    assert vendor.fetch(charge.reference).checkout_state == "paid"
    refused = vendor.charge_saved(charge_of("chk_3", customer))
    visit.http.post(path_of(refused.url), data={"outcome": "declined"})
    assert 'value="paid"' not in visit.get(path_of(refused.url)).text


def test_an_owed_invoice_is_paid_on_its_page(visit: Visit, vendor: Any, paid: str) -> None:
    vendor.fail_renewal(subscription(vendor, paid).reference)
    path = path_of(subscription(vendor, paid).pay_url)
    assert "Pay $29" in visit.get(path).text
    declined = visit.http.post(path, data={"outcome": "declined"})
    assert "declined" in visit.get(declined.headers["location"]).text
    assert visit.http.post(path, data={"outcome": "free"}).status_code == 400
    assert subscription(vendor, paid).state == "past_due"
    assert visit.http.post(path, data={"outcome": "paid"}).headers["location"] == path
    assert "This is paid" in visit.get(path).text
    assert subscription(vendor, paid).state == "active"
    vendor.fail_renewal(subscription(vendor, paid).reference)
    left = path_of(subscription(vendor, paid).pay_url)
    vendor.end(subscription(vendor, paid).reference)
    assert "Nothing has to be paid" in visit.get(left).text


def test_an_invoice_is_a_file_too(visit: Visit, vendor: Any, paid: str) -> None:
    (invoice,) = vendor.invoices(vendor.fetch(paid).customer_reference)
    assert path_of(invoice.pdf_url) in visit.get(path_of(invoice.page_url)).text
    answer = visit.get(path_of(invoice.pdf_url))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    for words in (b"(Invoice SANDBOX-00001)", b"(Customer: user@example.com)", b"(Amount: $29.00 \\(paid\\))"):
        assert words in answer.content
    assert visit.get("/sandbox/invoice/sinv_1/pdf").status_code == 404


def test_the_portal_shows_card_and_invoices_and_takes_another_card(visit: Visit, vendor: Any, paid: str) -> None:
    customer = vendor.fetch(paid).customer_reference
    path = path_of(vendor.portal_url(customer, "http://127.0.0.1/billing"))
    page = visit.get(path).text
    for words in ("Visa ending in 4242", "SANDBOX-00001", "http://127.0.0.1/billing", "A card that needs 3-D Secure"):
        assert words in page
    answer = visit.http.post(path, data={"card": "declined"})
    page = visit.get(answer.headers["location"]).text
    assert "Visa ending in 0341" in page
    assert "The card is saved" in page
    assert visit.http.post(path, data={"card": "gold"}).status_code == 400
    vendor.push_clock(timedelta(days=32))
    assert subscription(vendor, paid).state == "past_due"
    assert "not paid" in visit.get(path).text


def test_trouble_is_made_and_taken_back(visit: Visit, vendor: Any) -> None:
    page = visit.get("/sandbox").text
    assert "Nobody has subscribed yet" in page
    fields = {"next_card": "declined", "delay_seconds": "2.5", "duplicate": "3", "reorder": "1", "drop": "1"}
    assert visit.post("/sandbox/trouble", "/sandbox", **fields, down="1").headers["location"] == "/sandbox?did=trouble"
    made = vendor.trouble()
    assert (made.next_card, made.delay_seconds, made.duplicate) == ("declined", 2.5, 3)
    assert made.is_reordering
    assert made.is_dropping
    assert made.is_down
    page = visit.get("/sandbox?did=trouble").text
    assert "Saved." in page
    assert "switched off" in page
    assert visit.get("/sandbox/checkout/sco_1").status_code == 503
    assert visit.post("/sandbox/trouble", "/sandbox").headers["location"] == "/sandbox?did=calm"
    assert vendor.trouble() == type(made)()


@pytest.mark.parametrize("wrong", [{"next_card": "gold"}, {"duplicate": "21"}, {"delay_seconds": "soon"}])
def test_impossible_trouble_is_refused(visit: Visit, vendor: Any, wrong: dict[str, str]) -> None:
    before = vendor.trouble()
    assert visit.post("/sandbox/trouble", "/sandbox", **wrong).status_code == 400
    assert vendor.trouble() == before


def test_a_failed_payment_is_rehearsed_with_buttons(visit: Visit, vendor: Any, paid: str) -> None:
    path = f"/sandbox/subscriptions/{subscription(vendor, paid).reference}"
    states = []
    for action in ("fail", "fail", "fail", "fail", "pay", "bill", "end"):
        answer = visit.post(path, "/sandbox", action=action)
        assert answer.headers["location"] == f"/sandbox?did={action}"
        assert 'role="status"' in visit.get(answer.headers["location"]).text
        states.append(subscription(vendor, paid).state)
    assert states == ["past_due", "past_due", "past_due", "unpaid", "active", "active", "canceled"]
    assert visit.post(path, "/sandbox", action="bill").status_code == 400
    assert visit.post(path, "/sandbox", action="love").status_code == 400


def test_disputes_and_refunds_have_buttons(visit: Visit, vendor: Any, paid: str) -> None:
    first = vendor.fetch(paid).payments[0].reference
    page = visit.get("/sandbox").text
    assert "us…@example.com" in page
    assert "user@example.com" not in page
    for action in ("open", "won", "refund"):
        assert visit.post(f"/sandbox/payments/{first}", "/sandbox", action=action).status_code == 303
    seen = vendor.fetch(paid).payments[0]
    assert (seen.dispute, seen.refunded_micros) == ("won", 29_000_000)
    page = visit.get("/sandbox").text
    assert "$29 given back" in page
    assert "dispute won" in page
    assert visit.post(f"/sandbox/payments/{first}", "/sandbox", action="refund").status_code == 400
    assert visit.post(f"/sandbox/payments/{first}", "/sandbox", action="keep").status_code == 400


def test_a_top_up_can_be_disputed_and_refunded(visit: Visit, vendor: Any) -> None:
    assert "Nobody has topped up yet" in visit.get("/sandbox").text
    checkout = pay(vendor, "chk_2", amount_micros=10_000_000, interval=None)
    payment = vendor.fetch(checkout).payments[0].reference
    page = visit.get("/sandbox").text
    assert "$10 paid" in page
    assert page.count(f"/sandbox/payments/{payment}") == 2
    for action, told in (("open", "dispute open"), ("won", "dispute won"), ("refund", "$10 given back")):
        assert visit.post(f"/sandbox/payments/{payment}", "/sandbox", action=action).status_code == 303
        assert told in visit.get("/sandbox").text
    assert vendor.fetch(checkout).payments[0].refunded_micros == 10_000_000


def test_the_clock_moves_forward(visit: Visit, vendor: Any, paid: str) -> None:
    assert visit.post("/sandbox/clock", "/sandbox", days="31").status_code == 303
    assert len(vendor.fetch(paid).payments) == 2
    assert "31 days ahead" in visit.get("/sandbox").text
    assert visit.post("/sandbox/clock", "/sandbox", days="-1").status_code == 400
    assert visit.post("/sandbox/clock", "/sandbox", days="401").status_code == 400


def test_only_this_sites_page_makes_trouble(visit: Visit, vendor: Any, paid: str) -> None:
    before = (vendor.trouble(), vendor.fetch(paid))
    reference, payment = subscription(vendor, paid).reference, vendor.fetch(paid).payments[0].reference
    for path, data in (
        ("/sandbox/trouble", {"down": "1"}),
        ("/sandbox/clock", {"days": "31"}),
        (f"/sandbox/subscriptions/{reference}", {"action": "end"}),
        (f"/sandbox/payments/{payment}", {"action": "refund"}),
    ):
        assert visit.http.post(path, data=data).status_code == 403
        assert visit.http.post(path, data=data, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert (vendor.trouble(), vendor.fetch(paid)) == before
    assert len(vendor.unseen(START)) == 3


def test_the_checkout_page_leads_to_the_back_room(visit: Visit, opened: Checkout) -> None:
    page = visit.get(f"/sandbox/checkout/{opened.reference}").text
    assert re.search(r'href="/sandbox"', page)


def test_none_of_it_exists_in_production_or_for_unknown_things(ctx: Context, settings: Settings, visit: Visit) -> None:
    production = dataclasses.replace(ctx, settings=settings.model_copy(update={"environment": "production"}))
    paths = ["/sandbox", "/sandbox/invoice/sinv_1", "/sandbox/portal/spor_1"]
    for other in (production, dataclasses.replace(ctx, payments={})):
        stranger = Visit(other)
        assert [stranger.get(path).status_code for path in paths] == [404, 404, 404]
        for path in ("/sandbox/trouble", "/sandbox/clock", "/sandbox/subscriptions/ssub_1", "/sandbox/payments/spay_1"):
            assert stranger.http.post(path).status_code in (403, 404)
    assert [visit.get(path).status_code for path in paths] == [200, 404, 404]
    assert visit.http.post("/sandbox/invoice/sinv_1", data={"outcome": "paid"}).status_code == 404
    assert visit.http.post("/sandbox/portal/spor_1", data={"card": "works"}).status_code == 404
