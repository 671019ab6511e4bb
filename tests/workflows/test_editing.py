"""A person changes a file of their assistant, which changes it too."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from clawhaven.core.audit import AuditEntry
from clawhaven.core.errors import Conflict, IllegalMove, Invalid, NotFound, RateLimited, Unavailable
from clawhaven.instances import versions, workspace
from clawhaven.instances.models import Instance, InstanceEvent, WorkspaceVersion
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import attempts, editing, engine, lifecycle
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene

SOUL = "SOUL.md"


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Steps can be called by themselves, and wait for nothing."""
    monkeypatch.setattr(engine, "_context", scene.ctx)
    monkeypatch.setattr(attempts, "pause", lambda _seconds: None)
    attempts.stopping.clear()
    return scene


@pytest.fixture
def begun(stage: Scene) -> Begun:
    return stage.live()


def path_of(scene: Scene, begun: Begun, file: str = SOUL) -> Path:
    return scene.world.root / begun.instance.id / "state/workspace" / file


def now_is(scene: Scene, begun: Begun, file: str = SOUL) -> editing.Text:
    return editing.read(scene.ctx, scene.instance(begun.instance.id), file)


def save(scene: Scene, begun: Begun, text: str, base: str | None = None, file: str = SOUL) -> bool:
    return editing.save(scene.ctx, begun.instance.id, begun.owner.account.id, file, text, base, "user:x")


def write_all(scene: Scene) -> list[str]:
    """What the workers would do."""
    with scene.ctx.db.read() as db:
        waiting = select(WorkspaceVersion.id).where(WorkspaceVersion.written_at.is_(None))
        ids = list(db.scalars(waiting.order_by(WorkspaceVersion.created_at, WorkspaceVersion.number)))
    return [editing.write_version(one) for one in ids]


def history(scene: Scene, begun: Begun) -> list[tuple[str, str]]:
    with scene.ctx.db.read() as db:
        found = versions.list_versions(db, begun.instance.id, SOUL)
        return [(one.author, versions.text_of(one, scene.ctx.keys)) for one in found]


def test_a_change_is_kept_then_written_and_what_was_there_stays(stage: Scene, begun: Begun) -> None:
    built = path_of(stage, begun).read_text()
    opened = now_is(stage, begun)
    assert (opened.text, opened.is_waiting) == (built, False)
    assert save(stage, begun, "Be kind.\r\n\r\n", opened.digest)
    assert now_is(stage, begun) == editing.Text(SOUL, "Be kind.\n", versions.digest("Be kind.\n"), True)
    assert path_of(stage, begun).read_text() == built
    assert write_all(stage) == ["written"]
    assert path_of(stage, begun).read_text() == "Be kind.\n"
    assert not now_is(stage, begun).is_waiting
    assert history(stage, begun) == [("owner", "Be kind.\n"), ("found", built)]
    assert not save(stage, begun, "Be kind.\n")  # says that already
    with stage.ctx.db.read() as db:
        told = db.scalars(select(AuditEntry).where(AuditEntry.action == "instance.file")).one()
    assert (told.actor, told.details) == ("user:x", {"file": SOUL, "version": 2})


def test_a_change_of_something_else_by_now_is_refused(stage: Scene, begun: Begun) -> None:
    opened = now_is(stage, begun)
    path_of(stage, begun).write_text("The assistant was here.\n")
    with pytest.raises(Conflict, match="has changed since") as refused:
        save(stage, begun, "Mine.", opened.digest)
    assert refused.value.error_code == "file_changed"
    assert save(stage, begun, "Mine.", str(refused.value.details["digest"]))
    with pytest.raises(Conflict):  # of two tabs one is too late, also while the first is still being written
        save(stage, begun, "Mine too.", str(refused.value.details["digest"]))
    write_all(stage)
    assert history(stage, begun)[:2] == [("owner", "Mine.\n"), ("found", "The assistant was here.\n")]


def test_what_the_assistant_writes_in_between_is_kept_and_a_step_may_run_twice(stage: Scene, begun: Begun) -> None:
    built = path_of(stage, begun).read_text()
    save(stage, begun, "Mine.")
    path_of(stage, begun).write_text("Learned something.\n")
    assert write_all(stage) == ["written"]
    with stage.ctx.db.tx() as db:  # as if the worker was killed before the last line
        newest = versions.newest(db, begun.instance.id, SOUL)
        assert newest is not None
        newest.written_at = None
    assert write_all(stage) == ["written"]
    assert history(stage, begun) == [("owner", "Mine.\n"), ("found", "Learned something.\n"), ("found", built)]


def test_what_is_too_long_to_be_kept_is_not_written_over(stage: Scene, begun: Begun) -> None:
    much = "learned\n" * versions.LONGEST
    save(stage, begun, "Mine.")
    path_of(stage, begun).write_text(much)
    with stage.ctx.db.read() as db:
        newest = versions.newest(db, begun.instance.id, SOUL)
    assert newest is not None
    with pytest.raises(engine.StepFailed, match="too long to be kept"):
        editing.write_version(newest.id)
    editing.note_failure(newest.id, "It is too long to be kept.")
    with pytest.raises(Conflict, match="too long to be kept"):
        save(stage, begun, "Mine again.")
    editing.write_anew(stage.ctx, stage.instance(begun.instance.id), True)
    assert path_of(stage, begun).read_text() == much


