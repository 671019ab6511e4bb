"""A deleted account: gone from every table and from the gateways, but for the books; its address begins anew."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from clawhaven.accounts import apikeys, erasure, links, sessions, signup
from clawhaven.accounts.models import Deletion, LoginSession
from clawhaven.billing import erasure as agreements
from clawhaven.billing import waitlist
from clawhaven.billing.models import InboxEvent, Subscription
from clawhaven.core import idempotency
from clawhaven.core.db import Database
from clawhaven.core.errors import Conflict, Invalid
from clawhaven.instances.states import State
from clawhaven.ledger import check_books
from clawhaven.notices import outbox
from clawhaven.notices.kinds import Letter
from clawhaven.notices.models import Notice
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import VendorState
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.workflows import balance, deletion, engine, reconcile, sign_in
from clawhaven.workflows.engine import StepFailed
from tests.workflows.scene import TOKEN, Scene

EMAIL = "zelda.quimby@example.com"
NAME = "Xanthippe"
TEXT = "Remember that my cat is called Ferdinand."
TRACES = ("zelda", "quimby", NAME, "Ferdinand", TOKEN, TOKEN.split(":")[1])


def traces(db: Database, words: tuple[str, ...] = TRACES) -> list[str]:
    """Every cell of every table, the engine's own included, that holds one of the words."""
    found = []
    with db.read() as session:
        looker = sa.inspect(session.get_bind())
        schemas = [None] if db.is_sqlite else [None, "dbos"]
        for schema in schemas:
            for table in looker.get_table_names(schema=schema):
                name = f'"{schema}"."{table}"' if schema else f'"{table}"'
                for row in session.execute(sa.text(f"SELECT * FROM {name}")).mappings():
                    found += [
                        f"{name}.{column}: {word}"
                        for column, value in row.items()
                        for word in words
                        if word.lower() in _text(value).lower()
                    ]
    return sorted(set(found))


def _text(value: Any) -> str:
    return bytes(value).decode(errors="replace") if isinstance(value, bytes | memoryview) else str(value)


def furnish(scene: Scene) -> str:
    """A customer with a living assistant, one that waits for payment, a bot, a key, credit; returns the account."""
    begun = scene.live(EMAIL, assistant_name=NAME, custom_instructions=TEXT)
    scene.connected(begun)
    ctx, now, owner = scene.ctx, scene.ctx.clock.now(), begun.owner
    with ctx.db.tx() as db:
        owner = signup.owner_of(db, owner.account.id)
        links.verify(db, owner.user.id, now)
        apikeys.issue(db, owner, f"laptop of {EMAIL}", ["read"], now)
        sessions.open_session(db, owner.user.id, now, days=7, user_agent="Zelda's browser")
        links.issue(db, owner.user.id, now)
        balance.give_credit(db, ctx, owner.account.id, 5_000_000, "For the outage", "user:usr_boss", key="credit-1")
    return owner.account.id


def delete(scene: Scene, account_id: str) -> None:
    with scene.ctx.db.tx() as db:
        deletion.begin(db, scene.ctx, signup.owner_of(db, account_id), "user:me")


def test_nothing_is_left_but_the_books(scene: Scene) -> None:
    account_id = furnish(scene)
    assert {line.rpartition(": ")[2] for line in traces(scene.ctx.db)} >= {"zelda", NAME, "Ferdinand"}
    with engine.running(scene.ctx):
        delete(scene, account_id)
        with scene.ctx.db.read() as db:
            assert db.scalar(sa.select(sa.func.count()).select_from(LoginSession)) == 0, "signed out at once"
            assert signup.find_owner(db, EMAIL) is None, "the address is free at once"
            assert erasure.is_under_way(db, account_id)
        scene.wait(lambda: scene.count("account_deletion", "ended_at IS NULL") == 0)
        scene.wait(lambda: scene.count("workflow_status", "status IN ('PENDING', 'ENQUEUED')") == 0)
    assert traces(scene.ctx.db) == []
    assert scene.count("instance", "state <> 'deleted'") == 0
    assert scene.count("subscription", "state <> 'canceled'") == 0
    assert scene.vendor.list_subscriptions() == []
    assert scene.world.list() == []
    for table in ("api_key", "sign_in_link", "channel_connection", "model_grant", "vendor_customer"):
        assert scene.count(table) == 0, table
    last = scene.mailbox.letters[-1]
    assert (last.to, last.subject) == (EMAIL, "Your account at Clawhaven is deleted")
    assert "$5.00" in last.text
    assert account_id in last.text
    with scene.ctx.db.read() as db:
        assert check_books(db) == []
        assert deletion.left_micros(db, account_id) == 5_000_000
    assert scene.count("receipt") == 1
    assert scene.count("ledger_entry") > 1


