"""A new address counts once a mailed link has proved it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clawhaven.accounts import addresses, apikeys, links, sessions, signup
from clawhaven.accounts.signup import Owner
from clawhaven.core.db import Database
from clawhaven.core.errors import Conflict, Forbidden, Invalid, Unauthorized

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def person(db: Database, email: str, *, is_proved: bool = True) -> Owner:
    with db.tx() as tx:
        return signup.register(tx, email, NOW, verified_at=NOW if is_proved else None)


def test_from_asking_to_the_new_address(db: Database) -> None:
    ada = person(db, "ada@example.com")
    with db.tx() as tx:
        old_link = links.issue(tx, ada.user.id, NOW)
        first = addresses.ask(tx, ada, "ada@new.example", NOW)
        second = addresses.ask(tx, ada, "ada@newer.example", NOW)
        assert (first.is_taken, second.is_taken) == (False, False)
        assert addresses.pending(tx, ada.user.id, NOW) == "ada@newer.example"
        assert addresses.pending(tx, ada.user.id, NOW + addresses.LIFE) is None
    for token, moment in ((first.token, NOW), ("x" * 43, NOW), (second.token, NOW + addresses.LIFE)):
        with db.tx() as tx, pytest.raises(Unauthorized):
            addresses.prove(tx, token, moment)
    with db.tx() as tx:
        moved = addresses.prove(tx, second.token, NOW + timedelta(minutes=59))
        assert (moved.owner.user.email, moved.before) == ("ada@newer.example", "ada@example.com")
        assert signup.find_owner(tx, "ada@example.com") is None
        with pytest.raises(Unauthorized):
            links.redeem(tx, old_link, NOW)
    with db.tx() as tx, pytest.raises(Unauthorized):
        addresses.prove(tx, second.token, NOW)


def test_whose_address_it_may_be(db: Database) -> None:
    ada, eve = person(db, "ada@example.com"), person(db, "eve@example.com", is_proved=False)
    with db.tx() as tx:
        taken = addresses.ask(tx, ada, "eve@example.com", NOW)
        assert taken.is_taken
        assert addresses.pending(tx, ada.user.id, NOW) == "eve@example.com", "as for one that is free"
        with pytest.raises(Invalid):
            addresses.ask(tx, ada, "ada@example.com", NOW)
        with pytest.raises(Forbidden):
            addresses.ask(tx, eve, "eve@new.example", NOW)
        token = addresses.ask(tx, ada, "free@example.com", NOW).token
        signup.register(tx, "free@example.com", NOW)
    with db.tx() as tx, pytest.raises(Conflict):
        addresses.prove(tx, token, NOW)
    with db.read() as tx:
        assert signup.find_owner(tx, "ada@example.com") is not None


@pytest.mark.parametrize("ending", ["everywhere", "others", "one", "key"])
def test_ending_access_ends_what_was_asked_with_it(db: Database, ending: str) -> None:
    ada, bea = person(db, "ada@example.com"), person(db, "bea@example.com")
    with db.tx() as tx:
        mine, other = (sessions.open_session(tx, ada.user.id, NOW, days=1) for _ in range(2))
        key, _ = apikeys.issue(tx, ada, "ci", ["read"], NOW)
        token = addresses.ask(tx, ada, "eve@example.com", NOW).token
        kept = addresses.ask(tx, bea, "bea@new.example", NOW).token
    with db.tx() as tx:
        if ending == "key":
            apikeys.revoke(tx, ada.account.id, key.id, NOW)
        elif ending == "one":
            entry = sessions.look_up(tx, other, NOW)
            assert entry is not None
            sessions.end_session(tx, ada.user.id, entry.session.id)
        else:
            sessions.close_all(tx, ada.user.id, but=mine if ending == "others" else "")
        assert addresses.pending(tx, ada.user.id, NOW) is None
    with db.tx() as tx, pytest.raises(Unauthorized):
        addresses.prove(tx, token, NOW)
    with db.tx() as tx:
        assert addresses.prove(tx, kept, NOW).owner.user.email == "bea@new.example"


def test_taken_back_or_too_late(db: Database) -> None:
    ada = person(db, "ada@example.com")
    with db.tx() as tx:
        token = addresses.ask(tx, ada, "ada@new.example", NOW).token
        addresses.take_back(tx, ada, NOW)
    with db.tx() as tx, pytest.raises(Unauthorized):
        addresses.prove(tx, token, NOW)
    with db.tx() as tx:
        addresses.ask(tx, ada, "ada@new.example", NOW)
        addresses.sweep(tx, NOW + addresses.LIFE)
        assert addresses.pending(tx, ada.user.id, NOW) is None
