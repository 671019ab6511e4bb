"""The way to the payment page."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from clawhaven.billing import checkouts
from clawhaven.billing.models import Checkout
from clawhaven.context import Context
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
