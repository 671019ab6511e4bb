"""Keys for programs end with their assistant, and stand in the export without their secret."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from clawhaven.accounts import apikeys, links, operators, signup
from clawhaven.core.errors import Unauthorized
from clawhaven.core.secrets import hash_token
from clawhaven.instances.models import Instance
from clawhaven.metering import programs
from clawhaven.workflows import access, export, keys
from tests.workflows.scene import Scene


def test_a_key_is_exported_without_its_secret_and_ends_with_its_assistant(scene: Scene) -> None:
    begun, ctx = scene.live(), scene.ctx
    with ctx.db.tx() as db:
        owner = signup.owner_of(db, begun.owner.account.id)
        links.verify(db, owner.user.id, ctx.clock.now())
        instance = db.get_one(Instance, begun.instance.id)
        key, secret = keys.make_program_key(db, ctx, owner, instance, "Site search", "user:me")
    with ctx.db.read() as db:
        owner = signup.owner_of(db, begun.owner.account.id)
    text = "".join(export.export(ctx, owner))
    (assistant,) = json.loads(text)["assistants"]
    (told,) = assistant["program_keys"]
    assert (told["name"], told["begins_with"], told["last_used_at"]) == ("Site search", key.prefix, None)
    assert secret not in text
    assert key.key_hash not in text
    with ctx.db.tx() as db:
        access.revoke(db, begun.instance.id)
        with pytest.raises(Unauthorized):
            programs.find_bearer(db, hash_token(secret))
    assert scene.count("program_key") == 0


def test_a_key_that_was_revoked_in_the_meantime_makes_none(scene: Scene) -> None:
    begun, ctx = scene.live(), scene.ctx
    with ctx.db.tx() as db:
        owner = signup.owner_of(db, begun.owner.account.id)
        links.verify(db, owner.user.id, ctx.clock.now())
        maker, _ = apikeys.issue(db, owner, "maker", ["write", "keys"], ctx.clock.now())
        keys.revoke_api_key(db, ctx, owner.account.id, maker.id, "user:me")
    with ctx.db.tx() as db:
        instance = db.get_one(Instance, begun.instance.id)
        with pytest.raises(Unauthorized):
            keys.make_program_key(db, ctx, owner, instance, "late", "key:x", maker.id)
        with pytest.raises(Unauthorized):
            apikeys.issue(db, owner, "late", ["write"], ctx.clock.now(), made_by=maker.id)
    assert scene.count("program_key") == 0
    assert scene.count("api_key") == 1


def test_what_a_dismissed_operators_keys_made_ends_with_them(scene: Scene) -> None:
    begun, ctx = scene.live(), scene.ctx
    email = begun.owner.user.email
    with ctx.db.tx() as db:
        owner = operators.appoint(db, email, ctx.clock.now())
        links.verify(db, owner.user.id, ctx.clock.now())
        maker, _ = apikeys.issue(db, owner, "maker", ["write", "keys"], ctx.clock.now())
        instance = db.get_one(Instance, begun.instance.id)
        keys.make_program_key(db, ctx, owner, instance, "made by a key", "key:x", maker.id)
        mine, _ = keys.make_program_key(db, ctx, owner, instance, "made by hand", "user:me")
    for _ in range(2):
        with ctx.db.tx() as db:
            keys.dismiss_operator(db, ctx, email)
    with ctx.db.read() as db:
        assert [one.id for one in programs.list_keys(db, begun.instance.id)] == [mine.id]
    assert scene.count("audit_log", "action = 'program_key.revoke'") == 1


def test_the_proxys_address_is_the_operators_to_say(scene: Scene) -> None:
    base = scene.ctx.settings.base_url
    assert keys.addresses(scene.ctx) == keys.Addresses(f"{base}/proxy", f"{base}/proxy/v1")
    settings = scene.ctx.settings.model_copy(update={"proxy_public_url": "https://models.example"})
    told = keys.addresses(replace(scene.ctx, settings=settings))
    assert told == keys.Addresses("https://models.example", "https://models.example/v1")
