"""The page of an assistant's skills, and the wizard's step for them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from clawhaven.context import Context
from clawhaven.instances import skillset
from clawhaven.instances.models import Instance, Operation
from tests.fakes.skill_vendors import BRAVE_KEY, MUTE_KEY, VOICE_KEY, SkillVendors
from tests.fakes.world import FolderRuntime
from tests.web.conftest import DRAFT, Visit, bring_to_life, draft

WORDS = {name: DRAFT[name] for name in ("assistant_name", "persona", "custom_instructions")}


@pytest.fixture
def vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[SkillVendors]:
    with SkillVendors() as running:
        monkeypatch.setenv("BRAVE_API_URL", running.url)
        monkeypatch.setenv("ELEVENLABS_API_URL", running.url)
        yield running


@pytest.fixture
def ctx(vendors: SkillVendors, ctx: Context) -> Context:
    """The site, its vendors of skills on loopback."""
    return ctx


@pytest.fixture
def ada(ctx: Context, world: FolderRuntime, mine: Visit) -> str:
    """The address of the skills of the customer's active assistant."""
    instance_id = draft(mine)
    bring_to_life(ctx, world, instance_id)
    return f"/instances/{instance_id}/skills"


def operations(ctx: Context) -> int:
    with ctx.db.read() as db:
        return len(db.scalars(select(Operation).where(Operation.kind == "configure")).all())


def card(html: str, skill: str) -> str:
    """The part of the page about one skill."""
    found = re.search(rf'id="skill-{skill}".*?</section>', html, re.DOTALL)
    assert found, skill
    return found.group()


def test_what_there_is_and_what_cannot_be_with_the_reason(mine: Visit, ada: str) -> None:
    html = mine.get(ada).text
    assert "On" in card(html, "memory")
    assert 'value="0"' in card(html, "memory")
    assert 'type="password"' in card(html, "web_search")
    assert "5 dollars for 1,000 searches" in card(html, "web_search")
    assert "your daily allowance" in card(html, "reminders")
    assert "There is no browser where the assistants run." in html
    assert "skill-browser" not in html, "a switch that does nothing"
    assert f'href="{ada}"' in html  # its tab


def test_off_on_and_what_is_so_already(mine: Visit, ctx: Context, ada: str) -> None:
    assert mine.post(f"{ada}/memory", page=ada, is_on="0").headers["location"] == f"{ada}?done=saved"
    assert 'value="1"' in card(mine.get(ada).text, "memory")
    assert operations(ctx) == 1
    assert mine.post(f"{ada}/memory", page=ada, is_on="0").headers["location"] == f"{ada}?done=skill-kept"
    assert operations(ctx) == 1
    mine.post(f"{ada}/web_pages", page=ada, is_on="0")
    html = mine.get(ada).text
    assert "It works together with: Web pages." in card(html, "weather")
    mine.post(f"{ada}/weather", page=ada, is_on="0")
    refused = mine.post(f"{ada}/weather", page=ada, is_on="1")
    assert refused.status_code == 409
    assert "turn on web_pages first" in refused.text


def test_a_key_is_tested_kept_used_tried_again_and_removed(
    mine: Visit, ctx: Context, ada: str, vendors: SkillVendors
) -> None:
    wrong = mine.post(f"{ada}/web_search/key", page=ada, brave_api_key="BSAnobodysnobodys99")
    assert wrong.status_code == 400
    assert 'id="brave_api_key-error"' in wrong.text
    assert "Brave Search does not accept this key" in wrong.text
    assert mine.post(f"{ada}/voice/key", page=ada, elevenlabs_api_key=MUTE_KEY).status_code == 400
    assert mine.post(f"{ada}/web_search/key", page=ada, brave_api_key="short").status_code == 400
    assert operations(ctx) == 0
    given = mine.post(f"{ada}/web_search/key", page=ada, brave_api_key=f" {BRAVE_KEY} ")
    assert given.headers["location"] == f"{ada}?done=key-saved"
    assert operations(ctx) == 1
    html = mine.get(ada).text
    assert BRAVE_KEY not in html
    assert "<code>1234</code>" in card(html, "web_search")
    tried = mine.post(f"{ada}/web_search/test", page=ada)
    assert "The key works. The assistant is being told." in tried.text
    vendors.is_down = True
    assert "The vendor cannot be reached" in mine.post(f"{ada}/web_search/test", page=ada).text
    gone = mine.post(f"{ada}/web_search/key/remove", page=ada)
    assert gone.headers["location"] == f"{ada}?done=skill-key-removed"
    assert "Needs a key" in card(mine.get(ada).text, "web_search")
    down = mine.post(f"{ada}/web_search/key", page=ada, brave_api_key=BRAVE_KEY)
    assert down.status_code == 503
    assert "could not be tested and was not kept" in down.text


