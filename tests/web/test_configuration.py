"""Settings are changed in two steps: looked at, then taken over."""

from __future__ import annotations

import html
import re

from clawhaven.context import Context
from clawhaven.instances import operations, workspace
from clawhaven.instances.models import Instance
from tests.fakes.world import FolderRuntime
from tests.web.conftest import Visit, token_in

FIELDS = {"assistant_name": "Ada", "persona": "personal", "custom_instructions": "Help me plan."}


def hidden_in(page: str) -> dict[str, str]:
    """What the review page sends on."""
    found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
    return {name: html.unescape(value) for name, value in found.items()} | {"csrf": token_in(page)}


def write_files(world: FolderRuntime, instance_id: str, **own: str) -> None:
    """The files as they were built, but for those that somebody has changed."""
    folder = world.root / instance_id / "state/workspace"
    folder.mkdir(parents=True)
    for name, text in workspace.render("personal", "Ada", "Help me plan.").items():
        (folder / name).write_text(own.get(name.removesuffix(".md"), text))


def test_the_changes_are_shown_before_they_are_made(mine: Visit, ctx: Context, live: str, world: FolderRuntime) -> None:
    write_files(world, live, SOUL="Mine, <b>really</b>.\n")
    path = f"/instances/{live}/configuration"
    wanted = {**FIELDS, "assistant_name": "Bo", "persona": "dev", "custom_instructions": "Be brief.\r\nAlways."}
    page = mine.post(path, **wanted)
    assert page.status_code == 200
    assert "<del>Ada</del>" in page.text
    assert "<ins>Bo</ins>" in page.text
    assert "<del>Personal assistant</del>" in page.text
    assert "Mine, &lt;b&gt;really&lt;/b&gt;." in page.text
    assert page.text.count('name="anew_') == 1
    assert 'name="anew_SOUL.md"' in page.text
    assert "No restart is needed" in page.text
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).name == "Ada"
    fields = hidden_in(page.text)
    done = mine.http.post(f"{path}/apply", data=fields)
    assert done.headers["location"] == f"{path}?done=saved"
    with ctx.db.read() as db:
        row = db.get_one(Instance, live)
        assert (row.name, row.persona, row.instructions) == ("Bo", "dev", "Be brief.\nAlways.")
        asked = operations.under_way(db, live)
        assert asked is not None
        assert asked.kind == "configure"
    again = mine.http.post(f"{path}/apply", data=fields)  # sent twice: shown anew, changed once
    assert again.status_code == 409
    assert (
        mine.post(path, **{**wanted, "custom_instructions": "Be brief.\nAlways."})
        .headers["location"]
        .endswith("unchanged")
    )


def test_what_changed_meanwhile_is_looked_at_again(mine: Visit, ctx: Context, live: str, world: FolderRuntime) -> None:
    write_files(world, live)
    path = f"/instances/{live}/configuration"
    fields = hidden_in(mine.post(path, **{**FIELDS, "assistant_name": "Bo"}).text)
    (world.root / live / "state/workspace/USER.md").write_text("She likes tea.\n")
    page = mine.http.post(f"{path}/apply", data=fields)
    assert page.status_code == 409
    assert "have changed meanwhile" in page.text
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).name == "Ada"
    assert mine.http.post(f"{path}/apply", data=hidden_in(page.text)).status_code == 303


def test_wrong_words_are_kept_and_explained(mine: Visit, ctx: Context, live: str) -> None:
    path = f"/instances/{live}/configuration"
    for address in (path, f"{path}/apply"):
        wrong = mine.post(
            address, page=path, assistant_name="{x}", persona="pirate", custom_instructions="kept words", base="x"
        )
        assert wrong.status_code == 400
        assert 'id="assistant_name-error"' in wrong.text
        assert 'id="persona-error"' in wrong.text
        assert "kept words" in wrong.text
    back = mine.post(path, **{**FIELDS, "custom_instructions": "thought again"}, action="edit")
    assert "thought again" in back.text
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).name == "Ada"


def test_a_stale_form_changes_nothing_and_keeps_its_words(mine: Visit, ctx: Context, live: str) -> None:
    path = f"/instances/{live}/configuration"
    for address in (path, f"{path}/apply"):
        page = mine.http.post(address, data={**FIELDS, "csrf": "0" * 64, "custom_instructions": "kept <words>"})
        assert page.status_code == 403
        assert "please send it once more" in page.text
        assert "kept &lt;words&gt;</textarea>" in page.text
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).instructions == "Help me plan."
        assert operations.under_way(db, live) is None


def test_a_model_is_chosen_from_those_on_offer(mine: Visit, ctx: Context, live: str) -> None:
    path = f"/instances/{live}/configuration"
    page = mine.get(path).text
    assert '<option value="sandbox-1" selected>sandbox-1: $4.50 read, $22.50 written' in page
    assert "Your plan includes the model" in page
    wrong = mine.post(path, **FIELDS, model="gpt-6-luna")
    assert (wrong.status_code, 'id="model-error"' in wrong.text) == (400, True)
    assert mine.post(path, **FIELDS, model="sandbox-1").headers["location"] == f"{path}?done=unchanged"
    with ctx.db.tx() as db:
        db.get_one(Instance, live).model = "retired-1"
    assert "retired-1 (not on offer any more)" in mine.get(path).text
    assert mine.post(path, **FIELDS, model="retired-1").headers["location"] == f"{path}?done=unchanged"
    seen = mine.post(path, **FIELDS, model="sandbox-1")
    assert "<del>retired-1</del>" in seen.text
    done = mine.http.post(f"{path}/apply", data=hidden_in(seen.text))
    assert done.headers["location"] == f"{path}?done=saved"
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).model == "sandbox-1"
        assert operations.under_way(db, live) is not None
