"""Rules that a syntax tree can see."""

from __future__ import annotations

import ast

import sqlalchemy as sa

from clawhaven.core.db import Base, UtcDateTime
from tests.house.source import PACKAGE, door_files, python_files, short, tree

PUBLIC_READS = {
    "clawhaven/api/status.py": "progress is shown to anybody who holds the unguessable id; the rest checks the owner",
    "clawhaven/web/deploying.py": "the same page for people",
}
SPEAKS = ("clawhaven/cli/", "clawhaven/providers/notifiers/console.py", "clawhaven/providers/runtimes/keeper.py")
"""Where printing is the point: the command line, mail for the terminal, and a program of its own with no log."""

TIME_NAMES = {"at", "unhealthy_since"}
ROOMS = ("accounts", "billing", "instances", "integrations", "ledger", "metering", "notices")


def test_doors_catch_only_what_they_expect() -> None:
    wrong = [
        f"{short(path)}:{node.lineno}"
        for path in door_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and _catches_everything(node)
    ]
    assert not wrong, "a door never writes `except Exception`: one renderer handles what nobody expected"


def test_doors_reach_owned_rows_through_the_ownership_check() -> None:
    owned = {mapper.class_.__name__ for mapper in Base.registry.mappers if "account_id" in mapper.columns}
    assert {"Instance", "Checkout"} <= owned
    wrong = [
        f"{short(path)}:{node.lineno}"
        for path in door_files()
        if short(path) not in PUBLIC_READS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("get", "get_one")
        and node.args
        and isinstance(node.args[0], ast.Name)
        and node.args[0].id in owned
    ]
    assert not wrong, "use accounts.ownership.owned: a stranger must see 404"


def test_library_code_does_not_print() -> None:
    wrong = [
        f"{short(path)}:{node.lineno}"
        for path in python_files("clawhaven")
        if not short(path).startswith(SPEAKS)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong, "log instead"


def test_rooms_never_commit() -> None:
    wrong = [
        f"{short(path)}:{node.lineno}"
        for path in python_files(*(f"clawhaven/{room}" for room in ROOMS))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("commit", "rollback")
    ]
    assert not wrong, "a transaction belongs to the door or step that opened it"


def test_columns_are_named_by_what_they_hold() -> None:
    wrong = []
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            name = column.name
            if isinstance(column.type, sa.Boolean) and not name.startswith(("is_", "has_")):
                wrong.append(f"{table.name}.{name}: is_ or has_")
            if isinstance(column.type, UtcDateTime) and not name.endswith("_at") and name not in TIME_NAMES:
                wrong.append(f"{table.name}.{name}: _at")
            if name.endswith("_micros") and not isinstance(column.type, sa.Integer):
                wrong.append(f"{table.name}.{name}: money is an integer")
            if isinstance(column.type, sa.Numeric) and not isinstance(column.type, sa.Float):
                wrong.append(f"{table.name}.{name}: no decimals")
    assert not wrong


def test_every_module_with_a_public_function_says_what_it_does() -> None:
    wrong = [
        f"{short(path)}: {node.name}"
        for path in python_files("clawhaven")
        if "migrations" not in path.parts
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not wrong


def test_the_tree_was_looked_at() -> None:
    assert len(door_files()) > 20
    assert PACKAGE / "worker.py" in door_files()


def _catches_everything(node: ast.ExceptHandler) -> bool:
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")) for kind in kinds
    )
