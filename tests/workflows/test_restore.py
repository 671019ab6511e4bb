"""A backup is brought back whole, or everything stays as it was."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from clawhaven.core.errors import Conflict, IllegalMove, NotFound
from clawhaven.instances import backups
from clawhaven.instances.models import Backup, Operation
from clawhaven.instances.states import State
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.vault import Stored
from clawhaven.providers.runtimes import archive
from clawhaven.providers.vaults.folder import Folder
from clawhaven.workflows import attempts, backup, engine, restore
from tests.workflows.scene import Scene
from tests.workflows.test_backup import ME, ended, listed, make, sealed_files


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A worker runs, whose steps do not wait between tries; a gateway that is not ready is given up soon."""
    monkeypatch.setattr(attempts, "pause", lambda _seconds: None)
    scene.ctx.settings.start_timeout_seconds = 2
    with engine.running(scene.ctx):
        yield scene


def diary(scene: Scene, instance_id: str) -> Path:
    return scene.world.root / instance_id / "state" / "workspace" / "diary.md"


def backed_up(scene: Scene, state: State = State.ACTIVE) -> tuple[str, str]:
    """An assistant that has written more since its backup: its id, and the backup's."""
    instance_id = scene.put_in(state).instance.id
    diary(scene, instance_id).write_text("then")
    make(scene, instance_id)
    diary(scene, instance_id).write_text("now")
    return instance_id, listed(scene, instance_id)[0].id


def bring_back(scene: Scene, instance_id: str, backup_id: str) -> tuple[str, str | None]:
    with scene.ctx.db.tx() as db:
        operation = restore.ask_restore(db, scene.ctx, instance_id, backup_id, ME)
        assert restore.ask_restore(db, scene.ctx, instance_id, backup_id, ME).id == operation.id
    found = ended(scene, operation)
    return found.state, found.error_code


@pytest.mark.parametrize("state", [State.ACTIVE, State.SUSPENDED])
def test_it_is_as_it_was_then_with_the_settings_and_secrets_of_now(stage: Scene, state: State) -> None:
    instance_id, backup_id = backed_up(stage, state)
    (stage.world.root / instance_id / "state/openclaw.json").write_text('{"meta": "of now"}')
    (stage.world.root / instance_id / "RUNNING").unlink(missing_ok=state == State.SUSPENDED)
    if state == State.ACTIVE:
        (stage.world.root / instance_id / "RUNNING").write_text("0")
    assert bring_back(stage, instance_id, backup_id) == ("done", None)
    assert diary(stage, instance_id).read_text() == "then"
    config = (stage.world.root / instance_id / "state/openclaw.json").read_text()
    assert '"meta": "of now"' in config
    assert stage.world.running() == ([instance_id] if state == State.ACTIVE else [])
    assert stage.instance(instance_id).state == state
    safety = next(one for one in listed(stage, instance_id) if one.made_for == "restore")
    assert stage.count("instance_event", "kind = 'restored'") == 1
    assert bring_back(stage, instance_id, safety.id) == ("done", None)
    assert diary(stage, instance_id).read_text() == "now", "a restore can be undone by another"
    assert stage.count("notice", "kind = 'alert'") == 0


def test_a_damaged_backup_changes_nothing_and_the_assistant_goes_on(stage: Scene) -> None:
    instance_id, backup_id = backed_up(stage)
    (file,) = sealed_files(stage)
    file.write_bytes(file.read_bytes()[:-9])
    assert bring_back(stage, instance_id, backup_id) == ("failed", "backup_broken")
    assert diary(stage, instance_id).read_text() == "now"
    assert stage.world.running() == [instance_id]
    assert stage.count("notice", "kind = 'alert'") == 1
    assert stage.count("boot_slot") == 0


