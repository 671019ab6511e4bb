"""The operator's pages: who sees them, and what can be done there."""

from __future__ import annotations

import time
from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from clawhaven.accounts import operators
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, coupons
from clawhaven.billing.models import CreditGrant, Receipt
from clawhaven.context import Context
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.ledger import account_of, balance
from clawhaven.ports.payments import FeeRate, VendorPayment
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.workflows import engine
from tests.web.conftest import Visit, draft, token_in

PAGES = ["", "/accounts", "/accounts/acc_x", "/reconcile", "/margin", "/coupons"]


@pytest.fixture
def boss(ctx: Context) -> Visit:
    """An operator, signed in with a mailed link."""
    with ctx.db.tx() as db:
        owner = operators.appoint(db, "boss@example.com", ctx.clock.now())
    signed_in = Visit(ctx)
    signed_in.sign_in(owner)
    return signed_in


def paid(ctx: Context, owner: Owner) -> str:
    """A payment of the owner's; the receipt's id."""
    with ctx.db.tx() as db:
        checkout_id = db.scalar(sa.text("SELECT id FROM checkout"))
        receipt = Receipt(
            id="rcp_1",
            account_id=owner.account.id,
            checkout_id=checkout_id,
            provider="sandbox",
            reference="pay_1",
            amount_micros=29_000_000,
            refunded_micros=0,
            created_at=ctx.clock.now(),
        )
        db.add(receipt)
    return receipt.id


def test_strangers_find_nothing_here(visit: Visit, mine: Visit, boss: Visit, owner: Owner) -> None:
    token = token_in(mine.get("/dashboard").text)
    for path in PAGES:
        assert visit.get(f"/admin{path}").headers["location"].startswith("/sign-in")
        assert mine.get(f"/admin{path}").status_code == 404
    assert "/admin" not in mine.get("/dashboard").text
    assert 'href="/admin"' in boss.get("/dashboard").text
    account = f"/admin/accounts/{owner.account.id}"
    for path in (f"{account}/credits", f"{account}/receipts/rcp_1/refund", "/admin/reconcile", "/admin/coupons"):
        assert mine.http.post(path, data={"csrf": token, "amount": "5", "reason": "for me"}).status_code == 404
        assert boss.http.post(path, data={"amount": "5", "reason": "no token"}).status_code == 403


def test_the_business_and_its_customers(boss: Visit, mine: Visit, owner: Owner) -> None:
    draft(mine)
    front = boss.get("/admin").text
    for words in ("The business", "Prepaid and unused", "Nobody owes anything"):
        assert words in front
    assert "alice@example.com" in boss.get("/admin/accounts").text
    assert "alice@example.com" not in boss.get("/admin/accounts?search=nobody").text
    assert boss.get("/admin/accounts?cursor=x").status_code == 400
    page = boss.get(f"/admin/accounts/{owner.account.id}").text
    assert ">Waiting for payment<" in page, "operators read the customer's words"
    assert boss.get("/admin/accounts/acc_nobody").status_code == 404


def test_an_assistants_key_is_replaced(
    boss: Visit, mine: Visit, stranger: Visit, ctx: Context, owner: Owner, live: str
) -> None:
    account = f"/admin/accounts/{owner.account.id}"
    path = f"{account}/instances/{live}/replace-key"
    assert "Replace its pass" in boss.get(account).text
    assert boss.post(f"/admin/accounts/acc_x/instances/{live}/replace-key", account).status_code == 404
    assert mine.post(path, "/dashboard").status_code == stranger.post(path, "/dashboard").status_code == 404
    answer = boss.post(path, account)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{account}?done=key-replacing")
    assert "A new pass is being made." in boss.get(answer.headers["location"]).text
    with ctx.db.tx() as db:
        who, subject = db.execute(
            sa.text("SELECT actor, subject FROM audit_log WHERE action = 'instance.replace_key'")
        ).one()
        assert (who.startswith("user:"), subject) == (True, live)
        db.get_one(Instance, live).state = State.FAILED
    assert "Replace its pass" not in boss.get(account).text


