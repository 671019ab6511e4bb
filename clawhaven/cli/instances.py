"""`clawhaven instances`: assistants, from the first draft to deletion."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from clawhaven.cli import files, spending, talk
from clawhaven.cli.channels import ALL, CURSOR, INSTANCE, WAIT, WITHIN, YES
from clawhaven.cli.client import part
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Column, count, moment, money
from clawhaven.cli.session import confirm, current, read_secret, read_text

app = typer.Typer(no_args_is_help=True, help="Your assistants.")
spending.register_instances(app)
app.add_typer(files.app, name="files")
app.command()(files.soul)

ROWS = (
    Column("ID", ("id",)),
    Column("NAME", ("name",)),
    Column("STATUS", ("status",)),
    Column("PLAN", ("plan",)),
    Column("MODEL", ("model",)),
    Column("CREATED", ("created_at",), moment),
)
FACTS = (
    Column("Id", ("id",)),
    Column("Name", ("name",)),
    Column("Status", ("status",)),
    Column(
        "Suspended for", ("suspended_for",), lambda found: ", ".join(found) if isinstance(found, list) else str(found)
    ),
    Column("What is wrong", ("failure.message",)),
    Column("Persona", ("persona",)),
    Column("Plan", ("plan",)),
    Column("Model", ("model",)),
    Column("Under way", ("operation.kind",)),
    Column("Health", ("health.detail",)),
    Column("Address", ("url",)),
    Column("Created", ("created_at",), moment),
    Column("Live since", ("active_at",), moment),
)
MADE = (
    Column("Id", ("instance_id",)),
    Column("Status", ("status",)),
    Column("Pay here", ("checkout_url",)),
    Column("Watch here", ("status_url",)),
)
VERSION = (
    Column("OpenClaw", ("version",)),
    Column("Since", ("since",), moment),
    Column("Newest here", ("newest",)),
)
CALLS = (
    Column("STARTED", ("started_at",), moment),
    Column("MODEL", ("model",)),
    Column("BY", ("source",)),
    Column("IN", ("input_tokens",), count),
    Column("CACHED", ("cache_read_tokens",), count),
    Column("OUT", ("output_tokens",), count),
    Column("PRICE", ("price_micros",), money),
    Column("STATE", ("state",)),
)
EVENTS = (Column("AT", ("at",), moment), Column("KIND", ("kind",)), Column("WHAT", ("message",)))

PERSONAS = (Column("PERSONA", ("id",)),)

MODELS = (
    Column("MODEL", ("model",)),
    Column("VENDOR", ("label", "vendor")),
    Column("IN, A MILLION TOKENS", ("input_micros",), money),
    Column("OUT", ("output_micros",), money),
    Column("FROM CACHE", ("cache_read_micros",), money),
    Column("SET", ("is_chosen",), lambda word: "yes" if word else "-"),
)

PLAN = Annotated[str, typer.Option(help="A plan's id; see `clawhaven billing plans`.")]
TEXT = Annotated[str | None, typer.Option("--instructions", help="What the assistant should do.")]
PLACE = Annotated[
    str | None, typer.Option("--instructions-file", "--soul", metavar="FILE", help="The same from a file; `-`: stdin.")
]


@app.command("list")
def list_instances(ctx: typer.Context) -> None:
    """All your assistants."""
    session = current(ctx)
    session.output.rows(
        session.api().pages("/instances"), ROWS, "No assistant yet. Make one: clawhaven instances create NAME"
    )


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the assistant is called.")] = "Assistant",
    instructions: TEXT = None,
    instructions_file: PLACE = None,
    persona: Annotated[str, typer.Option(help="See `clawhaven instances personas`.")] = "personal",
    plan: PLAN = "personal",
    telegram: Annotated[
        bool, typer.Option("--telegram", help="Connect a Telegram bot; its token is asked for.")
    ] = False,
    telegram_token: Annotated[
        str | None, typer.Option(envvar="CLAWHAVEN_TELEGRAM_TOKEN", help="The bot's token; `-` reads it from stdin.")
    ] = None,
) -> None:
    """A new assistant. It is built as soon as its checkout is paid: open the address it answers with."""
    session = current(ctx)
    if telegram_token == "-" and instructions_file == "-":  # noqa: S105 - a dash is no secret
        raise Failure("Only one of token and instructions can come from stdin.", ExitCode.USAGE, code="usage")
    body: dict[str, Any] = {
        "assistant_name": name,
        "custom_instructions": read_text(instructions, instructions_file) or "",
        "persona": persona,
        "plan": plan,
    }
    if telegram or telegram_token:
        body["telegram_bot_token"] = read_secret("Bot token", telegram_token)
    session.output.facts(session.api().create("/instances", body), MADE)


@app.command()
def personas(ctx: typer.Context) -> None:
    """The personas an assistant can have; needs no sign-in."""
    session = current(ctx)
    session.output.rows(session.api(is_open=True).get("/personas"), PERSONAS)


@app.command()
def models(ctx: typer.Context, instance: INSTANCE) -> None:
    """The models an assistant can be set to (`configure --model`), with their prices per million tokens."""
    session = current(ctx)
    answer = session.api().get(f"/instances/{part(instance)}/models")
    session.output.rows(answer, MODELS, "No model can be used here at the moment.")


@app.command()
def get(ctx: typer.Context, instance: INSTANCE) -> None:
    """One assistant: its state, plan and model."""
    session = current(ctx)
    session.output.facts(session.api().get(f"/instances/{part(instance)}"), FACTS)


@app.command()
def start(ctx: typer.Context, instance: INSTANCE, wait: WAIT = False, timeout: WITHIN = 300) -> None:
    """Wake a stopped assistant, or try a failed one again."""
    _act(ctx, instance, "start", wait, timeout, "The assistant is starting.")


@app.command()
def stop(ctx: typer.Context, instance: INSTANCE, wait: WAIT = False, timeout: WITHIN = 300) -> None:
    """Stop an assistant after the answer it is giving; its data is kept."""
    _act(ctx, instance, "stop", wait, timeout, "The assistant is stopping.")


@app.command()
def restart(ctx: typer.Context, instance: INSTANCE, wait: WAIT = False, timeout: WITHIN = 300) -> None:
    """Stop an assistant after the answer it is giving, and start it again."""
    _act(ctx, instance, "restart", wait, timeout, "The assistant is restarting.")


@app.command("replace-key")
def replace_key(ctx: typer.Context, instance: INSTANCE, wait: WAIT = False, timeout: WITHIN = 300) -> None:
    """Replace the key with which an assistant reaches its models, should it have leaked; it restarts with the new one.

    A stopped assistant gets it at its next start.
    """
    _act(ctx, instance, "replace-key", wait, timeout, "A new key is being made.")


@app.command()
def version(ctx: typer.Context, instance: INSTANCE) -> None:
    """The OpenClaw that an assistant runs, and the newest one here."""
    session = current(ctx)
    session.output.facts(session.api().get(f"/instances/{part(instance)}/version"), VERSION)


@app.command()
def upgrade(ctx: typer.Context, instance: INSTANCE, wait: WAIT = False, timeout: WITHIN = 600) -> None:
    """Change to the newest OpenClaw here; a copy is made first, and all is put back when it does not start."""
    _act(ctx, instance, "upgrade", wait, timeout, "The assistant is being upgraded.")


@app.command()
def delete(ctx: typer.Context, instance: INSTANCE, yes: YES = False, wait: WAIT = False, timeout: WITHIN = 300) -> None:
    """Delete an assistant with all its data, and end its subscription. This cannot be undone."""
    session = current(ctx)
    api = session.api()
    confirm(f"Delete {instance} with all its data?", yes)
    answer = api.delete(f"/instances/{part(instance)}")
    session.finish(api, instance, answer, waits=wait, timeout=timeout, said="The assistant is being deleted.")


@app.command()
def configure(
    ctx: typer.Context,
    instance: INSTANCE,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    instructions: TEXT = None,
    instructions_file: PLACE = None,
    persona: Annotated[str | None, typer.Option(help="Another persona.")] = None,
    model: Annotated[str | None, typer.Option(help="Another model; see `clawhaven instances models`.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    wait: WAIT = False,
    timeout: WITHIN = 300,
) -> None:
    """Change name, instructions, persona or model. What is left out stays as it is, and so do changed files."""
    session = current(ctx)
    wanted = {
        "assistant_name": name,
        "custom_instructions": read_text(instructions, instructions_file),
        "persona": persona,
        "model": model,
    }
    changes = {field: value for field, value in wanted.items() if value is not None}
    if not changes:
        raise Failure("Nothing to change was given.", ExitCode.USAGE, code="usage", hint="See --help for what can be.")
    api = session.api()
    if dry_run:
        answer = api.post(f"/instances/{part(instance)}/review", changes)
        session.output.text(answer, talk.differences(answer))
        return
    answer = api.patch(f"/instances/{part(instance)}", changes)
    session.finish(api, instance, answer, waits=wait, timeout=timeout, said="The changes are on their way.")


@app.command()
def logs(
    ctx: typer.Context,
    instance: INSTANCE,
    lines: Annotated[int, typer.Option(min=1, max=2000, help="The newest so many.")] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones until Ctrl-C.")] = False,
    words: Annotated[str | None, typer.Option("--filter", help="Only lines with all these words, of any case.")] = None,
    level: Annotated[str | None, typer.Option(help="error, warn, info or debug: as grave as that at least.")] = None,
) -> None:
    """The log of an assistant's gateway, of the last 24 hours."""
    session = current(ctx)
    path = f"/instances/{part(instance)}/logs"
    if follow:
        talk.follow(session, path, lines, q=words, level=level)
        return
    answer = session.api().get(path, lines=lines, q=words, level=level)
    session.output.text(answer, "\n".join(talk.lines_of(answer)))