def test_no_safety_copy_no_restore(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    instance_id, backup_id = backed_up(stage)
    stage.ctx.settings.backup_max_mb = 0
    assert bring_back(stage, instance_id, backup_id) == ("failed", "too_large")
    assert diary(stage, instance_id).read_text() == "now"
    assert stage.world.running() == [instance_id]
    assert [one.state for one in listed(stage, instance_id)] == ["failed", "ready"]


def test_one_that_does_not_start_is_put_back(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    instance_id, backup_id = backed_up(stage)
    real = archive.unpack
    never = stage.world.root / "NEVER_READY"
    times: list[str] = []

    def unpack(*args: object, **more: object) -> None:
        real(*args)  # type: ignore[arg-type]
        times.append(diary(stage, instance_id).read_text())
        # With the old state it does not come up, with the new one it does.
        never.touch() if len(times) == 1 else never.unlink()

    monkeypatch.setattr(archive, "unpack", unpack)
    assert bring_back(stage, instance_id, backup_id) == ("failed", "put_back")
    assert times == ["then", "now"]
    assert diary(stage, instance_id).read_text() == "now"
    assert stage.world.running() == [instance_id]
    assert stage.count("notice", "kind = 'alert'") == 1
    assert stage.count("instance_event", "kind = 'restored'") == 0


def test_what_may_be_asked(stage: Scene) -> None:
    instance_id, backup_id = backed_up(stage)
    other, _ = backed_up(stage)
    with stage.ctx.db.tx() as db:
        with pytest.raises(NotFound):
            restore.ask_restore(db, stage.ctx, other, backup_id, ME)
        making = backups.open_backup(db, instance_id, backups.MadeFor.OWNER, stage.ctx.clock.now())
        with pytest.raises(IllegalMove):
            restore.ask_restore(db, stage.ctx, instance_id, making.id, ME)
        backups.mark_failed(db, making.id, "disk_full")
        with pytest.raises(IllegalMove, match="could not be made"):
            restore.ask_restore(db, stage.ctx, instance_id, making.id, ME)


@pytest.mark.parametrize("fate", ["waits", "given up", "gone"])
def test_nothing_is_replaced_without_a_copy_put_aside(scene: Scene, monkeypatch: pytest.MonkeyPatch, fate: str) -> None:
    monkeypatch.setattr(attempts, "pause", lambda _seconds: None)
    with engine.running(scene.ctx):
        instance_id, backup_id = backed_up(scene)
    with scene.ctx.db.tx() as db:
        operation = restore.ask_restore(db, scene.ctx, instance_id, backup_id, ME)
    safety = next(one for one in listed(scene, instance_id) if one.made_for == "restore")
    with scene.ctx.db.tx() as db:
        much_later = scene.ctx.clock.now() + timedelta(hours=25)
        assert backups.lost(db, much_later) == [], "the restore that will make it waits for its turn"
        if fate != "waits":
            backups.mark_failed(db, safety.id, "lost")
        with pytest.raises(IllegalMove):
            backup.ask_remove(db, scene.ctx, instance_id, safety.id, ME)
        if fate == "gone":
            backups.begin_removing(db, safety.id)
            backups.drop(db, safety.id)
    with engine.running(scene.ctx):
        found = ended(scene, operation)
    as_asked = fate == "waits"
    assert (found.state, found.error_code) == (("done", None) if as_asked else ("failed", "lost"))
    assert diary(scene, instance_id).read_text() == ("then" if as_asked else "now")
    assert scene.world.running() == [instance_id]


def test_the_copy_put_aside_has_to_be_there_to_the_end(scene: Scene) -> None:
    instance_id = scene.put_in(State.ACTIVE).instance.id
    with scene.ctx.db.tx() as db:
        safety = backups.open_backup(db, instance_id, backups.MadeFor.RESTORE, scene.ctx.clock.now())

    def refused() -> str:
        with pytest.raises(ProviderError) as raised:
            backup.demand_safety(scene.ctx, safety.id)
        assert raised.value.permanent
        return raised.value.code

    assert refused() == "no_safety"
    backup.copy(scene.ctx, safety.id)
    backup.demand_safety(scene.ctx, safety.id)
    (file,) = sealed_files(scene)
    file.unlink()
    assert refused() == "no_safety"


def test_a_copy_that_breaks_off_further_on_is_noticed_before_anything_is_changed(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance_id, backup_id = backed_up(stage)
    (diary(stage, instance_id).parent / "much").write_bytes(os.urandom(3_000_000))
    real = Folder.put

    def put(self: Folder, folder: str, name: str, pieces: Iterable[bytes]) -> Stored:
        stored = real(self, folder, name, pieces)
        place = stage.ctx.settings.vault_dir / folder / f"{name}.sealed"
        with place.open("r+b") as file:
            file.seek(stored.size_bytes - 100_000)
            file.write(b"not what was sealed")
        return stored

    monkeypatch.setattr(Folder, "put", put)
    assert bring_back(stage, instance_id, backup_id) == ("failed", "no_safety")
    assert diary(stage, instance_id).read_text() == "now"
    assert stage.world.running() == [instance_id]


def test_what_a_restore_waits_for_stays_and_another_has_to_wait(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "pause", lambda _seconds: None)
    with engine.running(scene.ctx):
        instance_id, first = backed_up(scene)
        make(scene, instance_id)
    other = next(one.id for one in listed(scene, instance_id) if one.id != first)
    with scene.ctx.db.tx() as db:
        db.get_one(Backup, first).made_for = backups.MadeFor.DAILY
        assert backups.superfluous(db, instance_id, 0) == [first]
        operation = restore.ask_restore(db, scene.ctx, instance_id, first, ME)
        assert backups.superfluous(db, instance_id, 0) == []
        with pytest.raises(Conflict) as refused:
            restore.ask_restore(db, scene.ctx, instance_id, other, ME)
        assert refused.value.error_code == "restore_waiting"
        db.get_one(Operation, operation.id).state = "done"
        assert backups.superfluous(db, instance_id, 0) == [first]


def test_one_replaced_and_then_refused_is_put_back(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    instance_id, backup_id = backed_up(stage)
    real = archive.unpack
    times: list[str] = []

    def unpack(*args: object, **more: object) -> None:
        real(*args)  # type: ignore[arg-type]
        times.append(diary(stage, instance_id).read_text())
        if len(times) == 1:
            raise ProviderError("the next try was refused", permanent=True, code="no_file")

    monkeypatch.setattr(archive, "unpack", unpack)
    assert bring_back(stage, instance_id, backup_id) == ("failed", "no_file")
    assert times == ["then", "now"]
    assert stage.world.running() == [instance_id]


def test_what_was_small_enough_once_comes_back_when_less_is_allowed(stage: Scene) -> None:
    instance_id = stage.put_in(State.ACTIVE).instance.id
    diary(stage, instance_id).write_text("then" * 300_000)
    stage.ctx.settings.backup_max_mb = 2
    make(stage, instance_id)
    diary(stage, instance_id).write_text("now")
    stage.ctx.settings.backup_max_mb = 1
    assert bring_back(stage, instance_id, listed(stage, instance_id)[0].id) == ("done", None)
    assert diary(stage, instance_id).read_text().startswith("then")
