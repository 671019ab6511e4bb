"""A customer's statement of one account: a month with opening and closing balance, or everything as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.errors import Invalid
from clawhaven.core.money import MICROS_PER_DOLLAR
from clawhaven.ledger.balance import sum_moved
from clawhaven.ledger.models import LedgerEntry, LedgerPosting

PAGE = 500
COLUMNS = ("Date (UTC)", "Kind", "Description", "Reference", "Amount (USD)", "Balance (USD)", "Entry")
_RISKY = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins with one of these for a formula
(https://owasp.org/www-community/attacks/CSV_Injection)."""


class Readable(Protocol):
    """What a long export reads from: one short transaction per page."""

    def read(self) -> AbstractContextManager[Session]:
        """A transaction that only reads."""


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One movement, oldest first. `balance_micros` is the opening balance and everything up to this line."""

    id: int
    entry_id: str
    kind: str
    ref: str
    note: str
    amount_micros: int
    balance_micros: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Statement:
    """One calendar month in UTC of one account: opening balance, every line, closing balance, in micro-dollars."""

    month: str
    since: datetime
    until: datetime
    opening_micros: int
    closing_micros: int
    sums: dict[str, int]
    """Kind of movement -> its sum."""
    lines: list[StatementLine]
    is_cut: bool = False
    """There are more lines than were asked for; balances and sums are those of all."""


def month_of(text: str) -> tuple[datetime, datetime]:
    """`2026-11` as its first moment and that of the next month, UTC. Raises Invalid."""
    try:
        if len(text) != 7 or not text.isascii():
            raise ValueError
        since = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
        until = since.replace(year=since.year + since.month // 12, month=since.month % 12 + 1)
    except ValueError:
        raise Invalid("A month is written as in 2026-11.", field="month", reason="not a month") from None
    return since, until


def monthly(db: Session, ledger_account_id: str, month: str, most: int | None = None) -> Statement:
    """The statement of a month (`2026-11`), at most so many lines. A month's closing balance is the next one's opening.

    Raises Invalid.
    """
    since, until = month_of(month)
    opening = balance = sum_moved(db, ledger_account_id, until=since)
    lines: list[StatementLine] = []
    if most is not None:
        lines = _page(db, ledger_account_id, since, until, 0, opening, most + 1)
        sums = _sums(db, ledger_account_id, since, until)
        closing = opening + sum(sums.values())
        return Statement(month, since, until, opening, closing, sums, lines[:most], is_cut=len(lines) > most)
    while page := _page(db, ledger_account_id, since, until, lines[-1].id if lines else 0, balance):
        lines += page
        balance = page[-1].balance_micros
    sums = {}
    for line in lines:
        sums[line.kind] = sums.get(line.kind, 0) + line.amount_micros
    return Statement(month, since, until, opening, balance, sums, lines)


def export_csv(
    database: Readable, ledger_account_id: str, since: datetime | None = None, until: datetime | None = None
) -> Iterator[str]:
    """Every movement of a period (default: all), oldest first, with the running balance, in pieces of a page.

    RFC 4180: commas, CRLF, quotes where needed. Amounts are plain decimals in US dollars; text that a spreadsheet
    would run as a formula gets an apostrophe in front.
    """
    yield _rows([COLUMNS])
    with database.read() as db:
        balance = sum_moved(db, ledger_account_id, until=since) if since is not None else 0
    last = 0
    while True:
        with database.read() as db:
            page = _page(db, ledger_account_id, since, until, last, balance)
        if not page:
            return
        last, balance = page[-1].id, page[-1].balance_micros
        yield _rows([_cells(line) for line in page])


def plain_usd(micros: int) -> str:
    """`-0.000675`, `29.00`: a decimal that a spreadsheet reads as a number."""
    sign = "-" if micros < 0 else ""
    dollars, rest = divmod(abs(micros), MICROS_PER_DOLLAR)
    return f"{sign}{dollars}.{f'{rest:06d}'.rstrip('0').ljust(2, '0')}"


def neutral(text: str) -> str:
    """Text for a cell that no spreadsheet runs."""
    return f"'{text}" if text.startswith(_RISKY) else text


def _page(
    db: Session,
    account_id: str,
    since: datetime | None,
    until: datetime | None,
    after: int,
    balance: int,
    limit: int | None = None,
) -> list[StatementLine]:
    query = (
        sa.select(
            LedgerPosting.id,
            LedgerEntry.id.label("entry_id"),
            LedgerEntry.kind,
            LedgerEntry.ref,
            LedgerEntry.note,
            LedgerPosting.amount_micros,
            LedgerEntry.created_at,
        )
        .join(LedgerEntry, LedgerEntry.id == LedgerPosting.entry_id)
        .where(LedgerPosting.ledger_account_id == account_id, LedgerPosting.id > after)
        .order_by(LedgerPosting.id)
        .limit(limit or PAGE)
    )
    if since is not None:
        query = query.where(LedgerEntry.created_at >= since)
    if until is not None:
        query = query.where(LedgerEntry.created_at < until)
    lines = []
    for row in db.execute(query).mappings():
        balance += int(row["amount_micros"])
        lines.append(StatementLine(**row, balance_micros=balance))
    return lines


def _sums(db: Session, account_id: str, since: datetime, until: datetime) -> dict[str, int]:
    query = (
        sa.select(LedgerEntry.kind, sa.func.sum(LedgerPosting.amount_micros))
        .join(LedgerPosting, LedgerPosting.entry_id == LedgerEntry.id)
        .where(
            LedgerPosting.ledger_account_id == account_id,
            LedgerEntry.created_at >= since,
            LedgerEntry.created_at < until,
        )
        .group_by(LedgerEntry.kind)
        .order_by(LedgerEntry.kind)
    )
    return {kind: int(amount) for kind, amount in db.execute(query)}


def _cells(line: StatementLine) -> tuple[str, ...]:
    return (
        line.created_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        neutral(line.kind),
        neutral(line.note),
        neutral(line.ref),
        plain_usd(line.amount_micros),
        plain_usd(line.balance_micros),
        line.entry_id,
    )


def _rows(rows: list[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()