@app.command()
def events(ctx: typer.Context, instance: INSTANCE) -> None:
    """What has happened to an assistant."""
    session = current(ctx)
    session.output.rows(session.api().get(f"/instances/{part(instance)}/events"), EVENTS)


@app.command()
def usage(
    ctx: typer.Context,
    instance: INSTANCE,
    cursor: CURSOR = None,
    everything: ALL = False,
) -> None:
    """Every model call of an assistant and its price, newest first."""
    session = current(ctx)
    session.page(f"/instances/{part(instance)}/usage", CALLS, cursor, everything, "No model call yet.")


@app.command()
def chat(
    ctx: typer.Context,
    instance: INSTANCE,
    message: Annotated[
        str | None, typer.Argument(metavar="[MESSAGE]", help="What you say; `-` reads it from stdin.")
    ] = None,
) -> None:
    """Talk to an assistant. Without a message: a conversation, a line at a time, until Ctrl-D."""
    session = current(ctx)
    path = f"/instances/{part(instance)}/chat"
    if message is None:
        talk.converse(session, path)
    else:
        talk.say(session, path, message)


def _act(ctx: typer.Context, instance: str, verb: str, wait: bool, timeout: int, said: str) -> None:
    session = current(ctx)
    api = session.api()
    answer = api.post(f"/instances/{part(instance)}/{verb}")
    session.finish(api, instance, answer, waits=wait, timeout=timeout, said=said)
