"""Backups made by hand and by schedule, taken out again, removed; and what happens when one cannot be made."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from clawhaven.core.errors import Conflict, IllegalMove, NotFound, RateLimited, Unavailable
from clawhaven.instances import backups, operations
from clawhaven.instances.backups import MadeFor
from clawhaven.instances.models import Backup, Operation
from clawhaven.instances.states import State
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.vaults.folder import Folder
from clawhaven.workflows import attempts, backup, engine, lifecycle
from tests.workflows.scene import Scene

ME = "user:me"


@pytest.fixture
def stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A worker runs, whose steps do not wait between tries."""
    monkeypatch.setattr(attempts, "pause", lambda _seconds: None)
    with engine.running(scene.ctx):
        yield scene


def make(scene: Scene, instance_id: str) -> Operation:
    """Ask for one by hand and wait for its end."""
    with scene.ctx.db.tx() as db:
        operation = backup.ask_backup(db, scene.ctx, instance_id, ME)
    return ended(scene, operation)


def ended(scene: Scene, operation: Operation) -> Operation:
    def look() -> Operation:
        with scene.ctx.db.read() as db:
            return db.get_one(Operation, operation.id)

    scene.wait(lambda: look().state in ("done", "failed"))
    return look()


def listed(scene: Scene, instance_id: str) -> list[Backup]:
    with scene.ctx.db.read() as db:
        return list(backups.list_backups(db, instance_id))


def sealed_files(scene: Scene) -> list[Path]:
    return sorted(scene.ctx.settings.vault_dir.rglob("*.sealed"))


def members(pieces: Iterator[bytes]) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces)), mode="r:gz") as tar:
        return {one.name: tar.extractfile(one).read() for one in tar.getmembers() if one.isfile()}  # type: ignore[union-attr]


def test_made_by_hand_taken_out_and_removed(stage: Scene) -> None:
    begun = stage.live()
    instance = stage.instance(begun.instance.id)
    folder = stage.world.root / instance.id / "state"
    (folder / "workspace" / "diary.md").write_text("dear diary")
    assert make(stage, instance.id).state == "done"
    (made,) = listed(stage, instance.id)
    assert (made.state, made.made_for, made.openclaw_version) == ("ready", "owner", "2026.9.6")
    (file,) = sealed_files(stage)
    assert file.stat().st_size == made.size_bytes > 500
    assert b"dear diary" not in file.read_bytes()
    assert stage.world.running() == [instance.id], "it was not stopped for it"

    name, pieces = backup.download(stage.ctx, instance, made.id, ME)
    found = members(pieces)
    assert name.startswith("ada-")
    assert name.endswith(".tar.gz")
    assert found[".openclaw/workspace/diary.md"] == b"dear diary"
    assert b"Left out" in found["READ-ME-FIRST.txt"]
    everything = b"".join(found.values())
    secrets = (stage.world.root / instance.id / "secrets/secrets.json").read_text()
    for word in secrets.split('"'):
        assert len(word) < 20 or word.encode() not in everything
    assert b"house" not in found[".openclaw/openclaw.json"]
    assert stage.count("audit_log", "action = 'backup.download'") == 1

    with stage.ctx.db.tx() as db:
        backup.ask_remove(db, stage.ctx, instance.id, made.id, ME)
    stage.wait(lambda: stage.count("backup") == 0)
    assert sealed_files(stage) == []
    with pytest.raises(NotFound):
        backup.download(stage.ctx, instance, made.id, ME)


def test_what_cannot_be_made_is_told_once(stage: Scene) -> None:
    begun, other = stage.live(), stage.live("bea@example.com")
    stage.world.root.joinpath("DISK_FULL").touch()
    for instance_id in (begun.instance.id, begun.instance.id, other.instance.id):
        operation = make(stage, instance_id)
        assert (operation.state, operation.error_code) == ("failed", "disk_full")
    assert {one.state for one in listed(stage, begun.instance.id)} == {"failed"}
    assert stage.count("notice", "kind = 'alert'") == 1
    assert sealed_files(stage) == []
    stage.world.root.joinpath("DISK_FULL").unlink()
    assert make(stage, begun.instance.id).state == "done"
    stage.wait(lambda: len(listed(stage, begun.instance.id)) == 1)
    assert stage.world.running() == sorted([begun.instance.id, other.instance.id])


