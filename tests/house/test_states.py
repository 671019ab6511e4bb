"""State machines: every pair of states on a real row, and no other writer."""

from __future__ import annotations

import ast
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.core.db import Database
from clawhaven.core.errors import IllegalMove
from clawhaven.core.states import Machine
from docs.generate import machines
from tests.house.source import PACKAGE, python_files, short, tree

MACHINES = {machine.name: machine for machine, _ in machines()}
WRITERS = {
    "clawhaven/core/states.py": "the guarded move itself",
    "clawhaven/ledger/reservations.py": "the sweep moves all overdue holds in one statement that names their state",
}

_number = itertools.count(1)


def make_row(db: Session, table: Any, **given: Any) -> Any:
    """A row with something in every column that needs it, its parents first; returns its first key."""
    values = dict(given)
    for column in table.columns:
        if column.name in values or column.nullable or column.default is not None or column.server_default is not None:
            continue
        if column.primary_key and column.autoincrement is True:
            continue
        if column.foreign_keys:
            (reference,) = column.foreign_keys
            values[column.name] = make_row(db, reference.column.table)
        else:
            values[column.name] = _something(column.type)
    db.execute(sa.insert(table).values(**values))
    return values[next(iter(table.primary_key)).name]


def _something(kind: sa.types.TypeEngine[Any]) -> Any:
    number = next(_number)
    if isinstance(kind, sa.types.TypeDecorator):
        return datetime(2026, 1, 1, tzinfo=UTC)
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, sa.Integer | sa.Float):
        return number
    if isinstance(kind, sa.LargeBinary):
        return b"x"
    if isinstance(kind, sa.JSON):
        return {}
    assert isinstance(kind, sa.String)
    return f"x{number}"[: kind.length or 20]


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_every_pair_of_states(db: Database, name: str) -> None:
    machine: Machine[Any] = MACHINES[name]
    column = getattr(machine.model, machine.column)
    for source, target in itertools.product(machine.moves, repeat=2):
        with db.tx() as session:
            row_id = make_row(session, machine.model.__table__, **{machine.column: str(source)})
        with db.tx() as session:
            if target in machine.moves[source]:
                assert machine.move(session, row_id, target) is True, (source, target)
            elif target == source:
                assert machine.move(session, row_id, target) is False, (source, target)
            else:
                with pytest.raises(IllegalMove):
                    machine.move(session, row_id, target)
        with db.read() as session:
            left_in = session.execute(sa.select(column).where(machine.model.id == row_id)).scalar_one()
        expected = target if target in machine.moves[source] else source
        assert left_in == expected, (source, target)


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_every_state_has_its_line(name: str) -> None:
    machine: Machine[Any] = MACHINES[name]
    kind: Any = type(next(iter(machine.moves)))
    assert set(machine.moves) == set(kind)
    assert {target for targets in machine.moves.values() for target in targets} <= set(kind)


def test_a_row_that_is_gone_cannot_move(db: Database) -> None:
    machine: Machine[Any] = MACHINES["assistant"]
    with db.tx() as session, pytest.raises(IllegalMove):
        machine.move(session, "ins_gone", next(iter(machine.moves)))


def test_nobody_assigns_a_state() -> None:
    wrong = []
    for path in python_files("clawhaven"):
        for node in ast.walk(tree(path)):
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets = [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else targets
            flat = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
            if any(isinstance(part, ast.Attribute) and part.attr == "state" and not _is_self(part) for part in flat):
                wrong.append(f"{short(path)}: {ast.unparse(node)}")
    assert not wrong, "use the machine's move"


def test_nobody_updates_a_guarded_column_past_its_machine() -> None:
    guarded = {machine.model.__name__ for machine in MACHINES.values()}
    wrong = [
        f"{short(path)}:{node.lineno}"
        for path in python_files("clawhaven")
        if short(path) not in WRITERS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and _sets_state(node) and _updated(node) & guarded
    ]
    assert not wrong, "use the machine's move"
    assert all((PACKAGE.parent / path).exists() for path in WRITERS)


def _is_self(part: ast.Attribute) -> bool:
    """`self.state` of an object that is no row."""
    return isinstance(part.value, ast.Name) and part.value.id == "self"


def _sets_state(call: ast.Call) -> bool:
    is_values = isinstance(call.func, ast.Attribute) and call.func.attr == "values"
    return is_values and any(keyword.arg == "state" for keyword in call.keywords)


def _updated(call: ast.Call) -> set[str]:
    """Names of the models in `update(Model).where(…).values(…)`."""
    return {
        argument.id
        for node in ast.walk(call.func)
        if isinstance(node, ast.Call) and _name(node.func) == "update"
        for argument in node.args
        if isinstance(argument, ast.Name)
    }


def _name(function: ast.expr) -> str:
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )
