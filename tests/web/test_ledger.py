"""The statement."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta

import pytest

from clawhaven import ledger
from clawhaven.accounts.models import Account
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.ledger import statement
from clawhaven.web import ledger as pages
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


def test_a_movement_is_named_in_the_readers_language_with_its_note_below(
    mine: Visit, ctx: Context, owner: Owner
) -> None:
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        wallet = ledger.open_account(db, "wallet", owner.account.id, 0, now=now)
        for kind, note in (("topup", "Top-up"), ("coupon", "Coupon cpn_1")):
            ledger.credit(
                db, key=kind, ledger_account_id=wallet, amount_micros=5_000_000, now=now, kind=kind, note=note
            )
    for path in ("/ledger", f"/ledger?month={now:%Y-%m}"):
        cells = re.findall(r'<tr role="row">\s*<td role="cell">(.*?)</td>', mine.get(path).text, re.S)
        plain = [re.sub(r"<.*?>", "|", cell).split("|") for cell in cells]
        assert sorted([word.strip() for word in cell if word.strip()] for cell in plain) == [
            ["Coupon", "Coupon cpn_1"],
            ["Top-up"],
        ]
        german = mine.get(path, headers={"accept-language": "de"}).text
        assert "Aufladung" in german.split("<tbody")[1]
        assert "Top-up" not in german
        assert "Gutschein" in german.split("<tbody")[1]


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


def fill(ctx: Context, owner: Owner, *moved: tuple[datetime, int, str]) -> None:
    with ctx.db.tx() as db:
        wallet = ledger.open_account(db, "wallet", owner.account.id, 0, now=ctx.clock.now())
        for number, (at, amount, kind) in enumerate(moved):
            ledger.credit(db, key=f"m{number}", ledger_account_id=wallet, amount_micros=amount, now=at, kind=kind)


def test_a_month_has_its_totals_and_its_balances(mine: Visit, stranger: Visit, ctx: Context, owner: Owner) -> None:
    march = datetime(2026, 3, 31, 23, 59, tzinfo=UTC)
    with ctx.db.tx() as db:
        db.get_one(Account, owner.account.id).created_at = march - timedelta(days=40)
    assert "Nothing moved in this month" in mine.get("/ledger?month=2026-03").text
    fill(
        ctx,
        owner,
        (march - timedelta(days=31), 1_000_000, "topup"),
        (march - timedelta(hours=1), 3_000_000, "coupon"),
        (march, 2_000_000, "topup"),
        (march + timedelta(hours=1), 7, "credit"),
    )
    page = mine.get("/ledger?month=2026-03").text
    assert "Statement of March 2026" in page
    for words in ("$1.00", "$6.00", "+$2.00", "+$3.00", "Top-up", "Coupon", "alice@example.com"):
        assert words in page, words
    assert "$0.000007" not in page
    assert '<option value="2026-03" selected>March 2026' in page
    assert 'href="/ledger.csv?month=2026-03"' in page
    april = mine.get("/ledger?month=2026-04").text
    assert ("$6.00<" in april, "$6.000007" in april) == (True, True)
    rows = list(csv.reader(io.StringIO(mine.get("/ledger.csv?month=2026-03").text)))
    assert len(rows) == 3
    assert "Nothing moved" in stranger.get("/ledger?month=2026-03").text
    for wrong in ("2026-13", "x", "2026-3", "0000-01"):
        assert mine.get(f"/ledger?month={wrong}").status_code == 400
        assert mine.get(f"/ledger.csv?month={wrong}").status_code == 400


def test_a_long_month_is_cut_and_its_totals_are_not(
    mine: Visit, ctx: Context, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LINES", 3)
    monkeypatch.setattr(statement, "PAGE", 2)
    fill(ctx, owner, *[(datetime(2026, 3, day, tzinfo=UTC), 1_000_000, "topup") for day in range(1, 4)])
    page = mine.get("/ledger?month=2026-03").text
    assert ("are shown" in page, page.count('data-label="After it"')) == (False, 3)
    with ctx.db.tx() as db:
        wallet = ledger.open_account(db, "wallet", owner.account.id, 0, now=ctx.clock.now())
        for number in range(2):
            at = datetime(2026, 3, 9, tzinfo=UTC)
            ledger.debit(
                db, key=f"d{number}", ledger_account_id=wallet, amount_micros=250_000, now=at, kind="usage", to="usage"
            )
    page = mine.get("/ledger?month=2026-03").text
    assert "The first 3 are shown" in page
    assert page.count('data-label="After it"') == 3
    for words in ("$2.50", "+$3.00", "-$0.50"):
        assert words in page, words


def test_months_go_back_to_the_first_one() -> None:
    now, since = datetime(2026, 2, 3, 4, tzinfo=UTC), datetime(2025, 11, 30, tzinfo=UTC)
    assert [f"{one:%Y-%m-%d}" for one in pages.months_until(now, since)] == [
        "2026-02-01",
        "2026-01-01",
        "2025-12-01",
        "2025-11-01",
    ]
    assert pages.months_until(now, now) == [datetime(2026, 2, 1, tzinfo=UTC)]
