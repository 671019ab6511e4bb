"""Once per person, by an address's fingerprint; the keys of the ring can change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from clawhaven.billing import once
from clawhaven.billing.models import OncePerPerson
from clawhaven.core.db import Database
from clawhaven.core.secrets import KeyRing

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
OLD, NEW = KeyRing([b"o" * 32]), KeyRing([b"n" * 32, b"o" * 32])
ADA = once.prints_of(OLD, "ada@example.com")


def test_an_address_in_its_plain_form() -> None:
    plain = once.plain_address
    assert plain("Ada.L+two@googlemail.com") == plain("adal@gmail.com") == "adal@gmail.com"
    assert plain("ada.l+two@Example.com") == "ada.l@example.com"
    assert plain("+@example.com") == "+@example.com"


def test_one_of_many_has_it(db: Database) -> None:
    def take(number: int) -> bool:
        with db.tx() as tx:
            return once.take(tx, once.TRIAL, ADA, f"chk_{number}", NOW)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(16))) == 1
    with db.tx() as tx:
        assert once.take(tx, once.coupon("HALF"), ADA, None, NOW), "something else"
        assert once.take(tx, once.TRIAL, once.prints_of(OLD, "grace@example.com"), None, NOW), "somebody else"


def test_a_page_gives_back_what_was_taken_with_it_and_nothing_that_is_kept(db: Database) -> None:
    with db.tx() as tx:
        assert once.take(tx, once.TRIAL, ADA, "chk_1", NOW)
        once.release(tx, "chk_2")
        assert once.is_taken(tx, once.TRIAL, ADA)
        once.release(tx, "chk_1")
        assert not once.is_taken(tx, once.TRIAL, ADA)
        assert once.take(tx, once.TRIAL, ADA, "chk_3", NOW)
        once.keep(tx, once.TRIAL, ADA, NOW)
        once.release(tx, "chk_3")
        assert once.is_taken(tx, once.TRIAL, ADA)
        once.keep(tx, once.coupon("HALF"), ADA, NOW)
        assert once.is_taken(tx, once.coupon("HALF"), ADA)


def test_a_new_key_knows_who_was_known_under_the_old_one_and_no_row_has_an_address(db: Database) -> None:
    with db.tx() as tx:
        once.keep(tx, once.TRIAL, ADA, NOW)
        assert once.is_taken(tx, once.TRIAL, once.prints_of(NEW, "ada+x@example.com"))
        assert not once.take(tx, once.TRIAL, once.prints_of(NEW, "ada@example.com"), None, NOW)
        assert not once.is_taken(tx, once.TRIAL, once.prints_of(KeyRing([b"n" * 32]), "ada@example.com"))
        (found,) = tx.query(OncePerPerson)
        assert "ada" not in found.person
        assert len(found.person) == 64
