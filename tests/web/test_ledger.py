"""The statement."""

from __future__ import annotations

from clawhaven import ledger
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from tests.web.conftest import Visit


def test_every_movement_with_the_balance_after_it(mine: Visit, stranger: Visit, ctx: Context, owner: Owner) -> None:
    now = ctx.clock.now()
    assert "Nothing has moved yet" in mine.get("/ledger").text
    with ctx.db.tx() as db:
        wallet = ledger.open_account(db, "wallet", owner.account.id, 0, now=now)
        for key, amount in (("a", 29_000_000), ("b", 123)):
            ledger.credit(
                db, key=key, ledger_account_id=wallet, amount_micros=amount, now=now, kind="payment", note=f"<{key}>"
            )
    page = mine.get("/ledger").text
    for words in ("+$29.00", "+$0.000123", "$29.000123", "&lt;a&gt;"):
        assert words in page, words
    assert page.index("&lt;b&gt;") < page.index("&lt;a&gt;")
    assert "Nothing has moved yet" in stranger.get("/ledger").text
    assert mine.get("/ledger?cursor=x").status_code == 400


def test_long_statements_have_pages(mine: Visit, ctx: Context, owner: Owner) -> None:
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        wallet = ledger.open_account(db, "wallet", owner.account.id, 0, now=now)
        for number in range(51):
            ledger.credit(db, key=f"k{number}", ledger_account_id=wallet, amount_micros=1, now=now, kind="credit")
    page = mine.get("/ledger").text
    assert page.count('data-label="After it"') == 50
    link = page.split('href="/ledger?cursor=')[1].split('"')[0]
    assert mine.get(f"/ledger?cursor={link}").text.count('data-label="After it"') == 1