def test_credit_is_booked_once_however_often_the_button_is_pressed(boss: Visit, ctx: Context, owner: Owner) -> None:
    path = f"/admin/accounts/{owner.account.id}"
    html = boss.get(path).text
    form = {"csrf": token_in(html), "key": "adj_one", "amount": "12.50", "reason": "An <b>outage</b>"}
    for _ in range(2):
        answer = boss.http.post(f"{path}/credits", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{path}?done=credited")
    page = boss.get(path).text
    assert "+$12.50" in page
    assert "An &lt;b&gt;outage&lt;/b&gt;" in page
    for amount in ("", "x", "1e5", "--5", "0"):
        refused = boss.post(f"{path}/credits", path, key="adj_two", amount=amount, reason="none")
        assert refused.status_code == 400, amount
    assert boss.post(f"{path}/credits", path, key="a3", amount="-50", reason="Too much").status_code == 402
    below = {"is_below_minimum": "yes"}
    assert boss.post(f"{path}/credits", path, key="a4", amount="-2.50", reason="Set right", **below).status_code == 303
    with ctx.db.read() as db:
        wallet = account_of(db, "wallet", owner.account.id)
        assert wallet
        assert balance(db, wallet).balance_micros == 10_000_000


def test_each_payment_says_what_it_was_for(boss: Visit, mine: Visit, ctx: Context, owner: Owner) -> None:
    draft(mine)
    paid(ctx, owner)
    with ctx.db.tx() as db:
        for number, kind in ((2, checkouts.Kind.TOPUP), (3, checkouts.Kind.AUTO_TOPUP)):
            amount, now = number * 10_000_000, ctx.clock.now()
            opened = checkouts.open_topup(db, owner.account.id, amount, "sandbox", now, kind)
            checkouts.add_receipt(db, opened, VendorPayment(f"pay_{number}", amount), now)
    html = boss.get(f"/admin/accounts/{owner.account.id}").text
    for words in ("$29.00</strong> for Personal", "$20.00</strong> for Top-up", "$30.00</strong> for Automatic top-up"):
        assert words in html, words


def test_a_refund_of_this_customers_payment(boss: Visit, mine: Visit, ctx: Context, owner: Owner) -> None:
    draft(mine)
    receipt_id = paid(ctx, owner)
    path = f"/admin/accounts/{owner.account.id}"
    assert "Give back" in boss.get(path).text
    too_much = boss.post(f"{path}/receipts/{receipt_id}/refund", path, key="r1", amount="30", reason="Too much of it")
    assert (too_much.status_code, "$29.00" in too_much.text) == (400, True)
    for words in (
        'data-kind="card" open>',
        'value="Too much of it"',
        'id="amount-rcp_1" name="amount" type="text" value="30"',
        'aria-describedby="amount-rcp_1-hint amount-rcp_1-error"',
        'role="alert"',
    ):
        assert words in too_much.text, words
    assert 'id="amount" name="amount" type="text" value=""' in too_much.text, "the other form stays as it was"
    no_reason = boss.post(f"{path}/receipts/{receipt_id}/refund", path, key="r1", amount="3", reason="")
    assert 'id="reason-rcp_1-error"' in no_reason.text
    part = boss.post(f"{path}/receipts/{receipt_id}/refund", path, key="r2", amount="9", reason="Half a month")
    assert part.headers["location"] == f"{path}?done=refund-asked"
    rest = boss.post(f"{path}/receipts/{receipt_id}/refund", path, key="r3", amount="", reason="The rest")
    assert rest.status_code == 303
    page = boss.get(path).text
    assert "$9.00: under way" in page
    assert "$20.00: under way" in page
    other = "/admin/accounts/acc_other"
    assert boss.post(f"{other}/receipts/{receipt_id}/refund", path, key="r4", reason="Not theirs").status_code == 404


def test_what_a_bank_has_taken_is_not_given_back(boss: Visit, mine: Visit, ctx: Context, owner: Owner) -> None:
    draft(mine)
    receipt_id = paid(ctx, owner)
    path = f"/admin/accounts/{owner.account.id}"
    for dispute, is_offered in (("open", False), ("lost", False), ("won", True)):
        with ctx.db.tx() as db:
            db.get_one(Receipt, receipt_id).dispute = dispute
        page = boss.get(path).text
        assert f"dispute {dispute}" in page
        assert (f"/receipts/{receipt_id}/refund" in page) == is_offered


def test_differences_are_shown_and_repaired(boss: Visit, mine: Visit, ctx: Context) -> None:
    assert "Not compared yet" in boss.get("/admin/reconcile").text
    draft(mine)
    with ctx.db.tx() as db:
        reference = db.scalar(sa.text("SELECT reference FROM checkout"))
    ctx.payments["sandbox"].complete(reference, "paid")  # type: ignore[attr-defined]
    ctx.clock.advance(timedelta(hours=1))
    page = compared(boss, ctx)
    assert "Repair what is safe" in page
    done = compared(boss, ctx, repair="yes")
    assert "the vendor is asked, and what it says is settled" in done
    assert "Repair what is safe" not in done


def compared(boss: Visit, ctx: Context, **fields: str) -> str:
    """Press the button, see that it is under way, let it be done; the page with its result."""
    assert boss.post("/admin/reconcile", **fields).headers["location"] == "/admin/reconcile"
    waiting = boss.get("/admin/reconcile").text
    assert ("looks are done" in waiting, "Compare now" in waiting) == (True, False)
    with engine.running(ctx):
        deadline = time.monotonic() + 60
        while "looks are done" in (page := boss.get("/admin/reconcile").text):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return page


def test_the_margin_of_a_month(boss: Visit, ctx: Context) -> None:
    page = boss.get("/admin/margin?month=2026-03").text
    assert "Margin in 2026-03" in page
    assert "month=2026-02" in page
    assert boss.get("/admin/margin?month=x").status_code == 400
    assert f"Margin in {ctx.clock.now():%Y-%m}" in boss.get("/admin/margin").text


def test_estimated_fees_are_called_so(
    boss: Visit, mine: Visit, ctx: Context, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft(mine)
    paid(ctx, owner)
    assert "does not tell its fees" in boss.get("/admin/margin").text
    monkeypatch.setattr(Sandbox, "fee_rate", FeeRate(Decimal(4), 0))
    page = boss.get("/admin/margin").text
    assert "$1.16 of the fees are estimated" in page
    assert "does not tell its fees" not in page


def test_coupons_are_made_and_disabled(boss: Visit) -> None:
    path = "/admin/coupons"
    made = boss.post(path, key="c1", code="five", kind="credit", value="5", months="0", max_redemptions="3")
    assert made.headers["location"] == f"{path}?done=coupon-made"
    half = boss.post(path, key="c2", code="half", kind="percent", value="50", months="every", max_redemptions="")
    assert half.status_code == 303
    page = boss.get(path).text
    assert "$5.00 of usage credit" in page
    assert "0 of 3 times" in page
    assert "50 % off a plan, every period" in page
    for wrong in ({"value": "x"}, {"code": "five"}, {"kind": "x"}, {"max_redemptions": "many"}):
        answer = boss.post(path, **{"key": "c3", "code": "new", "kind": "percent", "value": "5", "months": "0"} | wrong)
        assert answer.status_code in (400, 409), wrong
        assert 'role="alert"' in answer.text
        assert f'id="{next(iter(wrong))}-error"' in answer.text
        assert 'value="5"' in answer.text or "value" in wrong
    assert boss.post(f"{path}/HALF/disable", path).status_code == 303
    assert "disabled" in boss.get(path).text


def test_credit_and_coupons_may_have_a_last_day(boss: Visit, ctx: Context, owner: Owner) -> None:
    path = f"/admin/accounts/{owner.account.id}"
    now = ctx.clock.now()
    last = f"{now + timedelta(days=9):%Y-%m-%d}"
    ends = (now + timedelta(days=10)).replace(hour=0, minute=0, second=0, microsecond=0)
    given = {"reason": "An outage", "amount": "5"}
    assert boss.post(f"{path}/credits", path, key="a1", expires_at=last, **given).status_code == 303
    coupon = {"code": "five", "kind": "credit", "value": "5", "months": "0"}
    assert boss.post("/admin/coupons", key="c1", expires_at=last, **coupon).status_code == 303
    with ctx.db.read() as db:
        assert db.scalars(sa.select(CreditGrant.expires_at)).all() == [ends]
        assert coupons.get(db, "five").expires_at == ends
    for wrong in ("2020-01-01", "tomorrow", "9999-12-31"):
        for page, target, form in ((path, f"{path}/credits", given), ("/admin/coupons", "/admin/coupons", coupon)):
            refused = boss.post(target, page, key="a2", expires_at=wrong, **{**form, "code": "six"})
            assert (refused.status_code, 'id="expires_at-error"' in refused.text) == (400, True), (wrong, page)
    out = boss.post(f"{path}/credits", path, key="a3", amount="-1", reason="Taken back", expires_at=last)
    assert (out.status_code, "has no end" in out.text) == (400, True)
    with ctx.db.read() as db:
        assert balance(db, str(account_of(db, "wallet", owner.account.id))).balance_micros == 5_000_000
