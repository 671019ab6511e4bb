"""Statements: a month that adds up, and a CSV that any spreadsheet reads and none runs."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from clawhaven import ledger
from clawhaven.core.db import Database
from clawhaven.core.errors import Invalid
from clawhaven.ledger import statement

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def fill(db: Database, movements: list[tuple[datetime, int, str, str]]) -> str:
    """A wallet with these movements (time, amount, kind, note)."""
    with db.tx() as tx:
        wallet = ledger.open_account(tx, "wallet", "acc_reader", None, now=NOVEMBER)
        other = ledger.platform_account(tx, "payments", now=NOVEMBER)
        for number, (at, amount, kind, note) in enumerate(movements):
            postings = [ledger.Posting(wallet, amount), ledger.Posting(other, -amount)]
            ledger.post(tx, key=f"m{number}", kind=kind, postings=postings, now=at, note=note, ref=f"ref{number}")
    return wallet


def test_a_month_opens_where_the_last_one_closed(db: Database) -> None:
    before, first = NOVEMBER - timedelta(microseconds=1), NOVEMBER
    last, after = datetime(2026, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    wallet = fill(
        db,
        [
            (before, 5_000_000, "topup", ""),
            (first, -675, "usage", ""),
            # Booked late: its id is above the next month's first.
            (after, 2_000_000, "topup", ""),
            (last, -1_000_000, "usage", ""),
            (last, 10_000_000, "included_credit", ""),
        ],
    )
    with db.read() as tx:
        october, november, december = (
            statement.monthly(tx, wallet, month) for month in ("2026-10", "2026-11", "2026-12")
        )
        assert ledger.balance(tx, wallet).balance_micros == december.closing_micros
    assert (october.opening_micros, october.closing_micros) == (0, 5_000_000)
    assert (november.opening_micros, november.closing_micros) == (5_000_000, 13_999_325)
    assert [line.balance_micros for line in november.lines] == [4_999_325, 3_999_325, 13_999_325]
    assert november.sums == {"usage": -1_000_675, "included_credit": 10_000_000}
    assert (december.opening_micros, len(december.lines)) == (13_999_325, 1)


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "11-2026", "2026-11-01", "", "9999-12", "2026-1x", "٢٠٢٦-11"])
def test_a_month_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        statement.month_of(text)
    assert refused.value.details["field"] == "month"


def test_the_export_is_whole_in_order_and_in_pieces(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement, "PAGE", 3)
    movements = [(NOVEMBER + timedelta(hours=n), 1_000_001 if n % 2 else -999_999, "usage", f"n{n}") for n in range(8)]
    wallet = fill(db, movements)
    pieces = list(statement.export_csv(db, wallet))
    assert len(pieces) == 4
    text = "".join(pieces)
    assert text.count("\r\n") == 9
    assert "\n" not in text.replace("\r\n", "")
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert tuple(header) == statement.COLUMNS
    assert [row[2] for row in rows] == [f"n{n}" for n in range(8)]
    running = Decimal(0)
    for row in rows:
        running += Decimal(row[4])
        assert Decimal(row[5]) == running
    assert rows[0][:2] == ["2026-11-01 00:00:00", "usage"]


def test_a_part_of_the_export_goes_on_from_the_balance_before(db: Database) -> None:
    wallet = fill(db, [(NOVEMBER + timedelta(days=n), 1_000_000, "topup", "") for n in range(5)])
    since, until = NOVEMBER + timedelta(days=2), NOVEMBER + timedelta(days=4)
    _, *rows = csv.reader(io.StringIO("".join(statement.export_csv(db, wallet, since, until)), newline=""))
    assert [row[5] for row in rows] == ["3.00", "4.00"]


@pytest.mark.parametrize("note", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_text_is_a_formula(db: Database, note: str) -> None:
    wallet = fill(db, [(NOVEMBER, -5, "usage", note)])
    _, row = csv.reader(io.StringIO("".join(statement.export_csv(db, wallet)), newline=""))
    assert row[2] == f"'{note}"
    assert row[4] == "-0.000005", "amounts stay numbers"


def test_quotes_commas_and_lines_survive(db: Database) -> None:
    note = 'He said "hi", then\r\nleft; ünïcode'
    wallet = fill(db, [(NOVEMBER, 5, "credit", note)])
    _, row = csv.reader(io.StringIO("".join(statement.export_csv(db, wallet)), newline=""))
    assert row[2] == note


def test_an_empty_account_has_a_header_and_an_empty_month(db: Database) -> None:
    wallet = fill(db, [])
    assert len(list(statement.export_csv(db, wallet))) == 1
    with db.read() as tx:
        month = statement.monthly(tx, wallet, "2026-11")
    assert (month.opening_micros, month.closing_micros, month.lines) == (0, 0, [])


def test_a_month_that_is_cut_still_sums_everything(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement, "PAGE", 2)
    movements = [(NOVEMBER + timedelta(hours=n), 1_000_000, "topup", "") for n in range(4)]
    wallet = fill(db, [*movements, (NOVEMBER + timedelta(days=1), -250_000, "usage", "")])
    with db.read() as tx:
        whole, cut = statement.monthly(tx, wallet, "2026-11"), statement.monthly(tx, wallet, "2026-11", 3)
        just = statement.monthly(tx, wallet, "2026-11", 5)
    assert (len(cut.lines), cut.is_cut, whole.is_cut, just.is_cut) == (3, True, False, False)
    assert cut.sums == whole.sums == {"topup": 4_000_000, "usage": -250_000}
    assert (cut.opening_micros, cut.closing_micros) == (whole.opening_micros, whole.closing_micros) == (0, 3_750_000)
    assert just.lines == whole.lines
