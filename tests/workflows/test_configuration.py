"""New settings, looked at first and then taken over; files that somebody has made their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core.errors import Conflict, IllegalMove, Invalid, NotFound
from clawhaven.instances import versions, workspace
from clawhaven.instances.drafts import Draft
from clawhaven.instances.models import Instance, Operation
from clawhaven.workflows import attempts, configuration, editing, engine, lifecycle
from clawhaven.workflows.checkout import Begun
from clawhaven.workflows.configuration import FieldChange
from tests.workflows.scene import Scene

ASKED: list[Any] = []
"""Arguments of the workflows that were asked for."""


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps can be called by themselves, and wait for nothing."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    attempts.stopping.clear()

    def ask(db: Session, ctx: Context, name: str, workflow_id: str, *args: Any, **where: Any) -> None:
        ASKED.append(json.loads(json.dumps(args)))  # as the engine keeps them
        engine.enqueue(db, ctx, name, workflow_id, *args, **where)

    monkeypatch.setattr(lifecycle, "enqueue", ask)
    return scene


@pytest.fixture
def begun(stage: Scene) -> Begun:
    return stage.live()


def path_of(scene: Scene, begun: Begun, file: str) -> Path:
    return scene.world.root / begun.instance.id / "state/workspace" / file


def draft_of(scene: Scene, begun: Begun, **changes: str) -> Draft:
    row = scene.instance(begun.instance.id)
    return Draft(
        **{"name": row.name, "persona": row.persona, "instructions": row.instructions, **changes}  # type: ignore[arg-type]
    )


def look(scene: Scene, begun: Begun, chosen: str = "", **changes: str) -> configuration.Review:
    who = begun.owner.account.id
    return configuration.review(scene.ctx, begun.instance.id, who, draft_of(scene, begun, **changes), chosen)


def change(
    scene: Scene,
    begun: Begun,
    *,
    base: str | None = None,
    anew: tuple[str, ...] = (),
    chosen: str = "",
    **changes: str,
) -> configuration.Changed:
    draft, who = draft_of(scene, begun, **changes), begun.owner.account.id
    return configuration.change(scene.ctx, begun.instance.id, who, draft, "user:x", base=base, anew=anew, chosen=chosen)


def do(scene: Scene, operation: Operation | None) -> None:
    """What the worker does with what was asked for."""
    assert operation is not None
    assert ASKED[-1][:2] == [operation.instance_id, operation.id]
    lifecycle.write_changes(*ASKED[-1])


def test_untouched_files_follow_the_settings(stage: Scene, begun: Begun) -> None:
    seen = look(stage, begun, name="Bea", instructions="Be brief.")
    assert [field.name for field in seen.fields] == ["name", "instructions"]
    assert seen.fields[0] == FieldChange("name", stage.instance(begun.instance.id).name, "Bea")
    assert {file.name for file in seen.files} == set(workspace.FILES)
    assert not any(file.is_own for file in seen.files)
    done = change(stage, begun, base=seen.base, name="Bea", instructions="Be brief.")
    assert (done.fields, done.kept_files) == (("name", "instructions"), ())
    do(stage, done.operation)
    for file in seen.files:
        assert path_of(stage, begun, file.name).read_text() == file.after
    assert look(stage, begun, name="Bea").fields == ()
    assert change(stage, begun, name="Bea").operation is None


def test_own_files_stay_unless_they_are_to_be_made_anew(stage: Scene, begun: Begun) -> None:
    path_of(stage, begun, "SOUL.md").write_text("Mine.\n")
    path_of(stage, begun, "USER.md").write_text("She likes tea.\n")
    seen = look(stage, begun, name="Bea", instructions="Be brief.")
    assert {file.name: file.is_own for file in seen.files} == {
        "AGENTS.md": False,
        "SOUL.md": True,
        "USER.md": True,
        "IDENTITY.md": False,
    }
    done = change(stage, begun, base=seen.base, anew=("SOUL.md",), name="Bea", instructions="Be brief.")
    assert done.kept_files == ("USER.md",)
    do(stage, done.operation)
    assert "Bea" in path_of(stage, begun, "SOUL.md").read_text()
    assert path_of(stage, begun, "USER.md").read_text() == "She likes tea.\n"
    with stage.ctx.db.read() as db:
        kept = [
            (one.author, versions.text_of(one, stage.ctx.keys))
            for one in versions.list_versions(db, begun.instance.id, "SOUL.md")
        ]
    assert kept[1] == ("found", "Mine.\n")
    assert kept[0][0] == "settings"


@pytest.mark.parametrize("what", ["file", "field"])
def test_what_was_looked_at_must_still_be_so(stage: Scene, begun: Begun, what: str) -> None:
    seen = look(stage, begun, name="Bea")
    if what == "file":
        path_of(stage, begun, "USER.md").write_text("She likes tea.\n")
    else:
        with stage.ctx.db.tx() as db:
            db.get_one(Instance, begun.instance.id).instructions = "Other words."
    with pytest.raises(Conflict) as refused:
        change(stage, begun, base=seen.base, name="Bea")
    assert refused.value.error_code == "settings_changed"
    assert stage.instance(begun.instance.id).name != "Bea"


def test_an_edit_on_its_way_counts_as_what_is_there(stage: Scene, begun: Begun) -> None:
    editing.save(stage.ctx, begun.instance.id, begun.owner.account.id, "SOUL.md", "Mine.", None, "user:x")
    (soul,) = [file for file in look(stage, begun, name="Bea").files if file.name == "SOUL.md"]
    assert (soul.before, soul.is_own) == ("Mine.\n", True)


def test_one_without_a_place_has_no_files_yet(stage: Scene) -> None:
    begun = stage.sign_up("new@example.com")
    seen = look(stage, begun, name="Bea")
    assert ([field.name for field in seen.fields], seen.files) == (["name"], ())
    done = change(stage, begun, base=seen.base, name="Bea")
    assert (done.fields, done.operation) == (("name",), None)
    assert stage.instance(begun.instance.id).name == "Bea"


def test_what_is_refused(stage: Scene, begun: Begun) -> None:
    with pytest.raises(Invalid, match="not on offer") as refused:
        look(stage, begun, chosen="gpt-0")
    assert refused.value.details["field"] == "model"
    with pytest.raises(NotFound):
        configuration.review(stage.ctx, begun.instance.id, "acc_stranger", draft_of(stage, begun))
    with stage.ctx.db.tx() as db:
        asked = lifecycle.ask_delete(db, stage.ctx, begun.instance.id, "user:x")
    lifecycle.forget(begun.instance.id, asked.id)
    with pytest.raises(IllegalMove):
        change(stage, begun, name="Bea")


def test_a_persona_that_is_gone_leaves_its_files_to_their_owner(stage: Scene, begun: Begun) -> None:
    with stage.ctx.db.tx() as db:
        db.get_one(Instance, begun.instance.id).persona = "retired"
    seen = look(stage, begun, persona="dev")
    assert seen.files
    assert all(file.is_own for file in seen.files)
