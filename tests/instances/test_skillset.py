"""What was chosen of the skills is kept for its holder, keys sealed, and handed over or forgotten whole."""

from __future__ import annotations

from datetime import UTC, datetime

from clawhaven.core.db import Database
from clawhaven.core.secrets import KeyRing
from clawhaven.instances import skillset
from clawhaven.instances.skillset import Choice

NOW = datetime(2026, 11, 22, tzinfo=UTC)
KEYS = KeyRing.parse("0f" * 32)
KEY = "BSAgoodgoodgoodgood-1234"


def choices(db: Database, holder: str) -> dict[str, Choice]:
    with db.read() as session:
        return skillset.choices_of(session, holder)


def test_a_key_is_sealed_and_survives_turning_off_and_on(db: Database) -> None:
    with db.tx() as session:
        skillset.keep_key(session, "ins_1", "web_search", KEY, KEYS, NOW)
        skillset.switch(session, "ins_1", "web_search", False, NOW)
    kept = choices(db, "ins_1")["web_search"]
    assert (kept.is_on, kept.hint, kept.checked_at) == (False, "1234", NOW)
    assert KEY not in str(kept.sealed)
    assert skillset.open_key(kept, KEYS) == KEY
    with db.tx() as session:
        skillset.switch(session, "ins_1", "web_search", True, NOW)
        assert skillset.forget_key(session, "ins_1", "web_search", NOW)
        assert not skillset.forget_key(session, "ins_1", "web_search", NOW)
    left = choices(db, "ins_1")["web_search"]
    assert (left.is_on, left.sealed, left.hint, left.checked_at) == (True, None, None, None)
    assert skillset.open_key(left, KEYS) == ""


def test_a_draft_s_choices_become_the_assistant_s(db: Database) -> None:
    with db.tx() as session:
        skillset.keep_key(session, "acc_1", "voice", KEY, KEYS, NOW)
        skillset.switch(session, "acc_1", "memory", False, NOW)
        skillset.switch(session, "acc_2", "memory", False, NOW)
        skillset.hand_over(session, "acc_1", "ins_1")
    assert sorted(choices(db, "ins_1")) == ["memory", "voice"]
    assert choices(db, "acc_1") == {}
    assert list(choices(db, "acc_2")) == ["memory"]


def test_keys_of_several_go_together_and_rows_too(db: Database) -> None:
    with db.tx() as session:
        for holder in ("ins_1", "ins_2", "ins_3"):
            skillset.keep_key(session, holder, "voice", KEY, KEYS, NOW)
        assert skillset.forget_keys(session, ["ins_1", "ins_2"], NOW)
        assert not skillset.forget_keys(session, ["ins_1", "ins_2"], NOW)
        skillset.drop(session, ["ins_1"])
    assert choices(db, "ins_1") == {}
    assert choices(db, "ins_2")["voice"].sealed is None
    assert choices(db, "ins_3")["voice"].sealed