def test_the_address_begins_anew(scene: Scene) -> None:
    account_id = furnish(scene)
    with engine.running(scene.ctx):
        delete(scene, account_id)
        again = scene.sign_up(EMAIL)
        assert again.owner.account.id != account_id
        scene.wait(lambda: scene.count("account_deletion", "ended_at IS NULL") == 0)
    with scene.ctx.db.tx() as db:
        assert sign_in.mail_link(db, scene.ctx, EMAIL)
        found = signup.find_owner(db, EMAIL)
        assert found is not None
        assert found.account.id == again.owner.account.id
    assert scene.instance(again.instance.id).state == State.PENDING


def test_only_with_the_address_typed_and_only_once(scene: Scene) -> None:
    account_id = furnish(scene)
    now = scene.ctx.clock.now()
    with scene.ctx.db.read() as db:
        owner = signup.owner_of(db, account_id)
    for wrong in ("", "yes", "zelda@example.com"):
        with scene.ctx.db.tx() as db, pytest.raises(Invalid) as caught:
            deletion.ask(db, scene.ctx, owner, wrong, "user:me", now)
        assert caught.value.details["field"] == "confirm"
    assert scene.count("account_deletion") == 0
    with scene.ctx.db.tx() as db:
        assert deletion.ask(db, scene.ctx, owner, f" {EMAIL.upper()} ", "user:me", now)
    with pytest.raises(Conflict), scene.ctx.db.tx() as db:
        deletion.ask(db, scene.ctx, owner, EMAIL, "user:me", now)
    assert scene.count("account_deletion") == 1


