"""Channels: one bot for one assistant, claimed once, its secrets sealed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from clawhaven.core.db import Database
from clawhaven.core.errors import Conflict, Invalid
from clawhaven.core.secrets import KeyRing
from clawhaven.instances import connections
from clawhaven.instances.models import Connection, Instance
from clawhaven.ports.channel import BotInfo
from clawhaven.providers.channels.telegram import Telegram
from tests.house.test_states import make_row

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEYS = KeyRing([b"k" * 32])
BOT = BotInfo("42", "ada_bot", "Ada", "https://t.me/ada_bot")
SECRET = {"telegram_bot_token": "42:" + "A" * 35}


def instances(db: Database, count: int) -> list[str]:
    with db.tx() as tx:
        return [make_row(tx, Instance.__table__, id=f"ins_{number}", slug=f"s{number}") for number in range(count)]


def connect(db: Database, instance_id: str, bot: BotInfo = BOT) -> str:
    with db.tx() as tx:
        return connections.connect(tx, instance_id, "telegram", SECRET, bot, KEYS, NOW).id


def test_of_eight_who_connect_one_bot_one_has_it(db: Database) -> None:
    def attempt(instance_id: str) -> bool:
        try:
            connect(db, instance_id)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, instances(db, 8))) == 1
    with db.read() as tx:
        row = tx.query(Connection).one()
        assert "A" * 35 not in row.credentials
        assert connections.credentials_of(row, KEYS) == SECRET
        url = connections.claim_url(row, KEYS)
        assert url is not None
        assert url.startswith("https://t.me/ada_bot?start=")
        assert url.rpartition("=")[2] not in str(row.claim_token)


def test_a_refused_bot_leaves_the_old_one_in_place(db: Database) -> None:
    first, second = instances(db, 2)
    connect(db, first)
    other = connect(db, second, BotInfo("43", "bea_bot", "Bea", "https://t.me/bea_bot"))
    with pytest.raises(Conflict, match="ada_bot already serves"):
        connect(db, second)
    with db.read() as tx:
        assert [one.id for one in connections.list_connections(tx, second)] == [other]


def test_of_eight_who_claim_one_is_the_owner(db: Database) -> None:
    connection_id = connect(db, instances(db, 1)[0])

    def claim(number: int) -> bool:
        with db.tx() as tx:
            return connections.claim(tx, connection_id, f"user-{number}", None, NOW)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(claim, range(8)))
    assert sum(won) == 1
    assert claim(won.index(True)) is True, "the owner may claim again"
    with db.read() as tx:
        row = tx.get_one(Connection, connection_id)
        assert row.owner_external_id == f"user-{won.index(True)}"
        assert connections.claim_url(row, KEYS) is None


def test_reconnecting_asks_for_the_owner_again_and_disconnecting_frees_the_bot(db: Database) -> None:
    first, second = instances(db, 2)
    connection_id = connect(db, first)
    with db.tx() as tx:
        connections.claim(tx, connection_id, "user-1", "ada", NOW)
    connect(db, first)
    with db.tx() as tx:
        (row,) = connections.list_connections(tx, first)
        assert (row.owner_external_id, row.claim_token is None) == (None, False)
        connections.disconnect(tx, first, "discord")
        assert len(connections.list_connections(tx, first)) == 1
        connections.disconnect(tx, first, "telegram")
        connections.disconnect(tx, first)
    connect(db, second)


@pytest.mark.parametrize(
    "token", ["", "42", "42:", "42:" + "A" * 35 + "\n;", "42:" + "A" * 35 + "/../x", "\0", "٤٢:" + "A" * 35]
)
def test_a_wrong_token_is_named_and_not_repeated(token: str) -> None:
    with pytest.raises(Invalid) as caught:
        connections.check_fields(Telegram(Telegram.Options(), None), {"telegram_bot_token": token})  # type: ignore[arg-type]
    assert (caught.value.error_code, caught.value.details["field"]) == ("invalid_bot_token", "telegram_bot_token")
    assert not token or token not in str(caught.value.as_json())


def test_a_good_token_is_stripped_and_strange_fields_are_left_out() -> None:
    given = {"telegram_bot_token": f" {SECRET['telegram_bot_token'].replace('42', '123456')} \n", "other": "x"}
    checked = connections.check_fields(Telegram(Telegram.Options(), None), given)  # type: ignore[arg-type]
    assert checked == {"telegram_bot_token": "123456:" + "A" * 35}
