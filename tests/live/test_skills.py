"""Skills in the real gateway: with one on, the model is sent its tool; with it off, it is not; no restart between."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from clawhaven.core.secrets import KeyRing
from clawhaven.instances import equipment
from clawhaven.instances.config import CONFIG_PATH, SECRETS_PROVIDER, merge_config
from clawhaven.instances.skills import SkillCatalogue
from clawhaven.instances.skillset import PURPOSE, Choice, open_key
from clawhaven.ports.runtime import File
from clawhaven.providers.skills.brave import Brave
from clawhaven.providers.skills.elevenlabs import ElevenLabs
from tests.fakes.skill_vendors import BRAVE_KEY, VOICE_KEY, SkillVendors
from tests.instances.test_packages import SKILL, tar
from tests.live.model_server import Asked, ModelServer
from tests.live.openclaw import TOKEN, files_for, running_cell, settings_for

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

ARCHIVE = tar({"recipes/SKILL.md": SKILL.encode()})
OWN = (
    '[recipes]\nlabel = "Recipes"\nsummary = "Cooks."\narchive = "recipes.tar.gz"\n'
    f'sha256 = "{hashlib.sha256(ARCHIVE).hexdigest()}"\n'
)
KEYS = KeyRing.parse("0f" * 32)
GIVEN = {"web_search": BRAVE_KEY, "voice": VOICE_KEY}
TOOLS = {
    "web_pages": "web_fetch",
    "web_search": "web_search",
    "reminders": "automations",
    "memory": "memory_search",
    "voice": "tts",
}


@pytest.fixture
def vendors() -> Iterator[SkillVendors]:
    with SkillVendors() as running:
        yield running


def until(found: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.3)


def test_each_skill_brings_its_tool_and_takes_it_away(tmp_path: Path, vendors: SkillVendors) -> None:
    settings = settings_for(tmp_path)
    catalogue = SkillCatalogue.load(OWN, lambda name: ARCHIVE)
    ports = {
        "brave": Brave(Brave.Options(brave_api_url=vendors.url), settings),
        "elevenlabs": ElevenLabs(ElevenLabs.Options(elevenlabs_api_url=vendors.url), settings),
    }
    with ModelServer() as model, running_cell(tmp_path, model.url) as (runtime, placement, gateway, address):
        layout = runtime.layout("ins_cell", int(placement["port"]))

        def wear(ids: set[str]) -> None:
            """Exactly these skills, as a change of an assistant's skills writes them."""
            choices = {
                one.id: Choice(
                    holder_id="ins_cell",
                    skill=one.id,
                    is_on=one.id in ids,
                    sealed=KEYS.seal(GIVEN[one.id], PURPOSE) if one.id in GIVEN else None,
                )
                for one in catalogue
            }
            on = equipment.working(catalogue, choices, "personal", "process", ports)
            assert {one.id for one in on} == ids
            built = {
                one.id: ports[one.vendor].config(open_key(choices[one.id], KEYS), SECRETS_PROVIDER)
                for one in on
                if one.vendor
            }
            made = equipment.equip(catalogue, on, built, layout.state_dir)
            config, secrets, *_ = files_for(
                layout,
                "ins_cell",
                tools={**made.tools, "toolSearch": False},  # so that the tools themselves are in the request
                skills=made.bundled,
                extra=made.extra,
                channel_secrets=made.secrets,
            )
            merged = merge_config(runtime.read(placement, CONFIG_PATH) or "{}", config.content)
            assert runtime.validate(merged) == []
            for key in GIVEN.values():
                assert key not in merged
            files = [File(path, text) for path, text in made.files.items()]
            runtime.apply(placement, [secrets, *files, File(CONFIG_PATH, merged)])

        def ask(words: str = "hello") -> Asked:
            seen, told = len(model.asked), []
            for _ in range(5):  # a turn that comes while the gateway takes new settings over may end without a word
                told += list(gateway.chat(address, f"s-{uuid.uuid4()}", words, f"k-{uuid.uuid4()}", 60))
                if model.asked[seen:]:
                    return model.asked[-1]
            raise AssertionError(told)

        def tools(asked: Asked) -> set[str]:
            return {tool["name"] for tool in asked.body["tools"]}.intersection(TOOLS.values())

        def invoke(tool: str, **arguments: Any) -> str:
            headers = {"authorization": f"Bearer {TOKEN}"}
            body = {"tool": tool, "args": arguments}
            return httpx2.post(f"{address.url}/tools/invoke", json=body, headers=headers, timeout=60).text

        pid = json.loads((tmp_path / "customers" / "ins_cell" / "run" / "run.json").read_text())["pid"]
        everything = {*TOOLS, "weather", "recipes"}
        wear(everything)
        until(lambda: tools(ask()) == set(TOOLS.values()), "every tool")
        system = ask().system
        assert "<name>weather</name>" in system
        assert "<name>recipes</name>" in system
        assert system.count("<skill>") == 2, "skills that nobody turned on"
        until(lambda: "Soup of the day" in invoke("web_search", query=f"soup {uuid.uuid4()}"), "a search")
        assert ("/res/v1/web/search", BRAVE_KEY) in vendors.asked
        assert '"ok":true' in invoke("tts", text="Good morning to you")
        assert vendors.asked[-1][1] == VOICE_KEY
        place = f"{layout.state_dir}/clawhaven/skills/recipes/recipes/SKILL.md"
        assert "Suggest soup." in json.dumps(ask(f"tool read {place}").body), "a skill that cannot be read"

        for skill, tool in TOOLS.items():
            gone = {"web_pages", "weather"} if skill == "web_pages" else {skill}
            wear(everything - gone)
            until(lambda tool=tool: tools(ask()) == set(TOOLS.values()) - {tool}, f"{skill} to be off")  # type: ignore[misc]
        wear(set())
        until(lambda: tools(ask()) == set(), "nothing at all")
        assert "<skill>" not in ask().system
        wear(everything)
        until(lambda: tools(ask()) == set(TOOLS.values()), "everything again")
        until(lambda: "Soup of the day" in invoke("web_search", query=f"soup {uuid.uuid4()}"), "another search")
        assert json.loads((tmp_path / "customers" / "ins_cell" / "run" / "run.json").read_text())["pid"] == pid
        assert runtime.observe(placement).status == "running"
        log = "\n".join(runtime.logs(placement, 2000))
        assert BRAVE_KEY not in log
        assert VOICE_KEY not in log
