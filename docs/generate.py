"""Write the pages of docs/reference from the code, or (--check) say which of them no longer agree with it.

python -m docs.generate [--check]
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydantic_core
from pydantic.fields import FieldInfo
from typer.main import get_command

import clawhaven
from clawhaven import providers, wiring
from clawhaven.core.errors import AppError
from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.core.states import Machine
from docs import sources

FOLDER = Path(__file__).parent / "reference"
NOTICE = "<!-- Written by `make docs` from the code; change the code, not this page. -->\n\n"

INTRO = {
    "settings": """# Settings

Read from the environment and from `.env` in the working folder. `NAME_FILE=/path` gives any setting the content
of a file, for secrets that should not be in the environment. Nothing has to be set to try the product; with
`ENVIRONMENT=production` whatever is missing or weak stops the start, all of it named at once.

## The product
""",
    "cli variables": """
## The command line

| variable | meaning |
|---|---|
| `CLAWHAVEN_API_URL` | The site that client commands talk to. |
| `CLAWHAVEN_API_KEY` | The API key they use. |
| `CLAWHAVEN_TELEGRAM_TOKEN` | A bot's token for `telegram connect` and `instances create`. |""",
    "errors": """# Errors

Every error of the API is `{"error": code, "message": sentence, "details": {…}}`. Programs go by the code and the
status; the sentence is for a person and may change.

## By kind

| code | status | meaning |
|---|---|---|""",
    "special errors": """
## Special cases of these kinds

The status of the kind, with a code of its own where a program may want to tell it apart.

| code | status | sentence | raised in |
|---|---|---|---|""",
    "provider codes": """
## Codes of providers

What the outside said no with. They end an operation (`error` of `GET /api/instances/…/operations/…`) and stand in
the log.

| code | raised in |
|---|---|""",
    "proxy codes": """
## Codes of the model proxy

In the error shape of the vendor whose endpoint was called. An assistant's own gateway never sees 401, 402 or 403
(it would lock itself for minutes): see [money](../explanation/money.md).

| code | raised in |
|---|---|""",
    "cli codes": """
## Codes of the command line

With `--format json` or `yaml` a failure of the command line itself is printed in the API's shape, with these codes.

| code | raised in |
|---|---|""",
    "states": """# States

Each of these columns has one writer: the guarded move of its machine (`clawhaven/core/states.py`), one UPDATE that
names the states it may come from. A move that is not drawn here is refused with `illegal_move`; asking for the
state that a row is in already is a replay and changes nothing.""",
    "reasons": """
An assistant that is suspended says why in `suspended_for`; reasons add up, and it resumes when none is left:""",
    "api": """# HTTP API

JSON under `/api`; the schema with every field is at `/api/openapi.json`. Sign in with the session cookie or
`Authorization: Bearer chk_…` (an API key; make one with `clawhaven auth login` or `POST /api/auth/keys`). Times are
ISO 8601 in UTC, money is in integer micro-dollars (`*_micros`; 1,000,000 is one dollar). Work that takes time
answers 202 with an `operation`; look at it until its `state` is `done` or `failed`. Lists answer `items` and
`next_cursor`. Errors: [errors.md](errors.md).""",
    "cli": """# Command line

Client commands speak to the API of a site and nothing else; server commands run one. Global options may stand
anywhere on the line before `--`. Answers go to stdout, everything said beside them to stderr. With `--quiet`
commands print ids only; with `--format json` or `yaml` the API's own answer.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failure |
| 2 | wrong usage |
| 3 | not signed in, or not allowed |
| 4 | not found |
| 5 | every place is taken |

## Global options
""",
    "workflows": """# Workflows

Durable work, in `clawhaven/workflows`. A workflow calls steps; each step is recorded once it is done and is not
repeated after a crash. Names are stored data and never change. Why and how:
[workflows](../explanation/workflows.md).""",
    "providers": """# Providers

One file per vendor in `clawhaven/providers`, behind the port of its kind (`clawhaven/ports`). A package outside
adds one with an entry point in the group `clawhaven.<port>`.""",
}