def test_daily_ones_are_made_a_few_at_a_time_and_the_oldest_go(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_context", scene.ctx)
    attempts.stopping.clear()
    begun = [scene.live(f"{name}@example.com") for name in ("ada", "bea", "cay")]

    def close_all() -> None:
        with scene.ctx.db.tx() as db:
            db.execute(update(Operation).where(Operation.kind == "backup").values(state="failed"))

    assert backup.ask_due() == 0, "they are younger than a day"
    kept = scene.ctx.settings.backups_kept
    for day in range(kept + 2):
        scene.ctx.clock.advance(timedelta(days=1))
        asked = [backup.ask_due()]
        assert scene.count("backup", "state = 'making'") == scene.ctx.settings.backups_at_once == 2
        asked += [backup.ask_due()]
        while scene.count("backup", "state = 'making'"):
            for one in begun:
                for made in listed(scene, one.instance.id):
                    backup.copy(scene.ctx, made.id)
                backup.prune(one.instance.id)
            asked += [backup.ask_due()]
        assert asked == [2, 0, 1, 0], day
    for one in begun:
        found = listed(scene, one.instance.id)
        assert [made.made_for for made in found] == ["daily"] * kept
    assert len(sealed_files(scene)) == 3 * kept
    scene.ctx.clock.advance(timedelta(days=1))
    backup.ask_due()
    scene.ctx.clock.advance(timedelta(days=2))
    backup.ask_due()
    assert scene.count("backup", "problem = 'lost'") == 0, "what would make them waits yet"
    close_all()
    backup.ask_due()
    assert scene.count("backup", "problem = 'lost'") == 2, "begun two days ago and never made"


def test_what_may_be_asked(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for state in (State.PENDING, State.PROVISIONING, State.FAILED, State.DELETED):
        begun = stage.put_in(state)
        with pytest.raises(IllegalMove), stage.ctx.db.tx() as db:
            backup.ask_backup(db, stage.ctx, begun.instance.id, ME)
    paused = stage.put_in(State.SUSPENDED)
    assert make(stage, paused.instance.id).state == "done"
    (made,) = listed(stage, paused.instance.id)
    assert members(backup.download(stage.ctx, stage.instance(paused.instance.id), made.id, ME)[1])
    with stage.ctx.db.tx() as db:
        daily = backups.open_backup(db, paused.instance.id, MadeFor.DAILY, stage.ctx.clock.now())
        with pytest.raises(IllegalMove, match="still being made"):
            backup.ask_remove(db, stage.ctx, paused.instance.id, daily.id, ME)
        backups.mark_ready(db, daily.id, stage.ctx.clock.now(), size_bytes=1, digest="x", version="x")
        with pytest.raises(IllegalMove, match="go by themselves"):
            backup.ask_remove(db, stage.ctx, paused.instance.id, daily.id, ME)
    for _ in range(backup.AN_HOUR - 1):
        make(stage, paused.instance.id)
    with pytest.raises(RateLimited), stage.ctx.db.tx() as db:
        backup.ask_backup(db, stage.ctx, paused.instance.id, ME)


def test_a_damaged_or_lost_file_is_said_before_anything_is_sent(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = stage.live()
    make(stage, begun.instance.id)
    (made,), (file,) = listed(stage, begun.instance.id), sealed_files(stage)
    instance = stage.instance(begun.instance.id)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Conflict) as refused:
        backup.download(stage.ctx, instance, made.id, ME)
    assert refused.value.error_code == "backup_broken"
    file.unlink()
    with pytest.raises(Conflict) as refused:
        backup.download(stage.ctx, instance, made.id, ME)
    assert refused.value.error_code == "no_file"

    def away(*_: object) -> Iterator[bytes]:
        raise ProviderError("no answer", code="io_error")

    monkeypatch.setattr(backup, "opened", away)
    with pytest.raises(Unavailable):
        backup.download(stage.ctx, instance, made.id, ME)


def test_an_assistant_takes_its_backups_with_it(stage: Scene) -> None:
    begun = stage.live()
    make(stage, begun.instance.id)
    assert len(sealed_files(stage)) == 1
    with stage.ctx.db.tx() as db:
        operation = lifecycle.ask_delete(db, stage.ctx, begun.instance.id, ME)
    assert ended(stage, operation).state == "done"
    assert sealed_files(stage) == []
    assert stage.count("backup") == 0
    with stage.ctx.db.read() as db:
        assert operations.under_way(db, begun.instance.id) is None


def test_a_removal_that_failed_is_tried_again(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = stage.live()
    make(stage, begun.instance.id)
    (made,) = listed(stage, begun.instance.id)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "remove", _away)
        with stage.ctx.db.tx() as db:
            backup.ask_remove(db, stage.ctx, begun.instance.id, made.id, ME)
        stage.wait(lambda: engine.is_over(stage.ctx, f"remove-backup:{made.id}"))
    assert stage.count("backup", "state = 'removing'") == 1
    backup.ask_due()
    stage.wait(lambda: stage.count("backup") == 0)
    assert sealed_files(stage) == []


def test_a_disk_without_room_is_told_and_nothing_stays(stage: Scene) -> None:
    begun = stage.live()
    vault = Folder(Folder.Options(), stage.ctx.settings.model_copy(update={"disk_kept_free_mb": 10**12}))
    object.__setattr__(stage.ctx, "vault", vault)
    operation = make(stage, begun.instance.id)
    assert (operation.state, operation.error_code) == ("failed", "disk_full")
    assert stage.count("notice", "kind = 'alert'") == 1
    assert [path for path in stage.ctx.settings.vault_dir.rglob("*") if path.is_file()] == []


def _away(*_: object) -> None:
    raise ProviderError("the disk does not answer", code="io_error")
