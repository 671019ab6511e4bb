"""Keys of customers' own programs: made, found, touched, revoked; a call with one is its assistant's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven import metering
from clawhaven.core.db import Database
from clawhaven.core.errors import Conflict, Forbidden, Invalid, NotFound, RateLimited, Unauthorized
from clawhaven.core.secrets import hash_token
from clawhaven.metering import Ask, Closing, Opening, Source, programs, run_batch
from clawhaven.metering.usage import usage_by
from clawhaven.ports.upstream import Usage
from tests.metering.conftest import KEY_HASH, NOW

ASK = Ask("sandbox-1", "anthropic-messages", 100, 100, Source.PROGRAM, is_turn=True)
Give = Callable[..., str]


def make(db: Database, name: str = "Site search", **terms: str) -> tuple[str, str]:
    """A key of `ins_1`: its id and its hash."""
    with db.tx() as tx:
        key, secret = programs.make(tx, "ins_1", "acc_1", name, NOW, **terms)
        return key.id, hash_token(secret)


def ask(db: Database, key_hash: str, source: Source = Source.PROGRAM) -> object:
    """What comes of one call with this key."""
    opening = Opening(Ask("sandbox-1", "anthropic-messages", 100, 100, source, is_turn=True), key_hash, ["sandbox"])
    with db.tx() as tx:
        return run_batch(tx, [opening], [], now=NOW).opened[0]


def test_a_key_is_shown_once_and_only_its_hash_is_kept(db: Database, give: Give) -> None:
    give()
    with db.tx() as tx:
        key, secret = programs.make(tx, "ins_1", "acc_1", "  Site search ", NOW)
        assert secret.startswith(key.prefix)
        assert (key.name, key.last_used_at, len(secret)) == ("Site search", None, 47)
    with db.read() as tx:
        row = dict(tx.execute(sa.text("SELECT * FROM program_key")).mappings().one())
        assert secret not in str(row)
        bearer = programs.find_bearer(tx, hash_token(secret))
        assert bearer.program is not None
        assert (bearer.grant.instance_id, bearer.program.id) == ("ins_1", key.id)
        assert programs.find_bearer(tx, KEY_HASH).program is None
        with pytest.raises(Unauthorized):
            programs.find_bearer(tx, hash_token("chp_wrong"))


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\nb"])
def test_a_bad_name_is_refused_with_its_field(db: Database, name: str) -> None:
    with db.tx() as tx, pytest.raises(Invalid) as refused:
        programs.make(tx, "ins_1", "acc_1", name, NOW)
    assert refused.value.details["field"] == "name"


def test_there_is_an_end_of_keys(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MOST", 2)
    make(db, "one")
    make(db, "two")
    with db.tx() as tx, pytest.raises(Conflict) as refused:
        programs.make(tx, "ins_1", "acc_1", "three", NOW)
    assert refused.value.error_code == "too_many"
    with db.tx() as tx:
        programs.make(tx, "ins_2", "acc_1", "another assistant's", NOW)


def test_revoking_is_for_its_own_assistant_and_for_good(db: Database) -> None:
    key_id, _ = make(db)
    with db.tx() as tx:
        with pytest.raises(NotFound):
            programs.revoke(tx, "ins_2", key_id)
        programs.revoke(tx, "ins_1", key_id)
        with pytest.raises(NotFound):
            programs.revoke(tx, "ins_1", key_id)
        assert programs.list_keys(tx, "ins_1") == []


def test_what_an_api_key_made_ends_with_it(db: Database) -> None:
    made, _ = make(db, "by a key", made_by="key_1")
    kept, _ = make(db, "by a person")
    with db.tx() as tx:
        assert programs.revoke_made_by(tx, "acc_2", "key_1") == []
        assert programs.revoke_made_by(tx, "acc_1", "key_1") == [made]
        assert [key.id for key in programs.list_of_account(tx, "acc_1")] == [kept]


def test_use_is_written_down_once_a_minute(db: Database) -> None:
    key_id, _ = make(db)
    with db.tx() as tx:
        (key,) = programs.list_keys(tx, "ins_1")
        assert programs.is_due(key, NOW)
        programs.touch(tx, key_id, NOW)
    with db.tx() as tx:
        (key,) = programs.list_keys(tx, "ins_1")
        assert key.last_used_at == NOW
        assert not programs.is_due(key, NOW + timedelta(seconds=59))
        assert programs.is_due(key, NOW + timedelta(seconds=60))


def test_a_programs_call_is_billed_like_its_assistants_under_a_source_of_its_own(db: Database, give: Give) -> None:
    wallet = give()
    _, key_hash = make(db)
    opened = ask(db, key_hash)
    assert isinstance(opened, metering.OpenCall)
    assert opened.instance_id == "ins_1"
    with db.tx() as tx:
        run_batch(tx, [], [Closing(opened.id, Usage(input_tokens=10, output_tokens=10), 200)], now=NOW)
    with db.read() as tx:
        row = tx.get_one(metering.UsageRow, opened.id)
        assert (row.source, row.ledger_account_id, row.price_micros) == ("program", wallet, 270)
        day = NOW.replace(hour=0), NOW.replace(hour=0) + timedelta(days=1)
        (line,) = usage_by(tx, "acc_1", ("source",), *day)
    assert (line.keys, line.sum.calls) == (("program",), 1)


def test_the_assistants_limits_hold_for_both_together(db: Database, give: Give) -> None:
    give(messages_per_hour=2)
    _, key_hash = make(db)
    assert isinstance(ask(db, KEY_HASH, Source.PERSON), metering.OpenCall)
    assert isinstance(ask(db, key_hash), metering.OpenCall)
    for hash_, source in ((key_hash, Source.PROGRAM), (KEY_HASH, Source.PERSON)):
        assert isinstance(ask(db, hash_, source), RateLimited)


def test_both_in_one_batch_are_counted_together(db: Database, give: Give) -> None:
    give(max_in_flight=2)
    _, first = make(db)
    _, second = make(db)
    mine = Opening(Ask("sandbox-1", "anthropic-messages", 1, 1, Source.PERSON), KEY_HASH, ["sandbox"])
    with db.tx() as tx:
        opened = run_batch(
            tx, [Opening(ASK, first, ["sandbox"]), mine, Opening(ASK, second, ["sandbox"])], [], now=NOW
        ).opened
    assert [type(one).__name__ for one in opened] == ["OpenCall", "OpenCall", "RateLimited"]


def test_a_programs_calls_are_no_automatic_ones(db: Database, give: Give) -> None:
    give(automatic_per_day_micros=0)
    _, key_hash = make(db)
    assert isinstance(ask(db, key_hash), metering.OpenCall)


def test_it_stops_with_the_key_the_pause_and_the_end(db: Database, give: Give) -> None:
    give()
    key_id, key_hash = make(db)
    with db.tx() as tx:
        metering.deactivate(tx, "ins_1", now=NOW)
    assert isinstance(ask(db, key_hash), Forbidden)
    with db.tx() as tx:
        metering.activate(tx, "ins_1", now=NOW)
    assert isinstance(ask(db, key_hash), metering.OpenCall)
    with db.tx() as tx:
        programs.revoke(tx, "ins_1", key_id)
    assert isinstance(ask(db, key_hash), Unauthorized)
    _, other = make(db)
    with db.tx() as tx:
        metering.revoke(tx, "ins_1")
    assert isinstance(ask(db, other), Unauthorized)
    with db.tx() as tx:
        programs.forget(tx, "ins_1")
        assert programs.list_keys(tx, "ins_1") == []
