"""`clawhaven channels` and `clawhaven telegram`: where an assistant can be reached."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from clawhaven.cli.client import items_of, part
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Column
from clawhaven.cli.session import confirm, current, read_secret

app = typer.Typer(no_args_is_help=True, help="The messaging channels of an assistant.")
telegram = typer.Typer(no_args_is_help=True, help="Connect an assistant to a Telegram bot.")

INSTANCE = Annotated[str, typer.Argument(metavar="INSTANCE", help="The assistant's id (ins_…).")]
TOKEN = Annotated[
    str | None,
    typer.Option(
        envvar="CLAWHAVEN_TELEGRAM_TOKEN",
        help="The bot's token; `-` reads it from stdin. Asked for, unseen, when left out.",
    ),
]
YES = Annotated[bool, typer.Option("--yes", "--force", "-y", help="Do not ask.")]
WAIT = Annotated[bool, typer.Option("--wait", help="Wait until it is done, and show the steps.")]
CURSOR = Annotated[str | None, typer.Option(help="Where the page before ended.")]
ALL = Annotated[bool, typer.Option("--all", help="Every page.")]
WITHIN = Annotated[int, typer.Option("--timeout", min=1, help="With --wait: give up after so many seconds.")]

BOT = (
    Column("Bot", ("bot_username",), lambda name: f"@{str(name).removeprefix('@')}"),
    Column("Address", ("bot_url",)),
    Column("Owner", ("owner",)),
    Column("Status", ("status",), lambda word: str(word).replace("_", " ")),
    Column("Become its owner", ("claim_url",)),
)


TRIED = (
    Column("Answers", ("is_good",), lambda word: "yes" if word else "no"),
    Column("Network", ("network",)),
    Column("Assistant", ("gateway",)),
    Column("Problem", ("problem",)),
)


@app.command("list")
def list_channels(ctx: typer.Context, instance: INSTANCE) -> None:
    """Every channel of an assistant."""
    session = current(ctx)
    answer = session.api().get(f"/instances/{part(instance)}/channels")
    columns = (Column("CHANNEL", ("channel",)), *BOT)
    session.output.rows(answer, columns, "No channel yet. Connect one: clawhaven telegram connect INSTANCE")


@telegram.command()
def connect(ctx: typer.Context, instance: INSTANCE, token: TOKEN = None) -> None:
    """Connect a bot (make one with @BotFather). Open the link you get: whoever does so first is the bot's owner."""
    session = current(ctx)
    api = session.api()
    answer = api.put(
        f"/instances/{part(instance)}/channels/telegram", {"telegram_bot_token": read_secret("Bot token", token)}
    )
    session.output.facts(answer, BOT)
    if isinstance(answer, dict) and answer.get("claim_url"):
        session.output.note("Open this link in Telegram and press Start; until then the bot answers nobody.")


@telegram.command()
def validate(ctx: typer.Context, token: TOKEN = None) -> None:
    """Ask Telegram whose token this is; nothing is stored."""
    session = current(ctx)
    answer = session.api(is_open=True).post("/config/validate", {"telegram_bot_token": read_secret("Bot token", token)})
    session.output.facts(answer, BOT)


@app.command("test")
def try_it(
    ctx: typer.Context,
    instance: INSTANCE,
    channel: Annotated[str, typer.Argument(help="As in `clawhaven channels list`.")] = "telegram",
) -> None:
    """Ask whether a message would be answered: what the network says of the bot, and what the assistant says."""
    session = current(ctx)
    answer = session.api().post(f"/instances/{part(instance)}/channels/{part(channel)}/test")
    session.output.facts(answer, TRIED)


@telegram.command()
def info(ctx: typer.Context, instance: INSTANCE) -> None:
    """The bot of an assistant: its name, address and owner."""
    session = current(ctx)
    for found in items_of(session.api().get(f"/instances/{part(instance)}/channels")):
        if _is_telegram(found):
            session.output.facts(found, BOT)
            return
    raise Failure(
        "This assistant has no Telegram bot.",
        ExitCode.NOT_FOUND,
        code="not_found",
        hint=f"Connect one: clawhaven telegram connect {instance}",
    )


@telegram.command()
def disconnect(ctx: typer.Context, instance: INSTANCE, yes: YES = False) -> None:
    """Take the bot away from the assistant; it can serve another one then."""
    session = current(ctx)
    api = session.api()
    confirm("Disconnect this assistant's bot?", yes)
    session.output.text(api.delete(f"/instances/{part(instance)}/channels/telegram"), "The bot is disconnected.")


def _is_telegram(found: Any) -> bool:
    return isinstance(found, dict) and found.get("channel") == "telegram"
