"""The catalogue: what we ship, what an operator's file makes of it, and what such a file may not say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from clawhaven.core.errors import Invalid
from clawhaven.instances.skills import BRAVE_SHA256, SkillCatalogue, brave_plugin
from tests.instances.test_packages import SKILL, tar

ARCHIVE = tar({"recipes/SKILL.md": SKILL.encode(), "recipes/soups.md": b"Leek."})
PINNED = hashlib.sha256(ARCHIVE).hexdigest()
RECIPES = (
    f'[recipes]\nlabel = "Recipes"\nsummary = "Cooks with you."\narchive = "recipes.tar.gz"\nsha256 = "{PINNED}"\n'
)


def load(text: str) -> SkillCatalogue:
    def read(name: str) -> bytes:
        if name != "recipes.tar.gz":
            raise FileNotFoundError(2, "No such file", name)
        return ARCHIVE

    return SkillCatalogue.load(text, read)


def test_what_we_ship_says_what_it_is_and_why_not() -> None:
    skills = {one.id: one for one in SkillCatalogue.load()}
    usual = ["web_pages", "reminders", "memory", "weather"]
    assert [one.id for one in skills.values() if one.is_default] == usual
    assert {one.id: one.vendor for one in skills.values() if one.vendor} == {
        "web_search": "brave",
        "voice": "elevenlabs",
    }
    assert [one.id for one in skills.values() if one.obstacle] == ["browser", "canvas", "calls"]
    for one in skills.values():
        assert all((one.label, one.summary)), one.id
        assert one.tools or one.bundled or one.obstacle, one.id
    assert skills["web_search"].package == brave_plugin()


def test_the_plugin_is_the_published_one_with_a_beginning_of_ours() -> None:
    plugin = brave_plugin()
    assert (plugin.kind, plugin.name, plugin.sha256) == ("plugin", "brave", BRAVE_SHA256)
    assert "./dist/keyed.js" in plugin.files["package.json"]
    assert "createBraveWebSearchProvider" in plugin.files["dist/keyed.js"]


def test_an_operator_takes_away_limits_and_adds() -> None:
    skills = load(
        '[voice]\nis_offered = false\n[web_search]\nplans = ["yearly"]\nruntimes = ["docker"]\n'
        f'[memory]\nis_default = false\n{RECIPES}tools = ["web_fetch"]\nneeds = ["web_pages"]\nis_default = true\n'
        '[diagrams]\nlabel = "Diagrams"\nsummary = "Draws."\nbundled = ["diagram-maker"]\n'
    )
    with pytest.raises(Invalid, match="Skills are web_pages, web_search, "):
        skills.get("voice")
    assert (skills.get("web_search").plans, skills.get("web_search").runtimes) == (("yearly",), ("docker",))
    assert not skills.get("memory").is_default
    recipes = skills.get("recipes")
    assert recipes.package is not None
    assert (recipes.package.name, recipes.package.sha256, recipes.needs) == ("recipes", PINNED, ("web_pages",))
    assert skills.get("diagrams").bundled == ("diagram-maker",)
    assert [one.id for one in skills][-2:] == ["recipes", "diagrams"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[", "this is not TOML"),
        ("voice = 1", "voice stands outside of a skill"),
        ("[Voice]", "skill Voice: its id has 1 to 40"),
        ("[voice]\nis_offered = 1", "skill voice: is_offered is true or false"),
        ('[voice]\nplans = "all"', "skill voice: plans is a list of words"),
        ('[voice]\ntools = ["exec"]', "skill voice: tools has exec; there is"),
        ('[voice]\nlabel = "Mine"', "skill voice is built in: it can have"),
        ("[voice]\ncolour = 1", "skill voice: colour is not a key of a skill"),
        ('[recipes]\nlabel = "Recipes"', "skill recipes: summary is missing"),
        ('[recipes]\nlabel = "Recipes"\nsummary = "x"', "skill recipes: either archive with its sha256, or bundled"),
        (RECIPES.replace(PINNED, ""), "skill recipes: sha256 is missing"),
        (RECIPES.replace(PINNED, "0" * 64), f"its SHA-256 is {PINNED}, not {'0' * 64}"),
        (RECIPES.replace("recipes.tar.gz", "none.zip"), "none.zip cannot be read: No such file"),
        (RECIPES + 'needs = ["cooking"]', "needs has cooking, which is no skill"),
        (RECIPES + RECIPES.replace("[recipes]", "[more]"), "two skills bring along recipes"),
    ],
)
def test_a_file_that_is_wrong_names_skill_and_key(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("[", r"\[")):
        load(text)


def test_an_archive_lies_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "recipes.tar.gz").write_bytes(ARCHIVE)
    skills = SkillCatalogue.load(RECIPES, lambda name: (tmp_path / name).read_bytes())
    assert skills.get("recipes").label == "Recipes"
