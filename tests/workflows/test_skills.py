"""Skills of an assistant: what the gateway's files say of them, who may have them, and what is left of a key."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from clawhaven.context import Context
from clawhaven.core.errors import Conflict, IllegalMove, Invalid, RateLimited, Unavailable
from clawhaven.instances import config, skillset
from clawhaven.instances.models import Instance
from clawhaven.instances.skills import SkillCatalogue
from clawhaven.instances.states import State
from clawhaven.providers.skills.brave import Brave
from clawhaven.providers.skills.elevenlabs import ElevenLabs
from clawhaven.wiring import Guarded
from clawhaven.workflows import export, files, lifecycle, sign_in, skills
from clawhaven.workflows.checkout import Begun
from tests.fakes.skill_vendors import BRAVE_KEY, VOICE_KEY, SkillVendors
from tests.instances.test_skills import ARCHIVE, RECIPES
from tests.workflows.scene import Scene

ACTOR = "user:test"


@pytest.fixture
def vendors() -> Iterator[SkillVendors]:
    with SkillVendors() as running:
        yield running


@pytest.fixture
def ctx(scene: Scene, vendors: SkillVendors) -> Context:
    """The scene's, with vendors on loopback."""
    settings = scene.ctx.settings
    ports = {
        "brave": Guarded(Brave(Brave.Options(brave_api_url=vendors.url), settings)),
        "elevenlabs": Guarded(ElevenLabs(ElevenLabs.Options(elevenlabs_api_url=vendors.url), settings)),
    }
    return dataclasses.replace(scene.ctx, skill_vendors=ports)


def turn(ctx: Context, begun: Begun, skill: str, is_on: bool) -> bool:
    with ctx.db.tx() as db:
        return skills.turn(db, ctx, begun.instance.id, skill, is_on, ACTOR) is not None


def put(ctx: Context, begun: Begun, skill: str, key: str) -> None:
    skills.put_key(ctx, begun.instance.id, begun.owner.account.id, skill, key, ACTOR)


def states_of(ctx: Context, begun: Begun) -> dict[str, str]:
    with ctx.db.read() as db:
        found = skills.of_instance(db, ctx, db.get_one(Instance, begun.instance.id))
    return {one.skill.id: one.state for one in found}


def written(scene: Scene, ctx: Context, begun: Begun) -> tuple[dict[str, Any], str]:
    """The configuration as the workflow of a change writes it, and the secrets."""
    files.apply_config(ctx, begun.instance.id)
    folder = scene.world.root / begun.instance.id
    text = (folder / config.CONFIG_PATH).read_text()
    for key in (BRAVE_KEY, VOICE_KEY):
        assert key not in text
    return json.loads(text), (folder / config.SECRETS_PATH).read_text()


def test_what_is_on_is_in_the_gateways_files_and_what_is_off_is_gone(scene: Scene, ctx: Context) -> None:
    ada = scene.live()
    usual, secrets = written(scene, ctx, ada)
    assert usual["tools"]["alsoAllow"][3:] == ["web_fetch", "automations", "memory_search", "memory_get"]
    assert usual["skills"]["allowBundled"] == ["weather"]
    assert BRAVE_KEY not in secrets
    put(ctx, ada, "web_search", BRAVE_KEY)
    put(ctx, ada, "voice", VOICE_KEY)
    full, secrets = written(scene, ctx, ada)
    assert set(full["tools"]["alsoAllow"]) - set(usual["tools"]["alsoAllow"]) == {"web_search", "tts"}
    assert full["tools"]["web"]["search"] == {"enabled": True, "provider": "brave"}
    (path,) = full["plugins"]["load"]["paths"]
    folder = scene.world.root / ada.instance.id / "state" / path.removeprefix("/s/")
    assert "registerWebSearchProvider" in (folder / "dist" / "keyed.js").read_text()
    assert json.loads(secrets)["skills"] == {"brave": BRAVE_KEY, "elevenlabs": VOICE_KEY}
    for skill in ("web_search", "voice", "reminders", "memory", "web_pages"):
        assert turn(ctx, ada, skill, False), skill
    bare, secrets = written(scene, ctx, ada)
    assert bare["tools"]["alsoAllow"] == ["read", "write", "edit"]
    assert bare["skills"]["allowBundled"] == ["none"]  # an empty list would mean all of OpenClaw's
    assert (bare["cron"]["enabled"], bare["plugins"]["slots"]["memory"]) == (False, "none")
    assert "brave" not in json.dumps(bare)
    assert "tts" not in bare
    assert "skills" not in json.loads(secrets)
    for skill in ("web_pages", "reminders", "memory"):
        turn(ctx, ada, skill, True)
    assert written(scene, ctx, ada)[0] == usual


def test_a_switch_that_would_do_nothing_is_refused(scene: Scene, ctx: Context) -> None:
    ada = scene.live()
    with pytest.raises(Invalid, match="needs a key of Brave Search first") as keyless:
        turn(ctx, ada, "web_search", True)
    assert keyless.value.error_code == "key_missing"
    turn(ctx, ada, "web_pages", False)
    assert states_of(ctx, ada)["weather"] == "needs_skill"
    turn(ctx, ada, "weather", False)
    with pytest.raises(Conflict, match="turn on web_pages first") as needed:
        turn(ctx, ada, "weather", True)
    assert needed.value.error_code == "skill_needed"
    with pytest.raises(Conflict, match="no browser where the assistants run") as absent:
        turn(ctx, ada, "browser", True)
    assert (absent.value.error_code, absent.value.details["why"]) == ("skill_unavailable", "browser")
    with pytest.raises(Invalid, match="Skills are web_pages"):
        turn(ctx, ada, "cooking", True)


