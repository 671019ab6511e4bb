"""Workspace files: the customer's words go in as they are, once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.core.errors import Invalid
from clawhaven.instances import drafts, workspace
from clawhaven.workflows import files
from tests.workflows.scene import Scene

NASTY = [
    "{{name}} {{instructions}} {{7*7}} ${HOME} $(id) `id`",
    "<script>alert(1)</script> {% for x in y %} {# #}",
    "\\1 \\g<0> \\n %s %(name)s {0} {name!r}",
    '"); DROP TABLE instance; -- \' " \\" \\u0000',
    "../../etc/passwd\n---\n# AGENTS.md\n```\n",
    "\u202eevil\u202c \u2028 \u200b 😀 مرحبا",
]


@pytest.mark.parametrize("persona", workspace.BUILT_IN)
@pytest.mark.parametrize("text", NASTY)
def test_words_arrive_verbatim_and_only_where_they_belong(persona: str, text: str) -> None:
    plain = workspace.render(persona, "NAME", "WORDS")
    rendered = workspace.render(persona, "NAME", text)
    assert set(rendered) == set(workspace.FILES)
    for file_name in workspace.FILES:
        assert rendered[file_name] == plain[file_name].replace("WORDS", text), file_name
    assert any(text in content for content in rendered.values())
    named = workspace.render(persona, "{{instructions}}", "WORDS")
    assert named["IDENTITY.md"] == plain["IDENTITY.md"].replace("NAME", "{{instructions}}")


@given(name=st.text(min_size=1, max_size=40), text=st.text(max_size=5000))
def test_nothing_a_customer_types_is_a_template(name: str, text: str) -> None:
    try:
        draft = drafts.check_draft(name, "personal", text, ["personal"])
    except Invalid:
        return
    rendered = workspace.render("personal", draft.name, draft.instructions)
    if draft.instructions:
        assert draft.instructions in rendered["AGENTS.md"]
    assert draft.name in rendered["IDENTITY.md"]


def test_long_words_are_whole_in_one_file_and_short_enough_for_the_other() -> None:
    text = "x" * drafts.MAX_INSTRUCTIONS
    rendered = workspace.render("personal", "Ada", text)
    assert text in rendered["AGENTS.md"]
    assert len(rendered["USER.md"]) <= workspace.USER_FILE_LIMIT
    assert "The rest is in AGENTS.md" in rendered["USER.md"]


def test_an_operators_own_personas(tmp_path: Path) -> None:
    for folder, names in {"pirate": workspace.FILES, "half": workspace.FILES[:2], "Bad Name": workspace.FILES}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text("Arr, {{name}}: {{instructions}}")
    assert workspace.list_personas(tmp_path) == [*workspace.BUILT_IN, "pirate"]
    assert workspace.render("pirate", "Ada", "sail", tmp_path)["SOUL.md"] == "Arr, Ada: sail"
    assert workspace.list_personas(tmp_path / "missing") == [*workspace.BUILT_IN]


@pytest.mark.parametrize("text", NASTY)
def test_words_are_data_in_the_files_of_a_gateway(scene: Scene, text: str) -> None:
    begun = scene.live(assistant_name='Ada "quoted" & more', custom_instructions=text)
    folder = scene.world.root / begun.instance.id
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert written == sorted(
        ["RUNNING", files.CONFIG, files.SECRETS, *(f"state/workspace/{f}" for f in workspace.FILES)]
    )
    config = json.loads((folder / files.CONFIG).read_text())
    assert config["agents"]["entries"]["main"]["identity"]["name"] == 'Ada "quoted" & more'
    assert text.strip() not in (folder / files.CONFIG).read_text()
    assert text.strip() in (folder / "state/workspace/AGENTS.md").read_text()
