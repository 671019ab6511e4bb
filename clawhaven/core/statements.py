"""Statements for paths that run thousands of times a second: compiled once, then given to the driver as they are.

What SQLAlchemy adds to each execution costs more there than the database itself (measured: 150 µs against 10). The
statements are the same Core expressions as everywhere else, and so are the types of their values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

_LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Many:
    """One INSERT, UPDATE or DELETE for many rows. The rows' keys are the statement's bound parameters."""

    def __init__(self, *statements: Any, by_dialect: Mapping[str, Any] | None = None) -> None:
        """One statement for both databases, or one for each by the name of its dialect."""
        self._statement = statements[0] if statements else None
        self._by_dialect = by_dialect or {}
        self._ready: dict[str, _Compiled] = {}

    def run(self, db: Session, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run it for every row; returns how many rows of the table were touched by all of them."""
        if not rows:
            return 0
        connection = db.connection()
        compiled = self._ready.get(connection.dialect.name)
        if compiled is None:
            statement = self._by_dialect.get(connection.dialect.name, self._statement)
            compiled = self._ready[connection.dialect.name] = _Compiled(statement, connection.dialect, tuple(rows[0]))
        cursor = _cursor(connection)
        try:
            cursor.executemany(compiled.text, [compiled.values(row) for row in rows])
            return int(cursor.rowcount)
        finally:
            cursor.close()


class Lookup:
    """One SELECT of the rows whose key is in a list. `make` gets the bound keys and returns the statement.

    The list is filled up to a length of which there are few, so that few texts are prepared.
    """

    def __init__(self, make: Callable[[list[Any]], sa.Select[Any]]) -> None:
        self._make = make
        self._ready: dict[tuple[str, int], _Compiled] = {}

    def fetch(self, db: Session, keys: Collection[str], **values: Any) -> list[tuple[Any, ...]]:
        """The rows of these keys; `values` are the statement's other bound parameters."""
        found: list[tuple[Any, ...]] = []
        ordered = sorted(keys)
        for start in range(0, len(ordered), _LENGTHS[-1]):
            found += self._fetch(db, ordered[start : start + _LENGTHS[-1]], values)
        return found

    def _fetch(self, db: Session, keys: list[str], values: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
        connection = db.connection()
        length = next(one for one in _LENGTHS if one >= len(keys))
        known = (connection.dialect.name, length)
        compiled = self._ready.get(known)
        if compiled is None:
            names = [f"key_{number}" for number in range(length)]
            statement = self._make([sa.bindparam(name, type_=sa.String()) for name in names])
            compiled = self._ready[known] = _Compiled(statement, connection.dialect, None)
        filled = keys + keys[-1:] * (length - len(keys))
        given = {**{f"key_{number}": key for number, key in enumerate(filled)}, **values}
        cursor = _cursor(connection)
        try:
            cursor.execute(compiled.text, compiled.values(given))
            return compiled.results(cursor.fetchall())
        finally:
            cursor.close()


class _Compiled:
    """The text for the driver, and how values go in and come out."""

    def __init__(self, statement: Any, dialect: sa.Dialect, columns: tuple[str, ...] | None) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(columns) if columns is not None else None)
        self.text = str(compiled)
        self._is_positional = bool(compiled.positional)
        self._names = list(compiled.positiontup or ()) if self._is_positional else list(compiled.bind_names.values())
        ins: Mapping[str, Any] = compiled._bind_processors
        fixed = {name: bind.value for bind, name in compiled.bind_names.items() if not bind.required}
        self._plan = [(name, ins.get(name), name in fixed, fixed.get(name)) for name in self._names]
        self._outs: list[tuple[int, Callable[[Any], Any]]] = []
        if isinstance(statement, sa.Select):
            for place, column in enumerate(statement.selected_columns):
                turn = column.type.dialect_impl(dialect).result_processor(dialect, None)
                if turn is not None:
                    self._outs.append((place, turn))

    def values(self, given: Mapping[str, Any]) -> Any:
        """The driver's parameters."""
        made = [
            (given.get(name, default) if has_default else given[name])
            if turn is None
            else turn(given.get(name, default) if has_default else given[name])
            for name, turn, has_default, default in self._plan
        ]
        return made if self._is_positional else dict(zip(self._names, made, strict=True))

    def results(self, rows: list[Any]) -> Iterable[tuple[Any, ...]]:
        """The rows as SQLAlchemy would give them."""
        if not self._outs:
            return rows
        turned = []
        for row in rows:
            values = list(row)
            for place, turn in self._outs:
                values[place] = turn(values[place])
            turned.append(tuple(values))
        return turned


def _cursor(connection: sa.Connection) -> Any:
    return connection.connection.cursor()