def test_an_operators_offer_holds_for_what_was_chosen_before(scene: Scene, ctx: Context) -> None:
    ada = scene.live()
    put(ctx, ada, "voice", VOICE_KEY)
    turn(ctx, ada, "memory", False)
    text = f'[voice]\nplans = ["yearly"]\n[reminders]\nruntimes = ["docker"]\n[memory]\nis_offered = false\n{RECIPES}'
    narrow = dataclasses.replace(ctx, skills=SkillCatalogue.load(text, lambda name: ARCHIVE))
    assert states_of(narrow, ada) == {
        "web_pages": "on",
        "web_search": "needs_key",
        "reminders": "unavailable",
        "weather": "on",
        "voice": "unavailable",
        "browser": "unavailable",
        "canvas": "unavailable",
        "calls": "unavailable",
        "recipes": "off",
    }
    assert turn(narrow, ada, "recipes", True)
    built, secrets = written(scene, narrow, ada)
    assert built["skills"]["load"] == {"extraDirs": ["/s/clawhaven/skills/recipes"]}
    place = scene.world.root / ada.instance.id / "state" / "clawhaven" / "skills" / "recipes" / "recipes"
    assert "Suggest soup." in (place / "SKILL.md").read_text()
    assert "tts" not in built
    assert VOICE_KEY not in secrets
    assert "automations" not in built["tools"]["alsoAllow"]
    # Taken back by the operator, it is gone from the gateway with the next change, whatever was chosen.
    assert "load" not in written(scene, ctx, ada)[0]["skills"]


def test_keys_are_tested_few_a_minute_and_kept_only_when_they_work(
    scene: Scene, ctx: Context, vendors: SkillVendors
) -> None:
    ada = scene.live()
    with pytest.raises(Invalid) as refused:
        put(ctx, ada, "web_search", "BSAnobodysnobodys99")
    assert (refused.value.error_code, refused.value.details["field"]) == ("invalid_api_key", "brave_api_key")
    vendors.is_down = True
    with pytest.raises(Unavailable, match="was not kept"):
        put(ctx, ada, "web_search", BRAVE_KEY)
    vendors.is_down = False
    assert scene.count("skill_choice") == 0
    assert scene.count("operation", "kind = 'configure'") == 0
    put(ctx, ada, "web_search", BRAVE_KEY)
    tried = skills.try_skill(ctx, ada.instance.id, ada.owner.account.id, "web_search")
    assert (tried.vendor, tried.assistant, tried.is_good) == ("good", "applying", False)
    for _ in range(skills.TESTS_PER_MINUTE - 4):
        skills.try_skill(ctx, ada.instance.id, ada.owner.account.id, "web_search")
    with pytest.raises(RateLimited):
        skills.try_skill(ctx, ada.instance.id, ada.owner.account.id, "web_search")


def test_many_switches_are_one_change(scene: Scene, ctx: Context) -> None:
    ada = scene.live()
    for is_on in (False, True) * 10:
        assert turn(ctx, ada, "memory", is_on)
    assert scene.count("operation", "kind = 'configure' AND state = 'queued'") == 1
    with ctx.db.tx() as db:
        db.execute(sa.text("UPDATE operation SET state = 'running' WHERE kind = 'configure'"))
    assert turn(ctx, ada, "memory", False)  # the one that is being written may have read the skills already
    assert scene.count("operation", "kind = 'configure' AND state = 'queued'") == 1
    assert not turn(ctx, ada, "memory", False)
    assert scene.count("audit_log", "action = 'instance.skill'") == 21


def test_before_it_is_paid_and_once_it_is_deleted(scene: Scene, ctx: Context) -> None:
    ada = scene.sign_up()
    assert not turn(ctx, ada, "memory", False)  # kept; there is nothing to tell yet
    scene.pay(ada)
    scene.bring_up(ada.instance.id)
    assert "memory_search" not in written(scene, ctx, ada)[0]["tools"]["alsoAllow"]
    put(ctx, ada, "voice", VOICE_KEY)
    told = json.dumps(json.loads("".join(export.export(ctx, ada.owner)))["assistants"][0]["skills"])
    assert '"skill": "voice", "is_on": true, "key_ends_in": "5678"' in told
    assert VOICE_KEY not in told
    with ctx.db.tx() as db:
        lifecycle.ask_delete(db, ctx, ada.instance.id, ACTOR)
    with pytest.raises(IllegalMove):
        turn(ctx, ada, "memory", True)
    with pytest.raises(IllegalMove):
        put(ctx, ada, "voice", VOICE_KEY)


def test_what_a_stranger_gave_before_the_first_link_is_forgotten(scene: Scene, ctx: Context) -> None:
    ada = scene.live()
    put(ctx, ada, "web_search", BRAVE_KEY)
    with ctx.db.tx() as db:
        sign_in._cut_off(db, ctx, ada.owner.user.id)  # what the first mailed link does
    assert states_of(ctx, ada)["web_search"] == "needs_key"
    with ctx.db.read() as db:
        assert skillset.choices_of(db, ada.instance.id)["web_search"].sealed is None
    assert scene.instance(ada.instance.id).state == State.ACTIVE
