"""Payment vendors hear of a new address and of the end of an account: once, in order, and as soon as they answer."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from clawhaven.accounts import addresses, links, signup
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.workflows import addresses as moves
from clawhaven.workflows import customers, deletion, engine
from tests.workflows.scene import Scene


def at_vendor(scene: Scene) -> list[tuple[str, str | None]]:
    """(address, card) of every customer at the sandbox."""
    with closing(sqlite3.connect(scene.ctx.settings.data_dir / "sandbox-payments.sqlite3")) as db:
        return list(db.execute("SELECT email, card FROM customers ORDER BY reference"))


def move(scene: Scene, account_id: str, *emails: str) -> None:
    for email in emails:
        with scene.ctx.db.tx() as db:
            owner, now = signup.owner_of(db, account_id), scene.ctx.clock.now()
            links.verify(db, owner.user.id, now)
            db.refresh(owner.user)
            moves.prove(db, scene.ctx, addresses.ask(db, owner, email, now).token)


def test_a_new_address_reaches_the_vendor_and_the_last_one_wins(scene: Scene) -> None:
    begun = scene.live("ada@example.com")
    move(scene, begun.owner.account.id, "new@example.com", "newer@example.com")
    assert at_vendor(scene)[0][0] == "ada@example.com"
    with engine.running(scene.ctx):
        scene.wait(lambda: scene.count("workflow_status", "name = 'move_customer' AND status = 'SUCCESS'") == 2)
    assert [email for email, _ in at_vendor(scene)] == ["newer@example.com"]


def test_who_never_paid_is_no_customer(scene: Scene) -> None:
    move(scene, scene.sign_up("ada@example.com").owner.account.id, "new@example.com")
    assert scene.count("workflow_status", "name = 'move_customer'") == 0


@pytest.mark.parametrize("is_permanent", [False, True])
def test_a_vendor_that_is_away_is_asked_later_and_one_that_refuses_is_told_of(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, is_permanent: bool
) -> None:
    account_id, tries = scene.live("ada@example.com").owner.account.id, 0
    real = Sandbox.move_customer

    def refuse(vendor: Sandbox, reference: str, email: str) -> None:
        nonlocal tries
        tries += 1
        if is_permanent or tries < 3:
            raise ProviderError("no", permanent=is_permanent, code="no")
        real(vendor, reference, email)

    monkeypatch.setattr(Sandbox, "move_customer", refuse)
    monkeypatch.setattr(customers, "WAITS", (0,))
    with engine.running(scene.ctx):
        move(scene, account_id, "new@example.com")
        if is_permanent:
            scene.wait(lambda: any("did not reach" in one.subject for one in scene.mailbox.letters))
        else:
            scene.wait(lambda: at_vendor(scene)[0][0] == "new@example.com")
    assert tries == (1 if is_permanent else 3)
    assert any("did not reach" in one.subject for one in scene.mailbox.letters) is is_permanent


def test_the_end_of_an_account_takes_its_customer_out(scene: Scene) -> None:
    begun = scene.live("ada@example.com")
    assert at_vendor(scene)[0] == ("ada@example.com", "works")
    with engine.running(scene.ctx):
        with scene.ctx.db.tx() as db:
            deletion.begin(db, scene.ctx, signup.owner_of(db, begun.owner.account.id), "user:me")
        scene.wait(lambda: scene.count("account_deletion", "ended_at IS NOT NULL") == 1)
    assert at_vendor(scene) == [("", None)]
    seen = scene.vendor.fetch(scene.reference(begun))
    assert [one.amount_micros for one in seen.payments] == [29_000_000], "the vendor's books stay"


def test_a_customer_that_a_vendor_keeps_is_told_and_keeps_no_account(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = scene.live("ada@example.com")

    def refuse(_vendor: Sandbox, _reference: str) -> None:
        raise ProviderError("Has an open case.", permanent=True, code="no")

    monkeypatch.setattr(Sandbox, "remove_customer", refuse)
    with engine.running(scene.ctx):
        with scene.ctx.db.tx() as db:
            deletion.begin(db, scene.ctx, signup.owner_of(db, begun.owner.account.id), "user:me")
        scene.wait(lambda: scene.count("account_deletion", "ended_at IS NOT NULL") == 1)
        scene.wait(lambda: any("is still at sandbox" in one.subject for one in scene.mailbox.letters))
