"""Channels and the Telegram bot."""

from __future__ import annotations

from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer, problem

TOKEN = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
CHANNELS = f"/api/instances/{INSTANCE}/channels"


def test_list(run: Run, server: ContractServer) -> None:
    ran = run("channels", "list", INSTANCE)
    assert "@ada_bot" in ran.out
    assert "waiting for owner" in ran.out
    server.answers["GET", CHANNELS] = (200, {"items": [], "available": []})
    assert "clawhaven telegram connect" in run("channels", "list", INSTANCE).err


def test_connect_shows_the_owner_link_and_hides_the_token(run: Run, server: ContractServer) -> None:
    ran = run("telegram", "connect", INSTANCE, "--token", "-", "--verbose", stdin=f"{TOKEN}\n")
    assert ran.code == 0
    assert "https://t.me/ada_bot?start=once" in ran.out
    assert server.seen[-1].body == {"telegram_bot_token": TOKEN}
    assert TOKEN not in ran.out + ran.err


def test_connect_without_a_token_reads_stdin(run: Run, server: ContractServer) -> None:
    assert run("telegram", "connect", INSTANCE, stdin=TOKEN).code == 0
    assert run("telegram", "connect", INSTANCE).code == 2
    assert len(server.seen) == 1


def test_a_refused_token(run: Run, server: ContractServer) -> None:
    server.answers["PUT", f"{CHANNELS}/telegram"] = (
        400,
        problem("invalid_bot_token", "Telegram does not accept this token.", field="telegram_bot_token"),
    )
    ran = run("telegram", "connect", INSTANCE, "--verbose", stdin=TOKEN)
    assert ran.code == 1
    assert "Telegram does not accept this token." in ran.err
    assert "Field: telegram_bot_token" in ran.err


def test_validate_needs_no_sign_in(bare: Run) -> None:
    assert "@ada_bot" in bare("telegram", "validate", stdin=TOKEN).out


def test_info(run: Run, server: ContractServer) -> None:
    assert run("telegram", "info", INSTANCE, "--format", "json").json["bot_username"] == "ada_bot"
    server.answers["GET", CHANNELS] = (200, {"items": []})
    assert run("telegram", "info", INSTANCE).code == 4


def test_disconnect_wants_a_yes(run: Run, server: ContractServer) -> None:
    assert run("telegram", "disconnect", INSTANCE).code == 2
    assert run("telegram", "disconnect", INSTANCE, "--yes").out == "The bot is disconnected.\n"
    assert server.seen[-1].method == "DELETE"
