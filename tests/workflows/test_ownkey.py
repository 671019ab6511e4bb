"""A customer's own model key: tested, sealed, followed by the assistant, removed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import sqlalchemy as sa

from clawhaven.context import Context
from clawhaven.core.errors import AppError, Conflict, IllegalMove, Invalid, RateLimited, Unavailable
from clawhaven.core.secrets import hash_token
from clawhaven.instances.drafts import PROXY_KEY_PURPOSE
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.metering import OWN_KEY_PURPOSE, Ask, grants, open_call, ownkeys
from clawhaven.ports.errors import ProviderError
from clawhaven.wiring import Guarded
from clawhaven.workflows import access, lifecycle, ownkey
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene

KEY = "sk-sandbox-customers-1234"
ACTOR = "user:test"


class StrictVendor:
    """Takes GOOD alone; says of others what it was told to say."""

    is_ready = False
    keys_url = "https://vendor.example/keys"

    def __init__(self, name: str, prefix: str, problem: ProviderError | None = None) -> None:
        self.name, self.label, self.key_prefix = name, name.capitalize(), prefix
        self.problem = problem
        self.asked: list[str] = []

    def check_key(self, api_key: str) -> None:
        self.asked.append(api_key)
        if self.problem:
            raise self.problem


def with_vendors(scene: Scene, *vendors: Any) -> Context:
    return dataclasses.replace(
        scene.ctx, upstreams={**scene.ctx.upstreams, **{vendor.name: Guarded(vendor) for vendor in vendors}}
    )


def kept(scene: Scene, instance_id: str) -> tuple[str, str] | None:
    """(vendor, key) at rest, and the same in the grant where there is one."""
    with scene.ctx.db.read() as db:
        found, grant = ownkeys.find(db, instance_id), grants.grant_of(db, instance_id)
    key = scene.ctx.keys.open(found.sealed, OWN_KEY_PURPOSE) if found else None
    if grant is not None:
        assert grant.own_key_sealed == (found.sealed if found else None)
        assert grant.own_key_upstream == (found.upstream if found else None)
    return (found.upstream, key) if found and key else None


def call(scene: Scene, begun: Begun, model: str = "sandbox-1") -> Any:
    """A model call of the assistant, as the proxy opens it."""
    ctx = scene.ctx
    key_hash = hash_token(ctx.keys.open(begun.instance.proxy_key, PROXY_KEY_PURPOSE))
    with ctx.db.tx() as db:
        ask = Ask(model, "anthropic-messages", 10, 10)
        return open_call(db, ask, key_hash=key_hash, upstreams=list(ctx.upstreams), now=ctx.clock.now())


def test_up_without_a_key_and_answering_once_there_is_one(scene: Scene) -> None:
    ada = scene.live(plan="monthly")
    assert scene.instance(ada.instance.id).state == State.ACTIVE
    with pytest.raises(AppError, match="no model key yet") as caught:
        call(scene, ada)
    assert (caught.value.error_code, caught.value.details) == ("no_own_key", {"instance_id": ada.instance.id})
    assert scene.count("usage") == 0
    ownkey.put(scene.ctx, ada.instance.id, f" {KEY}\n", "", ACTOR)
    assert kept(scene, ada.instance.id) == ("sandbox", KEY)
    opened = call(scene, ada)
    assert scene.ctx.keys.open(opened.own_key_sealed, OWN_KEY_PURPOSE) == KEY
    assert opened.held_micros == 0
    with scene.ctx.db.tx() as db:
        assert ownkey.remove(db, scene.ctx, ada.instance.id, ACTOR) is True
        assert ownkey.remove(db, scene.ctx, ada.instance.id, ACTOR) is False
    assert kept(scene, ada.instance.id) is None
    with pytest.raises(AppError, match="no model key yet"):
        call(scene, ada)
    assert scene.count("audit_log", "action LIKE 'instance.own_key.%'") == 2


def test_a_key_given_before_the_assistant_exists_is_in_its_grant(scene: Scene) -> None:
    ada = scene.sign_up(plan="yearly")
    ownkey.put(scene.ctx, ada.instance.id, KEY, "", ACTOR)
    scene.pay(ada)
    scene.bring_up(ada.instance.id)
    assert kept(scene, ada.instance.id) == ("sandbox", KEY)
    assert call(scene, ada).own_key_sealed
    # A second grant of the same assistant (a new attempt, a change of plan) keeps the key.
    with scene.ctx.db.tx() as db:
        instance = db.get_one(Instance, ada.instance.id)
        access.grant(db, scene.ctx, instance, scene.ctx.keys.open(instance.proxy_key, PROXY_KEY_PURPOSE))
    assert kept(scene, ada.instance.id) == ("sandbox", KEY)


def test_the_assistant_follows_to_its_keys_vendor(scene: Scene) -> None:
    ada = scene.live(plan="monthly")
    strict = StrictVendor("anthropic", "sk-ant-")
    ctx = with_vendors(scene, strict, StrictVendor("openai", "sk-"))
    ownkey.put(ctx, ada.instance.id, "sk-ant-api03-customer", "", ACTOR)
    assert strict.asked == ["sk-ant-api03-customer"]
    assert scene.instance(ada.instance.id).model == "claude-sonnet-5-5"
    assert scene.count("operation", "kind = 'configure'") == 0  # it was set to this vendor's model from the start
    with ctx.db.read() as db:
        assert ownkey.model_vendors(db, ctx, db.get_one(Instance, ada.instance.id)) == {"anthropic"}
    with pytest.raises(Invalid, match="not known here"):
        call(scene, ada, "sandbox-1")
    ownkey.put(ctx, ada.instance.id, "sk-ant-api03-another", "anthropic", ACTOR)
    assert scene.count("operation", "kind = 'configure'") == 0
    ownkey.put(ctx, ada.instance.id, "sk-proj-customer", "", ACTOR)
    assert scene.instance(ada.instance.id).model == "gpt-6-luna"
    assert scene.count("operation", "kind = 'configure'") == 1


def test_models_to_choose_from(scene: Scene) -> None:
    own, included = scene.sign_up("own@example.com", plan="monthly"), scene.sign_up("inc@example.com")
    ctx = with_vendors(scene, StrictVendor("anthropic", "sk-ant-"), StrictVendor("openai", "sk-"))
    with ctx.db.read() as db:
        assert ownkey.model_vendors(db, ctx, db.get_one(Instance, included.instance.id)) == {"sandbox"}
        found = ownkey.model_vendors(db, ctx, db.get_one(Instance, own.instance.id))
    assert found == {"sandbox", "anthropic", "openai"}


@pytest.mark.parametrize(
    ("key", "vendor", "field"),
    [
        ("", "", "api_key"),
        ("short", "", "api_key"),
        ("sk-ant-" + "x" * 400, "", "api_key"),
        ("sk-ant-two words", "", "api_key"),
        ("sk-ant-ключключ", "", "api_key"),
        ("nobodys-key-at-all", "", "vendor"),
        (KEY, "google", "vendor"),
        ("sk-ant-api03-customer", "openai", "vendor"),
        ("sk-proj-customer", "anthropic", "vendor"),
    ],
)
def test_what_is_no_key_is_sent_to_nobody(scene: Scene, key: str, vendor: str, field: str) -> None:
    ada = scene.live(plan="monthly")
    strict = [StrictVendor("anthropic", "sk-ant-"), StrictVendor("openai", "sk-")]
    with pytest.raises(Invalid) as caught:
        ownkey.put(with_vendors(scene, *strict), ada.instance.id, key, vendor, ACTOR)
    assert caught.value.details["field"] == field
    assert len(key) < 8 or key not in str(caught.value)
    assert [one.asked for one in strict] == [[], []]
    assert kept(scene, ada.instance.id) is None


def test_a_compatible_vendors_key_may_look_like_anything(scene: Scene) -> None:
    ada = scene.live(plan="monthly")
    strict = StrictVendor("openai", "sk-")
    ownkey.put(with_vendors(scene, strict), ada.instance.id, "gsk_compatible", "openai", ACTOR)
    assert strict.asked == ["gsk_compatible"]
    assert kept(scene, ada.instance.id) == ("openai", "gsk_compatible")


@pytest.mark.parametrize(
    ("problem", "kind", "code"),
    [
        (ProviderError("no", permanent=True, code="invalid_api_key"), Invalid, "invalid_api_key"),
        (ProviderError("no", permanent=True, code="restricted_api_key"), Invalid, "restricted_api_key"),
        (ProviderError("no", code="vendor_down"), Unavailable, "unavailable"),
    ],
)
def test_a_key_that_is_not_accepted_leaves_the_one_before(
    scene: Scene, problem: ProviderError, kind: type[AppError], code: str
) -> None:
    ada = scene.live(plan="monthly")
    ownkey.put(scene.ctx, ada.instance.id, KEY, "", ACTOR)
    ctx = with_vendors(scene, StrictVendor("anthropic", "sk-ant-", problem))
    with pytest.raises(kind) as caught:
        ownkey.put(ctx, ada.instance.id, "sk-ant-api03-customer", "", ACTOR)
    assert (caught.value.error_code, caught.value.details["field"]) == (code, "api_key")
    assert "sk-ant-api03-customer" not in str(caught.value)
    assert kept(scene, ada.instance.id) == ("sandbox", KEY)
    assert scene.instance(ada.instance.id).model == "sandbox-1"


def test_other_plans_and_deleted_assistants_take_none(scene: Scene) -> None:
    included, gone = scene.live("inc@example.com"), scene.sign_up("gone@example.com", plan="monthly")
    with pytest.raises(Conflict, match="comes with the model") as caught:
        ownkey.put(scene.ctx, included.instance.id, KEY, "", ACTOR)
    assert caught.value.error_code == "not_own_key"
    with scene.ctx.db.tx() as db:
        lifecycle.ask_delete(db, scene.ctx, gone.instance.id, ACTOR)
    with pytest.raises(IllegalMove):
        ownkey.put(scene.ctx, gone.instance.id, KEY, "", ACTOR)
    assert scene.count("own_key") == 0


def test_nobody_tries_many_keys(scene: Scene) -> None:
    ada = scene.live(plan="monthly")
    ctx = with_vendors(scene, StrictVendor("anthropic", "sk-ant-", ProviderError("no", permanent=True)))
    for number in range(ownkey.TESTS_PER_MINUTE):
        with pytest.raises(Invalid):
            ownkey.put(ctx, ada.instance.id, f"sk-ant-guess-{number}", "", ACTOR)
    with pytest.raises(RateLimited):
        ownkey.put(ctx, ada.instance.id, "sk-ant-one-more", "", ACTOR)


def test_a_deleted_assistants_key_is_forgotten(scene: Scene) -> None:
    ada = scene.live(plan="monthly")
    ownkey.put(scene.ctx, ada.instance.id, KEY, "", ACTOR)
    with scene.ctx.db.tx() as db:
        access.revoke(db, ada.instance.id)
    assert kept(scene, ada.instance.id) is None


def test_the_key_is_in_no_table(scene: Scene) -> None:
    ada = scene.live(plan="monthly")
    ownkey.put(scene.ctx, ada.instance.id, KEY, "", ACTOR)
    with scene.ctx.db.read() as db:
        for table in sa.inspect(db.connection()).get_table_names():
            rows = db.execute(sa.text(f'SELECT * FROM "{table}"')).all()
            assert KEY not in str(rows), table
