"""What is kept of a workspace file, and in which order."""

from __future__ import annotations

import pytest

from clawhaven.core.clock import Clock
from clawhaven.core.db import Database
from clawhaven.core.errors import Conflict, NotFound
from clawhaven.core.secrets import KeyRing
from clawhaven.instances import versions
from clawhaven.instances.models import Instance
from clawhaven.instances.versions import Author
from tests.house.test_states import make_row

FILE = "SOUL.md"


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing([b"k" * 32])


@pytest.fixture
def instance(db: Database) -> Instance:
    with db.tx() as session:
        return session.get_one(Instance, make_row(session, Instance.__table__))


def texts(db: Database, keys: KeyRing, instance_id: str) -> list[tuple[int, str, str]]:
    with db.read() as session:
        found = versions.list_versions(session, instance_id, FILE)
        return [(one.number, one.author, versions.text_of(one, keys)) for one in found]


def test_texts_are_sealed_and_numbered_and_the_oldest_go(
    db: Database, keys: KeyRing, clock: Clock, instance: Instance
) -> None:
    for number in range(versions.MOST + 3):
        with db.tx() as session:
            made = versions.add(session, keys, instance.id, FILE, f"text {number}", Author.OWNER, clock.now())
            assert f"text {number}" not in made.content
    kept = texts(db, keys, instance.id)
    assert len(kept) == versions.MOST
    assert kept[0] == (versions.MOST + 3, "owner", f"text {versions.MOST + 2}")
    with db.read() as session, pytest.raises(NotFound):
        versions.find(session, instance.id, FILE, 3)
    with db.tx() as session:
        versions.forget(session, instance.id)
    assert texts(db, keys, instance.id) == []


def test_what_was_found_is_kept_once(db: Database, keys: KeyRing, clock: Clock, instance: Instance) -> None:
    for found in ("as built", "as built", "as the assistant left it"):
        with db.tx() as session:
            versions.note_found(session, keys, instance.id, FILE, found, clock.now())
    assert texts(db, keys, instance.id) == [(2, "found", "as the assistant left it"), (1, "found", "as built")]


def test_what_is_too_long_to_be_kept_whole_is_not_kept_in_part(
    db: Database, keys: KeyRing, clock: Clock, instance: Instance
) -> None:
    with db.tx() as session, pytest.raises(Conflict, match="too long to be kept"):
        versions.note_found(session, keys, instance.id, FILE, "x" * (versions.LONGEST + 1), clock.now())
    assert texts(db, keys, instance.id) == []
    with db.tx() as session:
        versions.note_found(session, keys, instance.id, FILE, "x" * versions.LONGEST, clock.now())
    assert texts(db, keys, instance.id) == [(1, "found", "x" * versions.LONGEST)]


def test_what_is_written_over_unknown_comes_before_it(
    db: Database, keys: KeyRing, clock: Clock, instance: Instance
) -> None:
    with db.tx() as session:
        versions.note_found(session, keys, instance.id, FILE, "one", clock.now())
        base = versions.digest("one")
        mine = versions.add(
            session, keys, instance.id, FILE, "two", Author.OWNER, clock.now(), base=base, is_written=False
        )
        versions.add(session, keys, instance.id, FILE, "three", Author.OWNER, clock.now(), is_written=False)
        assert versions.count_waiting(session, instance.id) == 2
        versions.keep_found(session, mine, keys, "one", clock.now())  # known: nothing to keep
        versions.keep_found(session, mine, keys, "the assistant's own", clock.now())
        versions.keep_found(session, mine, keys, "the assistant's own", clock.now())  # the step ran twice
        versions.mark_written(mine, clock.now())
        assert versions.count_waiting(session, instance.id) == 1
    assert [text for _, _, text in texts(db, keys, instance.id)] == ["three", "two", "the assistant's own", "one"]
    assert [number for number, _, _ in texts(db, keys, instance.id)] == [4, 3, 2, 1]


def test_only_what_still_waits_can_fail(db: Database, keys: KeyRing, clock: Clock, instance: Instance) -> None:
    with db.tx() as session:
        waiting = versions.add(session, keys, instance.id, FILE, "a", Author.OWNER, clock.now(), is_written=False)
        written = versions.add(session, keys, instance.id, FILE, "b", Author.OWNER, clock.now())
        for one in (waiting, written):
            versions.mark_failed(session, one.id, "A link lies in the way.")
    with db.read() as session:
        found = versions.list_versions(session, instance.id, FILE)
        assert [one.problem for one in found] == [None, "A link lies in the way."]
        assert not any(versions.is_waiting(one) for one in found)
