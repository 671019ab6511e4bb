"""The outbox: every message exactly one row, its text sealed and then forgotten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from clawhaven.core.db import Database
from clawhaven.core.secrets import KeyRing
from clawhaven.notices import kinds, outbox
from clawhaven.notices.models import Notice

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEYS = KeyRing([b"k" * 32])
LETTER = kinds.sign_in("Brand", "https://x.example/sign-in/secret-link")


def test_asking_many_times_makes_one(db: Database) -> None:
    def write(number: int) -> bool:
        with db.tx() as tx:
            return outbox.write(tx, f"key-{number % 3}", LETTER, "a@b.co", KEYS, NOW) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(24))) == 3
    with db.read() as tx:
        assert tx.query(Notice).count() == 3


def test_a_long_key_fits_and_stays_itself(db: Database) -> None:
    with db.tx() as tx:
        long = [f"place:{'a' * 240}{number}@example.com" for number in range(2)]
        assert all(outbox.write(tx, key, LETTER, "a@b.co", KEYS, NOW) for key in long)
        assert not any(outbox.write(tx, key, LETTER, "a@b.co", KEYS, NOW) for key in long)


def test_a_text_is_sealed_until_it_is_sent_and_forgotten_then(db: Database) -> None:
    with db.tx() as tx:
        sent, lost, waiting = (outbox.write(tx, key, LETTER, "a@b.co", KEYS, NOW, "acc_1") for key in "abc")
    assert sent
    assert lost
    with db.tx() as tx:
        assert "secret-link" not in tx.get_one(Notice, sent).sealed_text
        message = outbox.message(tx, sent, KEYS)
        assert message is not None
        assert (message.key, message.to) == (sent, "a@b.co")
        assert "secret-link" in message.text
        outbox.mark_sent(tx, sent, NOW)
        outbox.mark_failed(tx, lost, "x" * 2000)
    with db.read() as tx:
        assert outbox.message(tx, sent, KEYS) is None
        assert outbox.message(tx, lost, KEYS) is None
        row, other = tx.get_one(Notice, sent), tx.get_one(Notice, lost)
        assert (row.state, row.sealed_text, row.tries, row.sent_at) == ("sent", "", 1, NOW)
        assert (other.state, len(other.last_error or "")) == ("failed", 500)
        assert outbox.unsent(tx, NOW + timedelta(seconds=1)) == [waiting]
        assert outbox.unsent(tx, NOW) == []


def test_what_was_written_is_known_by_its_key(db: Database) -> None:
    with db.tx() as tx:
        for key in ("ending:sub_1:1", "ending:sub_1:2", "ending:sub_12:1", "ending%"):
            outbox.write(tx, key, LETTER, "a@b.co", KEYS, NOW, "acc_1")
        outbox.write(tx, "ending:sub_1:3", LETTER, "b@b.co", KEYS, NOW, "acc_2")
        assert outbox.known(tx, ["ending:sub_1:1", "ending:sub_1:9"]) == {"ending:sub_1:1"}
        assert outbox.known(tx, [f"k{number}" for number in range(1200)] + ["ending%"]) == {"ending%"}
        assert outbox.known(tx, []) == set()
        assert outbox.count(tx, "acc_1", "ending:sub_1:") == 2
        assert outbox.count(tx, "acc_1", "ending%") == 1
        assert outbox.count(tx, "acc_3", "ending:") == 0
