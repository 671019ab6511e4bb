"""What the reference reads from source text rather than from imported objects: workflows, steps, error codes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "clawhaven"


@dataclass(frozen=True)
class Step:
    """A step by its stored name."""

    name: str
    summary: str


@dataclass(frozen=True)
class Workflow:
    """A workflow by its stored name, with the steps its body calls, in order."""

    name: str
    summary: str
    module: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class SpecialError:
    """An error raised with a code of its own."""

    code: str
    kind: str
    sentence: str
    module: str


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package with its dotted name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text())


def workflows() -> list[Workflow]:
    """Every function decorated with `@workflow(name)`, by name."""
    found = []
    for module, tree in trees():
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        steps = {node.name: Step(name, _summary(node)) for node in functions if (name := _decorated(node, "step"))}
        for node in functions:
            name = _decorated(node, "workflow")
            if name:
                called = tuple(dict.fromkeys(steps[word] for word in _calls(node) if word in steps))
                found.append(Workflow(name, _summary(node), module, called))
    return sorted(found, key=lambda one: one.name)


def special_errors(kinds: set[str]) -> list[SpecialError]:
    """Every `Kind(…, code="…")` for these classes; the code may be a constant of its module."""
    found: dict[str, SpecialError] = {}
    for module, tree in trees():
        constants = _constants(tree)
        for call in _calls_of(tree, kinds):
            code = _code(call, constants)
            if code:
                sentence = _text(call.args[0]) if call.args else ""
                found.setdefault(code, SpecialError(code, _called(call), sentence, module))
    return [found[code] for code in sorted(found)]


def codes_of(called: str, below: str = "") -> dict[str, list[str]]:
    """Codes given to calls of this name, and the modules that give each; `below` is a part of the package."""
    found: dict[str, set[str]] = {}
    for module, tree in trees():
        constants = _constants(tree)
        for call in _calls_of(tree, {called}) if module.startswith(f"clawhaven.{below}") else ():
            code = _code(call, constants)
            if code:
                found.setdefault(code, set()).add(module.removeprefix("clawhaven."))
    return {code: sorted(found[code]) for code in sorted(found)}


def _calls_of(tree: ast.Module, names: set[str]) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node) in names)


def _called(call: ast.Call) -> str:
    function = call.func
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _calls(function: ast.FunctionDef) -> list[str]:
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    return [_called(call) for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset))]


def _decorated(function: ast.FunctionDef, name: str) -> str | None:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and _called(decorator) == name and decorator.args:
            value = decorator.args[0]
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
    return None


def _constants(tree: ast.Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found.update({target.id: value.value for target in targets if isinstance(target, ast.Name)})
    return found


def _code(call: ast.Call, constants: dict[str, str]) -> str | None:
    for keyword in call.keywords:
        if keyword.arg == "code":
            if isinstance(keyword.value, ast.Constant):
                return keyword.value.value if isinstance(keyword.value.value, str) else None
            if isinstance(keyword.value, ast.IfExp):
                chosen = keyword.value.body
                return chosen.value if isinstance(chosen, ast.Constant) and isinstance(chosen.value, str) else None
            if isinstance(keyword.value, ast.Name):
                return constants.get(keyword.value.id)
    return None


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return "…"


def _summary(function: ast.FunctionDef) -> str:
    return (ast.get_docstring(function) or "").split("\n")[0]
