"""Many customers from one: copies of everything that belongs to an account or an assistant, under ids of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.db import Base

_BATCH = 5000
_OTHERS = ("account_view",)
"""What is not the customer's: an operator looks at one account at a time."""

_KINDS = ("kind", "provider", "model", "source", "channel", "currency", "day", "limit")
"""Columns that are one of several in a key, and say what something is."""


def copy_everything(db: Session, roots: set[str], times: int, label: str = "c") -> int:
    """Add `times` copies of all rows that hang on those with these ids, directly or not; how many rows.

    Ids, and whatever must be unique, get the label and the copy's number at their end; all else is the same. Foreign
    keys and the books stay whole: the operator's side of an entry is copied with the entry.
    """
    found = _find(db, roots)
    ids = {str(value) for table, rows in found.items() for row in rows for value in _keys(table, row)}
    added = 0
    for table, rows in found.items():
        batch: list[dict[str, Any]] = []
        for number in range(1, times + 1):
            batch += [_copied(table, row, ids, f"~{label}{number}") for row in rows]
            if len(batch) >= _BATCH or number == times:
                db.execute(table.insert(), batch)
                added += len(batch)
                batch = []
    return added


def _find(db: Session, roots: set[str]) -> dict[sa.Table, list[Mapping[str, Any]]]:
    """The rows that hang on them, parents first."""
    tables = [table for table in Base.metadata.sorted_tables if table.name not in _OTHERS]
    content = {table: [row._mapping for row in db.execute(table.select())] for table in tables}
    ids, found = set(roots), dict[sa.Table, dict[int, Mapping[str, Any]]]({table: {} for table in content})
    is_growing = True
    while is_growing:
        is_growing = False
        for table, rows in content.items():
            for place, row in enumerate(rows):
                if place in found[table] or not any(value in ids for value in _texts(row)):
                    continue
                found[table][place] = row
                ids |= set(_keys(table, row))
                is_growing = True
    return {table: list(rows.values()) for table, rows in found.items() if rows}


def _texts(row: Mapping[str, Any]) -> Iterator[str]:
    return (value for value in row.values() if isinstance(value, str))


def _keys(table: sa.Table, row: Mapping[str, Any]) -> Iterator[str]:
    """Its own id, when the table has one column for that; a pair of others' ids is nobody's name."""
    columns = list(table.primary_key)
    if len(columns) == 1 and isinstance(row[columns[0].name], str):
        yield row[columns[0].name]


def _copied(table: sa.Table, row: Mapping[str, Any], ids: set[str], suffix: str) -> dict[str, Any]:
    unique = {column.name for column in table.columns if column.unique}
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint | sa.PrimaryKeyConstraint):
            unique |= {column.name for column in constraint.columns}
    unique |= {column.name for index in table.indexes if index.unique for column in index.columns}
    copied = dict[str, Any]()
    for name, value in row.items():
        column = table.c[name]
        if column is table.autoincrement_column:
            continue  # counted by the database
        if isinstance(value, str) and value in ids:
            value = f"{value}{suffix}"
        elif isinstance(value, str) and name in unique and name not in _KINDS and not column.foreign_keys:
            mark = hashlib.sha256(f"{value}{suffix}".encode()).hexdigest()[:12]
            value = f"{value[: (getattr(column.type, 'length', None) or 1000) - 13]}~{mark}"
        copied[name] = value
    return copied