def test_deletions_that_cannot_end_hold_no_other_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than the queue has places: with one that slept in its place, the last one would never begin."""
    monkeypatch.setattr(deletion, "WAITS", (1, 1, 1, 1, 1, 600))
    stuck, ctx = [], scene.ctx
    for number in range(20):
        begun = scene.sign_up(f"stuck{number}@example.com")
        stuck.append(begun.owner.account.id)
    last = scene.sign_up(EMAIL).owner
    looked: set[str] = set()

    def look(account_id: str) -> bool:
        looked.add(account_id)
        if account_id in stuck:
            raise StepFailed("vendor_down", "no answer", is_away=True)
        return True

    monkeypatch.setattr(deletion, "end_agreements", look)
    with ctx.db.tx() as db:
        for account_id in stuck:
            deletion.begin(db, ctx, signup.owner_of(db, account_id), "user:me")
    with engine.running(ctx):
        scene.wait(lambda: len(looked) == 20)
        with ctx.db.tx() as db:
            deletion.begin(db, ctx, signup.owner_of(db, last.account.id), "user:me")
        scene.wait(lambda: scene.count("account_deletion", "ended_at IS NOT NULL") == 1)
    assert scene.count("account_deletion", "ended_at IS NULL") == 20


def test_work_that_broke_off_goes_on(scene: Scene) -> None:
    account_id = furnish(scene)
    delete(scene, account_id)
    engine_row = "workflow_uuid LIKE 'delete_account:%'"
    with scene.ctx.db.tx() as db:
        schema = "" if scene.ctx.db.is_sqlite else "dbos."
        db.execute(sa.text(f"UPDATE {schema}workflow_status SET status = 'ERROR' WHERE {engine_row}"))
    assert account_id not in {one.subject for one in reconcile.find(scene.ctx)}, "young work is on its way"
    scene.ctx.clock.advance(reconcile.PATIENCE + timedelta(seconds=1))
    found = {one.subject: one.repair for one in reconcile.find(scene.ctx)}
    assert found[account_id] == "asked for again"
    assert account_id not in {one.subject for one in reconcile.find(scene.ctx)}
    with engine.running(scene.ctx):
        scene.wait(lambda: scene.count("account_deletion", "ended_at IS NULL") == 0)
    assert traces(scene.ctx.db) == []


def test_a_vendor_that_is_away_is_asked_until_it_answers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    account_id, refused = furnish(scene), []
    fetch = Sandbox.fetch

    def refuse(vendor: Sandbox, reference: str) -> VendorState:
        if len(refused) < 7:
            refused.append(reference)
            raise ProviderError("no answer", code="vendor_down")
        return fetch(vendor, reference)

    monkeypatch.setattr(Sandbox, "fetch", refuse)
    monkeypatch.setattr(deletion, "WAITS", (0,))
    monkeypatch.setattr(deletion, "TOLD_AFTER", 1)
    with engine.running(scene.ctx):
        delete(scene, account_id)
        scene.wait(lambda: scene.count("account_deletion", "ended_at IS NULL") == 0, 90)
        scene.wait(lambda: scene.count("workflow_status", "status IN ('PENDING', 'ENQUEUED')") == 0)
    assert len(refused) == 7
    assert scene.count("subscription", "state <> 'canceled'") == 0
    told = [one for one in scene.mailbox.letters if one.subject.startswith("An account cannot be deleted yet")]
    assert len(told) == 1
    assert traces(scene.ctx.db) == []


def test_a_last_letter_that_nobody_takes_does_not_keep_the_account(scene: Scene) -> None:
    account_id = furnish(scene)
    with engine.running(scene.ctx):
        scene.wait(lambda: scene.count("notice", "state = 'pending'") == 0)
        scene.mailbox.refusals = [ProviderError("no such mailbox", permanent=True)] * 50
        delete(scene, account_id)
        scene.wait(lambda: scene.count("account_deletion", "ended_at IS NULL") == 0)
    assert traces(scene.ctx.db) == []
    with scene.ctx.db.read() as db:
        assert db.get_one(Deletion, account_id).sealed_email == ""


def test_a_dispute_is_settled_without_its_owner(scene: Scene) -> None:
    begun = scene.live(EMAIL, assistant_name=NAME)
    (payment,) = scene.vendor.fetch(scene.reference(begun)).payments
    scene.vendor.dispute(payment.reference, "open")
    scene.settle(begun)
    with engine.running(scene.ctx):
        delete(scene, begun.owner.account.id)
        scene.wait(lambda: scene.count("account_deletion", "ended_at IS NULL") == 0)
        scene.vendor.dispute(payment.reference, "lost")
        scene.settle(begun)
        scene.wait(lambda: scene.count("workflow_status", "status IN ('PENDING', 'ENQUEUED')") == 0)
    with scene.ctx.db.read() as db:
        assert check_books(db) == []
    assert scene.count("receipt", "dispute = 'lost'") == 1
    assert traces(scene.ctx.db) == [], "the operator's alert names the number alone"


def test_what_vendors_say_afterwards_is_emptied(scene: Scene) -> None:
    account_id = furnish(scene)
    delete_at = scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        reference = db.scalars(sa.select(Subscription.reference)).one()
        for state in ("handled", "received"):
            db.add(
                InboxEvent(
                    id=f"pev_{state}",
                    provider="sandbox",
                    event_id=state,
                    kind="other",
                    vendor_type="customer.updated",
                    subscription_reference=reference,
                    body=EMAIL.encode(),
                    state=state,
                    vendor_created_at=delete_at,
                    received_at=delete_at,
                )
            )
    delete(scene, account_id)
    with scene.ctx.db.tx() as db:
        gone = erasure.ended_since(db, delete_at)
        assert (gone, agreements.erase_events(db, gone), agreements.erase_events(db, gone)) == ([account_id], 1, 0)
        bodies = dict(db.execute(sa.select(InboxEvent.state, InboxEvent.body)).tuples().all())
    assert bodies == {"handled": b"", "received": EMAIL.encode()}, "what waits to be applied stays whole until then"


def test_only_what_belongs_to_the_account_is_erased(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_context", scene.ctx)
    ctx, now = scene.ctx, scene.ctx.clock.now()
    mine = "n@gmail.com"
    begun = scene.sign_up(mine)
    account_id = begun.owner.account.id

    def write(key: str, subject: str, recipient: str, kind: str = "place_free", owner: str | None = None) -> None:
        with ctx.db.tx() as db:
            letter = Letter(kind, subject, f"About {mine}.")
            assert outbox.write(db, key, letter, recipient, ctx.keys, ctx.clock.now(), owner)

    others = {
        "place:joann@gmail.com": ("A place", "joann@gmail.com", "place_free"),
        "place:n@gmail.com.au": ("A place", "n@gmail.com.au", "place_free"),
        "alert-1": ("A payment of $9.00: joann@gmail.com", "help@example.com", "alert"),
        "alert-2": ("A payment of $9.00: n@gmail.com.au", "help@example.com", "alert"),
        "alert-3": ("Somebody else's: n@gmail.com", "help@example.com", "alert"),
        f"place:{mine}": ("A place", mine, "place_free"),
    }
    for key, (subject, recipient, kind) in others.items():
        write(key, subject, recipient, kind)
    write(f"spend-spike:{account_id}:1", f"{mine} spends more", "help@example.com", "alert")
    with ctx.db.tx() as db:
        waitlist.join(db, mine, now)
        deletion.begin(db, ctx, signup.owner_of(db, account_id), "user:me")
    deletion.erase(account_id)
    kept = letters_of(ctx.db)
    for key, (subject, recipient, _) in others.items():
        assert kept[key] == (subject, recipient, "pending", None), "nobody had proved that the address was theirs"
    assert scene.count("waitlist") == 1
    told = kept[f"spend-spike:{account_id}:1"]
    assert told == (f"{account_id} spends more", "help@example.com", "pending", None), "the alert goes on"
    with ctx.db.read() as db:
        row = db.scalars(sa.select(Notice).where(Notice.key.startswith("spend-spike"))).one()
        message = outbox.message(db, row.id, ctx.keys)
    assert message is not None
    assert message.text == f"About {account_id}."


def test_a_proved_address_takes_its_own_letters_and_none_of_a_later_account(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_context", scene.ctx)
    ctx = scene.ctx
    account_id = furnish(scene)

    def write(key: str, subject: str, recipient: str, kind: str, owner: str | None = None) -> None:
        with ctx.db.tx() as db:
            assert outbox.write(db, key, Letter(kind, subject, "Text."), recipient, ctx.keys, ctx.clock.now(), owner)
            idempotency.begin(db, "address:1", key, "hash", ctx.clock.now())
            idempotency.finish(db, "address:1", key, idempotency.Answer(201, {"email": recipient}))

    write("before", "A place", EMAIL, "place_free")
    write("alert", f"A payment of $9.00: {EMAIL}", "help@example.com", "alert")
    write("longer", f"A payment of $9.00: x{EMAIL}", f"x{EMAIL}", "alert")
    scene.ctx.clock.advance(timedelta(minutes=1))
    delete(scene, account_id)
    scene.ctx.clock.advance(timedelta(minutes=1))
    again = scene.sign_up(EMAIL)
    write("after", "A place", EMAIL, "place_free")
    write("new", "Welcome", EMAIL, "welcome", again.owner.account.id)
    with ctx.db.tx() as db:
        waitlist.join(db, EMAIL, ctx.clock.now())
    deletion.erase(account_id)
    kept = letters_of(ctx.db)
    assert kept["before"] == ("", "", "failed", None)
    assert kept["alert"] == (f"A payment of $9.00: {account_id}", "help@example.com", "pending", None)
    assert kept["longer"] == (f"A payment of $9.00: x{EMAIL}", f"x{EMAIL}", "pending", None)
    assert kept["after"] == ("A place", EMAIL, "pending", None)
    assert kept["new"] == ("Welcome", EMAIL, "pending", None)
    assert scene.count("waitlist") == 1
    with ctx.db.read() as db:
        left = db.scalars(sa.select(idempotency.IdempotencyKey.key).order_by(idempotency.IdempotencyKey.key)).all()
    assert left == ["after", "alert", "longer", "new"]


def letters_of(db: Database) -> dict[str, tuple[str, str, str, Any]]:
    with db.read() as session:
        found = session.scalars(sa.select(Notice)).all()
    return {one.key: (one.subject, one.recipient, one.state, one.closed_at) for one in found}
