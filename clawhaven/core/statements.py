"""Statements for paths that run thousands of times a second: compiled once, then given to the driver as they are.

What SQLAlchemy adds to an execution costs more there than the database itself (measured: 150 µs against 10). SQLite
takes many rows one by one in a prepared statement, PostgreSQL takes them as one JSON value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from clawhaven.core.db import DRIVER

_LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_ROWS, _KEYS = "the_rows", "the_keys"


class Many(ABC):
    """One statement for many rows, each a mapping of all of the statement's names to values."""

    def __init__(self) -> None:
        self._ready: dict[str, _Compiled] = {}

    def run(self, db: Session, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run it for every row; returns how many rows of the table were touched by all of them."""
        if not rows:
            return 0
        dialect, connection = _driver(db)
        compiled = self._ready.get(dialect.name)
        if compiled is None:
            names = tuple(rows[0])
            statement = self._for_json(names) if dialect.name == "postgresql" else self._for_each(names)
            compiled = self._ready[dialect.name] = _Compiled(statement, dialect, names)
        cursor = connection.cursor()
        try:
            if dialect.name == "postgresql":
                cursor.execute(compiled.text, {_ROWS: msgspec.json.encode(rows).decode()})
            else:
                cursor.executemany(compiled.text, compiled.values_of(rows))
            return int(cursor.rowcount)
        except dialect.loaded_dbapi.Error as error:
            raise _as_usual(error, dialect, connection, compiled.text) from error
        finally:
            cursor.close()

    @abstractmethod
    def _for_each(self, names: Sequence[str]) -> Any:
        """The statement for one row, whose bound parameters are its names."""

    @abstractmethod
    def _for_json(self, names: Sequence[str]) -> Any:
        """The statement for all rows in one parameter."""


class InsertMany(Many):
    """Insert rows of a table's columns. With `adds`, a row whose `key` exists has these columns added to it."""

    def __init__(self, table: sa.Table, *, key: Sequence[str] = (), adds: Sequence[str] = ()) -> None:
        super().__init__()
        self._table, self._key, self._adds = table, key, adds

    def _for_each(self, names: Sequence[str]) -> Any:
        return self._adding(sqlite.insert(self._table).values({name: sa.bindparam(name) for name in names}))

    def _for_json(self, names: Sequence[str]) -> Any:
        given = _recordset({name: self._table.c[name] for name in names})
        read = sa.select(*(given.c[name] for name in names))
        return self._adding(postgresql.insert(self._table).from_select(list(names), read, include_defaults=False))

    def _adding(self, statement: Any) -> Any:
        if not self._adds:
            return statement
        added = {name: self._table.c[name] + statement.excluded[name] for name in self._adds}
        return statement.on_conflict_do_update(index_elements=list(self._key), set_=added)


class UpdateMany(Many):
    """Set columns (`values`) of rows whose columns (`where`) have given values. Both: column -> name in the rows."""

    def __init__(self, table: sa.Table, *, where: Mapping[str, str], values: Mapping[str, str]) -> None:
        super().__init__()
        self._table, self._where, self._values = table, where, values

    def _for_each(self, names: Sequence[str]) -> Any:
        return self._statement({name: sa.bindparam(name, type_=self._column(name).type) for name in names})

    def _for_json(self, names: Sequence[str]) -> Any:
        given = _recordset({name: self._column(name) for name in names})
        return self._statement({name: given.c[name] for name in names})

    def _statement(self, given: Mapping[str, Any]) -> Any:
        table = self._table
        found = [table.c[column] == given[name] for column, name in self._where.items()]
        return sa.update(table).where(*found).values({column: given[name] for column, name in self._values.items()})

    def _column(self, name: str) -> sa.Column[Any]:
        of = {given: column for column, given in [*self._where.items(), *self._values.items()]}
        return self._table.c[of[name]]


class Lookup:
    """One SELECT of the rows whose `column`, or the other one (`also`), is one of given keys."""

    def __init__(
        self, column: sa.ColumnElement[Any], select: sa.Select[Any], *, also: sa.ColumnElement[Any] | None = None
    ) -> None:
        self._columns = [column] if also is None else [column, also]
        self._select = select
        self._ready: dict[tuple[str, int], _Compiled] = {}

    def fetch(self, db: Session, keys: Collection[str], **values: Any) -> list[tuple[Any, ...]]:
        """The rows of these keys; `values` are the statement's other bound parameters."""
        if not keys:
            return []
        dialect, connection = _driver(db)
        if dialect.name == "postgresql":
            return list(self._run(dialect, connection, 0, {_KEYS: sorted(keys), **values}))
        # The list is filled up to one of a few lengths, so that few texts are prepared.
        found: list[tuple[Any, ...]] = []
        ordered = sorted(keys)
        for start in range(0, len(ordered), _LENGTHS[-1]):
            some = ordered[start : start + _LENGTHS[-1]]
            length = next(one for one in _LENGTHS if one >= len(some))
            some += some[-1:] * (length - len(some))
            named = {f"key_{number}": key for number, key in enumerate(some)}
            found += self._run(dialect, connection, length, {**named, **values})
        return found

    def _run(
        self, dialect: sa.Dialect, connection: Any, length: int, given: Mapping[str, Any]
    ) -> Iterable[tuple[Any, ...]]:
        compiled = self._ready.get((dialect.name, length))
        if compiled is None:
            if length:
                binds = [sa.bindparam(f"key_{number}", type_=sa.String()) for number in range(length)]
                tests: list[Any] = [column.in_(binds) for column in self._columns]
            else:
                keys = sa.bindparam(_KEYS, type_=sa.ARRAY(sa.String()))
                tests = [column == sa.any_(keys) for column in self._columns]
            wanted = self._select.where(sa.or_(*tests))
            compiled = self._ready[dialect.name, length] = _Compiled(wanted, dialect, None)
        cursor = connection.cursor()
        try:
            cursor.execute(compiled.text, compiled.values(given))
            return compiled.results(cursor.fetchall())
        except dialect.loaded_dbapi.Error as error:
            raise _as_usual(error, dialect, connection, compiled.text) from error
        finally:
            cursor.close()


class _Compiled:
    """The text for the driver, and how values go in and come out."""

    def __init__(self, statement: Any, dialect: sa.Dialect, columns: tuple[str, ...] | None) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(columns) if columns is not None else None)
        self.text = str(compiled)
        self._is_positional = bool(compiled.positional)
        self._names = list(compiled.positiontup or ()) if self._is_positional else list(compiled.bind_names.values())
        ins: Mapping[str, Callable[[Any], Any]] = compiled._bind_processors
        is_sqlite = dialect.name == "sqlite"
        kinds = {name: bind.type for bind, name in compiled.bind_names.items()}
        # SQLite takes truth values for the numbers they are.
        plain = {name for name, kind in kinds.items() if is_sqlite and isinstance(kind, sa.Boolean)}
        self._plan = [(name, None if name in plain else ins.get(name)) for name in self._names]
        self._turned = [(place, turn) for place, (_, turn) in enumerate(self._plan) if turn is not None]
        self._take = itemgetter(*self._names) if len(self._names) > 1 else None
        self._outs: list[tuple[int, Callable[[Any], Any]]] = []
        if isinstance(statement, sa.Select):
            for place, column in enumerate(statement.selected_columns):
                turn = column.type.dialect_impl(dialect).result_processor(dialect, None)
                if turn is not None:
                    self._outs.append((place, turn))

    def values(self, given: Mapping[str, Any]) -> Any:
        """The driver's parameters."""
        made = [given[name] if turn is None else turn(given[name]) for name, turn in self._plan]
        return made if self._is_positional else dict(zip(self._names, made, strict=True))

    def values_of(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """The same for many rows. Those of one transaction have few different times, each of which is turned once."""
        if self._take is None:
            return [self.values(row) for row in rows]
        if not self._turned:
            return [self._take(row) for row in rows]
        known: dict[datetime, Any] = {}
        made = []
        for row in rows:
            values = list(self._take(row))
            for place, turn in self._turned:
                value = values[place]
                if not isinstance(value, datetime):
                    values[place] = turn(value)
                elif value in known:
                    values[place] = known[value]
                else:
                    values[place] = known[value] = turn(value)
            made.append(values)
        return made

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


def _recordset(columns: Mapping[str, sa.Column[Any]]) -> Any:
    """The rows of a JSON array as a table (PostgreSQL: json_to_recordset)."""
    typed = [sa.column(name, column.type) for name, column in columns.items()]
    rows = sa.cast(sa.bindparam(_ROWS, type_=sa.Text()), sa.JSON())
    return sa.func.json_to_recordset(rows).table_valued(*typed).render_derived(name="given", with_types=True)


def _as_usual(error: Exception, dialect: sa.Dialect, connection: Any, text: str) -> Exception:
    """A driver's error as SQLAlchemy raises it everywhere else."""
    driver = dialect.loaded_dbapi
    is_lost = dialect.is_disconnect(error, connection, None)  # type: ignore[arg-type]
    return DBAPIError.instance(text, None, error, driver.Error, connection_invalidated=is_lost, dialect=dialect)


def _driver(db: Session) -> tuple[sa.Dialect, Any]:
    """The dialect and the driver's connection of this transaction; asking the session each time costs 10 µs."""
    known: tuple[Any, sa.Dialect, Any] | None = db.info.get(DRIVER)
    if known is not None and (known[0] is None or known[0] is db.get_transaction()):
        return known[1], known[2]
    connection = db.connection()
    found = connection.dialect, connection.connection.dbapi_connection
    db.info[DRIVER] = (db.get_transaction(), *found)
    return found