def test_what_cannot_be_is_refused_by_its_address_too(mine: Visit, ctx: Context, ada: str) -> None:
    assert mine.post(f"{ada}/browser", page=ada, is_on="1").status_code == 409
    assert mine.post(f"{ada}/nothing", page=ada, is_on="1").status_code == 400
    assert mine.post(f"{ada}/web_search", page=ada, is_on="1").status_code == 400  # no key
    assert mine.post(f"{ada}/memory/key", page=ada, x="1").status_code == 400
    assert mine.post(f"{ada}/web_search/test", page=ada).status_code == 404
    assert operations(ctx) == 0


def test_somebody_else_s_skills_are_not_there(stranger: Visit, ada: str) -> None:
    assert stranger.get(ada).status_code == 404
    for path in ("memory", "memory/key", "memory/key/remove", "memory/test"):
        assert stranger.post(f"{ada}/{path}", page="/settings", is_on="0").status_code == 404, path


def test_the_wizard_s_choice_becomes_the_assistant_s(visit: Visit, ctx: Context, vendors: SkillVendors) -> None:
    page = "/configure/skills"
    visit.post("/configure", email="new@example.com", plan="personal")
    visit.post("/configure/assistant", **WORDS)
    html = visit.get(page).text
    assert 'name="skill_memory" value="1" checked' in html
    assert "skill_web_search" not in html, "no switch before there is a key"
    assert visit.post(f"{page}/voice", page=page, elevenlabs_api_key="sk_nobodysnobodys").status_code == 400
    kept = visit.post(f"{page}/web_search", page=page, brave_api_key=BRAVE_KEY)
    assert kept.headers["location"] == f"{page}?done=draft-key-kept"
    assert visit.post(f"{page}/voice", page=page, elevenlabs_api_key=VOICE_KEY).status_code == 303
    assert visit.post(f"{page}/voice/remove", page=page).status_code == 303
    html = visit.get(page).text
    assert 'name="skill_web_search" value="1" checked' in html
    assert BRAVE_KEY not in html
    ticked = {"skill_web_pages": "1", "skill_web_search": "1", "skill_weather": "1", "skill_reminders": "1"}
    assert visit.post(page, **ticked).headers["location"] == "/configure/review"
    assert 'name="skill_memory" value="1">' in visit.get(page).text.replace(' aria-describedby="skill_memory-hint"', "")
    assert "Web search, Reminders and schedules, Weather" in visit.get("/configure/review").text
    assert visit.post("/configure/review").status_code == 303
    with ctx.db.read() as db:
        instance = db.scalars(select(Instance)).one()
        choices = skillset.choices_of(db, instance.id)
        assert skillset.choices_of(db, instance.account_id) == {}
    assert skillset.open_key(choices["web_search"], ctx.keys) == BRAVE_KEY
    assert {name: one.is_on for name, one in choices.items()} == {"web_search": True, "voice": True, "memory": False}
    assert choices["voice"].sealed is None


def test_the_step_may_be_skipped_and_needs_a_name(visit: Visit, ctx: Context) -> None:
    visit.post("/configure", email="new@example.com", plan="personal")
    assert visit.get("/configure/skills").headers["location"] == "/configure/assistant"
    visit.post("/configure/assistant", **WORDS)
    assert "Memory" in visit.get("/configure/review").text
    assert visit.post("/configure/review").status_code == 303