BY_MACHINE = {"cache_dir": "the user's cache folder"}
"""Defaults that are not the same everywhere."""

ROOMS = ("accounts", "billing", "instances", "ledger", "metering", "notices")


def pages() -> dict[str, str]:
    """File name -> content, for every generated page."""
    writers: dict[str, Callable[[], Iterator[str]]] = {
        "settings.md": settings_page,
        "errors.md": errors_page,
        "states.md": states_page,
        "api.md": api_page,
        "cli.md": cli_page,
        "workflows.md": workflows_page,
        "providers.md": providers_page,
    }
    return {name: NOTICE + "\n".join(write()).rstrip() + "\n" for name, write in writers.items()}


def stale() -> list[str]:
    """Names of pages that differ from what the code says."""
    return [name for name, text in pages().items() if not _same(FOLDER / name, text)]


def settings_page() -> Iterator[str]:
    """Every variable, ours and each provider's."""
    yield INTRO["settings"]
    yield from _fields(Settings)
    for port, name, cls in _classes():
        if cls.Options.model_fields:
            yield f"\n## {port}: {name}\n"
            yield from _fields(cls.Options)
    yield INTRO["cli variables"]


def errors_page() -> Iterator[str]:
    """Codes of the API, and codes of providers."""
    yield INTRO["errors"]
    kinds = list(_tree(AppError))
    for cls in kinds:
        yield f"| `{cls.code}` | {cls.status} | {_first_line(cls)} |"
    yield INTRO["special errors"]
    statuses = {cls.__name__: cls.status for cls in kinds}
    for found in sources.special_errors(set(statuses)):
        yield f"| `{found.code}` | {statuses[found.kind]} | {_cell(found.sentence)} | `{found.module}` |"
    yield INTRO["provider codes"]
    yield from _codes(sources.codes_of("ProviderError"))
    yield INTRO["proxy codes"]
    yield from _codes(sources.codes_of("error", "proxy"))
    yield INTRO["cli codes"]
    yield from _codes(sources.codes_of("Failure", "cli"))


def states_page() -> Iterator[str]:
    """Every state machine as a diagram."""
    yield INTRO["states"]
    for machine, module in machines():
        yield f"\n## {machine.name}\n\nTable `{machine.model.__tablename__}`, in `{module}`."
        yield f"\n```mermaid\n{machine.mermaid()}\n```"
    yield INTRO["reasons"]
    yield ", ".join(f"`{reason}`" for reason in importlib.import_module("clawhaven.instances.states").Reason) + "."


def api_page() -> Iterator[str]:
    """Every route of the API."""
    yield INTRO["api"]
    groups: dict[str, list[str]] = {}
    for path, calls in schema()["paths"].items():
        for method, call in calls.items():
            status = next(code for code in call["responses"] if code.startswith("2"))
            text = _cell(call.get("description", "").split("\n\n")[0])
            groups.setdefault(call.get("tags", ["other"])[0], []).append(
                f"| `{method.upper()} {path}` | {status} | {text} |"
            )
    for group, lines in sorted(groups.items()):
        yield f"\n## {group}\n\n| call | answers | what it does |\n|---|---|---|"
        yield from lines


def cli_page() -> Iterator[str]:
    """Every command with its options."""
    yield INTRO["cli"]
    app: Any = get_command(importlib.import_module("clawhaven.cli.main").app)
    yield from _parameters(app)
    for name, command in sorted(commands(app, "clawhaven")):
        yield f"\n## {name}\n\n{str(command.help or '').strip()}"
        table = list(_parameters(command))
        if len(table) > 2:
            yield ""
            yield from table


