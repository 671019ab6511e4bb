"""The way to the payment page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import select

from clawhaven.billing import checkouts
from clawhaven.billing.models import Checkout
from clawhaven.context import Context
from clawhaven.instances.models import Instance
from tests.web.conftest import Visit, draft
from tests.web.test_billing import settle


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


def leads(page: str, path: str, words: str) -> bool:
    """True when the page has a link with these words to this path."""
    return re.search(rf'<a [^>]*href="{path}"[^>]*>{words}', page) is not None


def turn_back(visit: Visit, reference: str) -> str:
    """Follow the vendor's way back, as far as it leads; returns the page where it ends."""
    way = visit.ctx.payments["sandbox"].checkout(reference).cancel_url  # type: ignore[attr-defined]
    answer = visit.http.get(way, follow_redirects=True)
    assert answer.status_code == 200
    assert "/sandbox/" not in str(answer.url), "the way back leads to the payment page again"
    return answer.text


def test_who_turns_back_from_a_plan_can_pay_later_change_it_or_begin_again(
    mine: Visit, ctx: Context, opened: Checkout
) -> None:
    page = turn_back(mine, str(opened.reference))
    assert leads(page, f"/checkout/{opened.id}", "Finish the payment")
    assert f'href="/instances/{opened.instance_id}/configuration"' in page
    vendor: Any = ctx.payments["sandbox"]
    vendor.complete(opened.reference, "cancelled")
    settle(ctx, opened.id)
    page = turn_back(mine, str(opened.reference))
    assert "This order was cancelled" in page
    assert leads(page, "/configure", "Start again")
    assert "the draft is gone" in mine.get(f"/checkout/{opened.id}").text


def test_who_turns_back_from_a_topup_chooses_again(mine: Visit, ctx: Context) -> None:
    reference = mine.post("/topup", chosen="25", amount="").headers["location"].rpartition("/")[2]
    opened = checkout_of(ctx)
    assert "Continue to payment" in turn_back(mine, reference)
    vendor: Any = ctx.payments["sandbox"]
    vendor.complete(reference, "cancelled")
    settle(ctx, opened.id)
    assert "Continue to payment" in turn_back(mine, reference)
    page = mine.get(f"/checkout/{opened.id}").text
    assert "This checkout is closed" in page
    assert "draft" not in page
    assert leads(page, "/topup", "Choose an amount again")
    with ctx.db.tx() as db:
        checkouts.complete(db, opened.id, ctx.clock.now())
    assert mine.get(f"/checkout/{opened.id}").headers["location"] == f"/topup/{opened.id}"


def test_a_closed_checkout_of_an_assistant_that_lived_keeps_it(mine: Visit, ctx: Context, opened: Checkout) -> None:
    with ctx.db.tx() as db:
        db.get_one(Instance, opened.instance_id).paid_at = ctx.clock.now()
        checkouts.expire(db, opened.id, ctx.clock.now())
    page = mine.get(f"/checkout/{opened.id}").text
    assert "your assistant is kept as it was" in page
    assert "draft" not in page
    assert leads(page, f"/instances/{opened.instance_id}", "Go to the assistant")


@pytest.mark.parametrize("is_topup", [False, True])
def test_a_payment_page_that_does_not_answer_promises_nothing_else(
    mine: Visit, ctx: Context, opened: Checkout, is_topup: bool
) -> None:
    with ctx.db.tx() as db:
        row = db.get_one(Checkout, opened.id)
        row.reference = row.url = None
        if is_topup:
            row = checkouts.open_topup(db, opened.account_id, 25_000_000, "sandbox", ctx.clock.now())
        checkout_id = row.id
    ctx.payments["sandbox"].change_trouble(is_down=True)  # type: ignore[attr-defined]
    page = mine.get(f"/checkout/{checkout_id}")
    assert page.status_code == 503
    assert "Nothing was charged" in page.text
    assert ("what you chose is kept" in page.text) is not is_topup
    assert "mailed" not in page.text
