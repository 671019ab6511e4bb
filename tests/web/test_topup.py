"""Filling the wallet on the site, by hand and by itself."""

from __future__ import annotations

import csv
import io
import re

import pytest

from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, coupons
from clawhaven.context import Context
from tests.web.conftest import Visit, order
from tests.web.test_billing import pay


@pytest.fixture
def paying(ctx: Context, mine: Visit) -> Visit:
    """The customer with one paid assistant."""
    pay(ctx, order(mine).headers["location"])
    return mine


def test_a_topup_goes_through_the_payment_page(ctx: Context, paying: Visit, owner: Owner) -> None:
    answer = paying.post("/topup", chosen="25", amount="")
    assert answer.status_code == 303
    checkout_id = pay(ctx, answer.headers["location"])
    html = paying.get(f"/topup/{checkout_id}").text
    assert "$25 are on your balance" in html
    assert "$25.00" in paying.get("/ledger").text
    rows = list(csv.DictReader(io.StringIO(paying.get("/ledger.csv").text)))
    assert any("25.00" in row.values() for row in rows)


def test_a_topup_that_waits_says_so(paying: Visit) -> None:
    url = paying.post("/topup", chosen="other", amount="12.50").headers["location"]
    with paying.ctx.db.read() as db:
        found = checkouts.by_reference(db, "sandbox", url.rpartition("/")[2])
    assert found is not None
    assert found.amount_micros == 12_500_000
    html = paying.get(f"/topup/{found.id}").text
    assert "Waiting for the payment provider" in html


@pytest.mark.parametrize("wrong", ["5", "abc", "", "12.345", "99999"])
def test_a_wrong_amount_is_explained_and_kept(mine: Visit, wrong: str) -> None:
    answer = mine.post("/topup", chosen="other", amount=wrong)
    assert answer.status_code == 400
    assert 'aria-invalid="true"' in answer.text
    assert f'value="{wrong}"' in answer.text


def test_a_wrong_amount_is_explained_in_the_readers_language(mine: Visit) -> None:
    mine.http.headers["accept-language"] = "de"
    assert "Aufladen kannst du von 10,00\N{NO-BREAK SPACE}$ bis" in mine.post("/topup", chosen="2", amount="").text
    assert "Aufladen kannst du nur ganze Cent." in mine.post("/topup", chosen="other", amount="10.001").text


def test_the_automatic_topup_is_saved_checked_and_switched_off(ctx: Context, mine: Visit) -> None:
    saved = mine.post("/topup/automatic", "/topup", enabled="1", threshold="15", auto_amount="25")
    assert saved.headers["location"] == "/topup?done=auto-saved"
    html = mine.get("/topup").text
    assert 'value="15"' in html
    assert re.search(r'name="enabled" value="1" checked><span>Fill my balance', html)
    wrong = mine.post("/topup/automatic", "/topup", enabled="1", threshold="15", auto_amount="2")
    assert wrong.status_code == 400
    assert "auto_amount-error" in wrong.text
    assert mine.post("/topup/automatic", "/topup", threshold="15", auto_amount="25").headers["location"].endswith("off")


def test_a_coupon_s_credit_arrives(ctx: Context, mine: Visit) -> None:
    with ctx.db.tx() as db:
        coupons.create(db, "HELLO", kind="credit", value=5_000_000, now=ctx.clock.now())
    assert mine.post("/billing/coupon", "/topup", code="HELLO").headers["location"] == "/topup?done=redeemed"
    again = mine.post("/billing/coupon", "/topup", code="HELLO")
    assert again.status_code == 400
    assert "$5.00" in mine.get("/topup").text