def test_undo_is_a_version_of_its_own(stage: Scene, begun: Begun) -> None:
    built = path_of(stage, begun).read_text()
    save(stage, begun, "Mine.")
    write_all(stage)
    assert editing.restore(stage.ctx, begun.instance.id, begun.owner.account.id, SOUL, 1, "user:x")
    write_all(stage)
    assert path_of(stage, begun).read_text() == built
    assert [author for author, _ in history(stage, begun)] == ["restored", "owner", "found"]
    with pytest.raises(NotFound, match="not kept"):
        editing.restore(stage.ctx, begun.instance.id, begun.owner.account.id, SOUL, 99, "user:x")


def test_what_is_refused(stage: Scene, begun: Begun) -> None:
    with pytest.raises(NotFound, match=r"AGENTS\.md"):
        save(stage, begun, "x", file="../../etc/passwd")
    for file, most in workspace.LIMITS.items():
        with pytest.raises(Invalid, match=f"at most {most}"):
            save(stage, begun, "x" * (most + 1), file=file)
        assert save(stage, begun, "x" * most, file=file)
    with pytest.raises(NotFound):
        editing.save(stage.ctx, begun.instance.id, "acc_stranger", SOUL, "x", None, "user:y")
    save(stage, begun, "fifth")
    with pytest.raises(RateLimited):
        save(stage, begun, "sixth")
    draft = stage.sign_up("new@example.com")
    with pytest.raises(IllegalMove, match="once the assistant is built"):
        now_is(stage, draft)


def test_a_runtime_that_does_not_answer_and_one_that_refuses(
    stage: Scene, begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(stage, begun, "Mine.")
    with stage.ctx.db.read() as db:
        newest = versions.newest(db, begun.instance.id, SOUL)
    assert newest is not None
    editing.note_failure(newest.id, "A link lies in the way.")
    found = now_is(stage, begun)
    assert (found.is_waiting, found.problem) == (False, "A link lies in the way.")
    assert found.text != "Mine.\n"
    path_of(stage, begun).unlink()
    assert now_is(stage, begun).text == ""

    def silent(*_: object) -> str:
        raise ProviderError("no answer", code="docker_down")

    monkeypatch.setattr(stage.world, "read", silent)
    with pytest.raises(Unavailable):
        now_is(stage, begun)


def test_nothing_is_written_for_one_that_goes_and_nothing_is_kept_of_it(stage: Scene, begun: Begun) -> None:
    built = path_of(stage, begun).read_text()
    save(stage, begun, "Mine.")
    with stage.ctx.db.tx() as db:
        asked = lifecycle.ask_delete(db, stage.ctx, begun.instance.id, "user:x")
    assert write_all(stage) == ["gone"]
    assert path_of(stage, begun).read_text() == built
    with pytest.raises(IllegalMove):
        save(stage, begun, "Mine again.")
    lifecycle.forget(begun.instance.id, asked.id)
    with stage.ctx.db.read() as db:
        assert db.scalars(select(WorkspaceVersion)).all() == []
    with pytest.raises(IllegalMove):
        now_is(stage, begun)


def test_files_made_anew_leave_alone_what_somebody_changed_meanwhile(stage: Scene, begun: Begun) -> None:
    instance = stage.instance(begun.instance.id)
    before = {name: versions.digest(path_of(stage, begun, name).read_text()) for name in workspace.FILES}
    path_of(stage, begun, "USER.md").write_text("She likes tea.\n")
    with stage.ctx.db.tx() as db:
        db.get_one(Instance, instance.id).name = "Bea"
    changed = stage.instance(instance.id)
    for _ in range(2):  # a step may run twice
        editing.write_anew(stage.ctx, changed, before)
    assert "Bea" in path_of(stage, begun).read_text()
    assert "Bea" in path_of(stage, begun, "IDENTITY.md").read_text()
    assert path_of(stage, begun, "USER.md").read_text() == "She likes tea.\n"
    assert [author for author, _ in history(stage, begun)] == ["settings", "found"]
    with stage.ctx.db.read() as db:
        told = db.scalars(select(InstanceEvent.message).where(InstanceEvent.kind == "file_kept")).all()
    assert set(told) == {editing.KEPT}


@pytest.mark.parametrize("found", ["The assistant was here.\n", ""])
def test_killed_before_a_file_is_made_anew_its_history_says_it_once(
    stage: Scene, begun: Begun, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    instance, built = stage.instance(begun.instance.id), path_of(stage, begun).read_text()
    path_of(stage, begun).write_text(found)
    with monkeypatch.context() as patch:
        patch.setattr(stage.world, "apply", killed)
        with pytest.raises(KeyboardInterrupt):
            editing.write_anew(stage.ctx, instance, {SOUL: editing.WHATEVER})
    assert path_of(stage, begun).read_text() == found
    for _ in range(2):
        editing.write_anew(stage.ctx, instance, {SOUL: editing.WHATEVER})
    assert path_of(stage, begun).read_text() == built
    once = [("settings", built), *([("found", found)] if found else [])]
    assert history(stage, begun) == once
    path_of(stage, begun).write_text("And once more.\n")
    editing.write_anew(stage.ctx, instance, {SOUL: editing.WHATEVER})
    assert history(stage, begun) == [("settings", built), ("found", "And once more.\n"), *once]
