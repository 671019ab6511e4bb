"""`clawhaven skills`: what an assistant can do besides talking."""

from __future__ import annotations

from typing import Annotated

import typer

from clawhaven.cli.client import part
from clawhaven.cli.output import Column
from clawhaven.cli.session import confirm, current, read_secret

app = typer.Typer(no_args_is_help=True, help="The skills of an assistant.")

INSTANCE = Annotated[str, typer.Argument(metavar="INSTANCE", help="The assistant's id (ins_…).")]
SKILL = Annotated[str, typer.Argument(metavar="SKILL", help="As in `clawhaven skills catalogue`.")]
KEY = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="CLAWHAVEN_SKILL_KEY", help="`-` reads it from stdin. Asked for, unseen, when left out."
    ),
]
YES = Annotated[bool, typer.Option("--yes", "--force", "-y", help="Do not ask.")]

WORDS = (
    Column("SKILL", ("skill",)),
    Column("NAME", ("label",)),
    Column("STATUS", ("status",), lambda word: str(word).replace("_", " ")),
    Column("KEY", ("key_ends_in",), lambda hint: f"…{hint}"),
    Column("WHAT IT DOES", ("summary",)),
    Column("WHY NOT", ("unavailable",)),
)
ONE = (
    Column("Skill", ("skill",)),
    Column("Status", ("status",), lambda word: str(word).replace("_", " ")),
    Column("Key", ("key_ends_in",), lambda hint: f"ends in {hint}"),
    Column("Costs", ("note",)),
)
TRIED = (
    Column("Works", ("is_good",), lambda word: "yes" if word else "no"),
    Column("Vendor", ("vendor",)),
    Column("Assistant", ("assistant",)),
)


@app.command()
def catalogue(ctx: typer.Context) -> None:
    """Every skill that assistants here can be given, as a new one has it."""
    session = current(ctx)
    session.output.rows(session.api().get("/skills"), WORDS, "There are no skills here.")


@app.command("list")
def list_skills(ctx: typer.Context, instance: INSTANCE) -> None:
    """The skills of an assistant."""
    session = current(ctx)
    answer = session.api().get(f"/instances/{part(instance)}/skills")
    session.output.rows(answer, WORDS, "There are no skills here.")


@app.command()
def enable(ctx: typer.Context, instance: INSTANCE, skill: SKILL) -> None:
    """Turn a skill on; the assistant follows in a few seconds."""
    _switch(ctx, instance, skill, True)


@app.command()
def disable(ctx: typer.Context, instance: INSTANCE, skill: SKILL) -> None:
    """Turn a skill off; its key is kept."""
    _switch(ctx, instance, skill, False)


@app.command()
def set_key(ctx: typer.Context, instance: INSTANCE, skill: SKILL, key: KEY = None) -> None:
    """Give a skill your key at its vendor. It is tested, kept encrypted, and the skill is turned on."""
    session = current(ctx)
    body = {"api_key": read_secret("API key", key)}
    session.output.facts(session.api().put(f"/instances/{part(instance)}/skills/{part(skill)}/key", body), ONE)


@app.command()
def remove_key(ctx: typer.Context, instance: INSTANCE, skill: SKILL, yes: YES = False) -> None:
    """Forget a skill's key; the assistant does without the skill."""
    session = current(ctx)
    api = session.api()
    confirm("Remove this skill's key?", yes)
    session.output.text(api.delete(f"/instances/{part(instance)}/skills/{part(skill)}/key"), "The key is removed.")


@app.command("test")
def try_it(ctx: typer.Context, instance: INSTANCE, skill: SKILL) -> None:
    """Ask the vendor about the key that is kept, and whether the assistant can use it now."""
    session = current(ctx)
    session.output.facts(session.api().post(f"/instances/{part(instance)}/skills/{part(skill)}/test"), TRIED)


def _switch(ctx: typer.Context, instance: str, skill: str, is_on: bool) -> None:
    session = current(ctx)
    answer = session.api().put(f"/instances/{part(instance)}/skills/{part(skill)}", {"is_on": is_on})
    session.output.facts(answer, ONE)