def workflows_page() -> Iterator[str]:
    """Every workflow with its steps."""
    yield INTRO["workflows"]
    for found in sources.workflows():
        yield f"\n## {found.name}\n\n{found.summary} (`{found.module}`)\n"
        for step in found.steps:
            yield f"- `{step.name}`: {step.summary}"


def providers_page() -> Iterator[str]:
    """Every provider by port."""
    yield INTRO["providers"]
    port = ""
    for kind, name, cls in _classes():
        if kind != port:
            port = kind
            yield f"\n## {kind}\n\n| name | what it is | settings | in production |\n|---|---|---|---|"
        module = importlib.import_module(cls.__module__)
        options = ", ".join(f"`{field.upper()}`" for field in cls.Options.model_fields) or "none"
        fit = "no" if getattr(cls, "is_for_production", True) is False or name == "sandbox" else "yes"
        yield f"| `{name}` | {_first_line(module)} | {options} | {fit} |"


def _fields(cls: type[EnvSettings]) -> Iterator[str]:
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for name, field in cls.model_fields.items():
        yield f"| `{name.upper()}` | {_default(name, field)} | {_cell(field.description or '')} |"


def _default(name: str, field: FieldInfo) -> str:
    if name in BY_MACHINE:
        return BY_MACHINE[name]
    value = field.get_default(call_default_factory=True, validated_data={})
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    return "" if value in (None, "", pydantic_core.PydanticUndefined) else f"`{value}`"


def _parameters(command: Any) -> Iterator[str]:
    yield "| parameter | meaning |"
    yield "|---|---|"
    for parameter in command.params:
        names = ", ".join([*parameter.opts, *parameter.secondary_opts])
        if not names.startswith("-"):
            names = (parameter.metavar or names).upper()
        text = _cell(getattr(parameter, "help", None) or "")
        if names == "--help":
            continue
        default = parameter.default
        if isinstance(default, int | str | Path) and not isinstance(default, bool) and str(default):
            text += f" Default: `{getattr(default, 'value', default)}`."
        yield f"| `{names}` | {text} |"


def commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every command below a group, with its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def machines() -> list[tuple[Machine[Any], str]]:
    """Every state machine of the rooms, and the module that defines it."""
    found = {}
    for info in pkgutil.walk_packages(clawhaven.__path__, "clawhaven."):
        if info.name.split(".")[1] not in ROOMS:
            continue
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if isinstance(value, Machine) and "Machine(" in inspect.getsource(module):
                found[value.name] = (value, info.name)
    return [found[name] for name in sorted(found)]


def schema() -> dict[str, Any]:
    """The API's own OpenAPI schema, from a throw-away installation."""
    api = importlib.import_module("clawhaven.api.app")
    with tempfile.TemporaryDirectory() as folder:
        ctx = wiring.build(Settings(data_dir=Path(folder), database_url="", runtime="process"))
        found: dict[str, Any] = api.create_app(ctx).openapi()
        ctx.db.close()
    return found


def _classes() -> Iterator[tuple[str, str, type[Any]]]:
    for port in sorted(providers.CATALOGUE):
        for name in sorted(providers.CATALOGUE[port]):
            yield port, name, providers.load(port, name)


def _codes(found: dict[str, list[str]]) -> Iterator[str]:
    for code, modules in found.items():
        yield f"| `{code}` | {', '.join(f'`{module}`' for module in modules)} |"


def _tree(cls: type[AppError]) -> Iterator[type[AppError]]:
    yield cls
    for child in sorted(cls.__subclasses__(), key=lambda child: (child.status, child.__name__)):
        yield from _tree(child)


def _first_line(thing: Any) -> str:
    return _cell((thing.__doc__ or "").strip().split("\n")[0])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def main() -> int:
    """Entry point."""
    if "--check" in sys.argv[1:]:
        wrong = stale()
        for name in wrong:
            sys.stderr.write(f"docs/reference/{name} does not agree with the code; run: make docs\n")
        return 1 if wrong else 0
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
