"""The way to the payment page and the sandbox vendor's own."""

from __future__ import annotations

import dataclasses

import pytest
from sqlalchemy import select

from clawhaven.billing import checkouts
from clawhaven.billing.models import Checkout
from clawhaven.context import Context
from clawhaven.core.settings import Settings
from tests.web.conftest import Visit, draft


def checkout_of(ctx: Context) -> Checkout:
    with ctx.db.read() as db:
        return db.scalars(select(Checkout)).one()


@pytest.fixture
def opened(mine: Visit, ctx: Context) -> Checkout:
    """An open checkout of the signed-in customer."""
    draft(mine)
    return checkout_of(ctx)


def test_the_owner_goes_on_to_the_vendor(mine: Visit, opened: Checkout) -> None:
    answer = mine.get(f"/checkout/{opened.id}")
    assert (answer.status_code, answer.headers["location"]) == (303, opened.url)


def test_a_stranger_sees_nothing_and_nobody_signs_in_first(stranger: Visit, visit: Visit, opened: Checkout) -> None:
    assert stranger.get(f"/checkout/{opened.id}").status_code == 404
    answer = visit.get(f"/checkout/{opened.id}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next=/checkout/{opened.id}")


def test_a_paid_checkout_leads_to_the_steps_and_a_closed_one_says_so(
    mine: Visit, ctx: Context, opened: Checkout
) -> None:
    with ctx.db.tx() as db:
        checkouts.expire(db, opened.id, ctx.clock.now())
    assert "This checkout is closed" in mine.get(f"/checkout/{opened.id}").text
    with ctx.db.tx() as db:
        checkouts.complete(db, opened.id, ctx.clock.now())
    answer = mine.get(f"/checkout/{opened.id}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/deploying/{opened.instance_id}")


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
    success = f"{ctx.settings.base_url}/deploying/{opened.instance_id}"
    assert (paid.status_code, paid.headers["location"]) == (303, success)
    assert ctx.payments["sandbox"].fetch(str(opened.reference)).checkout_state == "paid"
    assert visit.http.post(path, data={"outcome": "cancelled"}).headers["location"] == success  # paid is final
    assert "This is paid" in visit.get(path).text


def test_a_cancelled_payment_says_so(visit: Visit, opened: Checkout) -> None:
    path = f"/sandbox/checkout/{opened.reference}"
    answer = visit.http.post(path, data={"outcome": "cancelled"})
    assert answer.headers["location"] == path
    page = visit.get(path).text
    assert "Nothing was charged" in page
    assert f"/checkout/{opened.id}" in page


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
