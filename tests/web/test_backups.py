"""The backups of an assistant on the web: made, saved, brought back, removed; its version."""

from __future__ import annotations

import io
import tarfile

from clawhaven.context import Context
from clawhaven.instances import backups, operations
from clawhaven.instances.backups import MadeFor
from clawhaven.instances.models import Backup, Instance
from clawhaven.instances.states import State
from clawhaven.workflows import backup
from tests.fakes.world import FolderRuntime
from tests.web.conftest import Visit


def only(ctx: Context, instance_id: str) -> Backup:
    with ctx.db.read() as db:
        return backups.list_backups(db, instance_id)[0]


def test_made_saved_brought_back_and_removed(ctx: Context, world: FolderRuntime, mine: Visit, live: str) -> None:
    visit, instance_id = mine, live
    (world.root / live / "state").mkdir(exist_ok=True)
    at = f"/instances/{instance_id}/backups"
    assert "No backup yet" in visit.get(at).text
    made = visit.post(at)
    assert (made.status_code, made.headers["location"]) == (303, f"{at}?done=backup-making")
    shown = visit.get(at).text
    assert "Making a backup" in shown
    assert "Being made" in shown
    one = only(ctx, instance_id)
    assert "still being made" in visit.get(f"{at}/{one.id}").text
    assert "still being made" in visit.get(f"{at}/{one.id}/download").text
    backup.copy(ctx, one.id)
    shown = visit.get(f"{at}/{one.id}").text
    assert "Bring this backup back" in shown
    assert "Remove this backup" in shown
    saved = visit.get(f"{at}/{one.id}/download")
    assert saved.headers["content-disposition"].startswith('attachment; filename="ada-')
    with tarfile.open(fileobj=io.BytesIO(saved.content), mode="r:gz") as tar:
        assert "READ-ME-FIRST.txt" in tar.getnames()
    back = visit.post(f"{at}/{one.id}/restore", page="/settings")
    assert (back.status_code, back.headers["location"]) == (303, f"{at}?done=restoring")
    assert "Before another one was brought back" in visit.get(at).text
    refused = visit.post(f"{at}/{one.id}/remove", page="/settings")
    assert (refused.status_code, "needed for what is under way" in refused.text) == (409, True)
    with ctx.db.tx() as db:
        under_way = operations.latest(db, instance_id, "restore")
        assert under_way is not None
        operations.close(db, under_way.id, ctx.clock.now())
    gone = visit.post(f"{at}/{one.id}/remove", page="/settings")
    assert (gone.status_code, gone.headers["location"]) == (303, f"{at}?done=backup-removed")
    assert visit.get(f"{at}/{one.id}").status_code == 404


def test_a_refusal_is_said_on_the_page(ctx: Context, mine: Visit, live: str) -> None:
    instance_id = live
    at = f"/instances/{instance_id}/backups"
    with ctx.db.tx() as db:
        for _ in range(backups.MOST_OWN):
            backups.open_backup(db, instance_id, MadeFor.OWNER, ctx.clock.now())
        daily = backups.open_backup(db, instance_id, MadeFor.DAILY, ctx.clock.now())
        backups.mark_ready(db, daily.id, ctx.clock.now(), size_bytes=3_456_789, digest="x", version="2026.9.6")
    refused = mine.post(at)
    assert refused.status_code == 409
    assert "made by hand already" in refused.text
    assert "3.5 MB" in refused.text
    refused = mine.post(f"{at}/{daily.id}/remove", page="/settings")
    assert (refused.status_code, "go by themselves" in refused.text) == (409, True)
    refused = mine.get(f"{at}/{daily.id}/download")
    assert (refused.status_code, "not where it was put" in refused.text) == (409, True)


def test_the_version_and_its_upgrade(ctx: Context, mine: Visit, live: str) -> None:
    instance_id = live
    at, pinned = f"/instances/{instance_id}/backups", ctx.settings.openclaw_version

    def runs(version: str) -> str:
        with ctx.db.tx() as db:
            db.get_one(Instance, instance_id).openclaw_version = version
        return str(mine.get(at).text)

    assert "It is up to date." in runs(pinned)
    refused = mine.post(f"/instances/{instance_id}/upgrade", page="/settings")
    assert (refused.status_code, "no newer version" in refused.text) == (409, True)
    assert "/upgrade" in runs("2026.1.1")
    with ctx.db.tx() as db:
        db.get_one(Instance, instance_id).state = State.SUSPENDED
    shown = runs("2026.1.1")
    assert ("start it first" in shown, "/upgrade" in shown) == (True, False)
    refused = mine.post(f"/instances/{instance_id}/upgrade", page="/settings")
    assert (refused.status_code, "is paused. Start it first" in refused.text) == (409, True)
    with ctx.db.tx() as db:
        db.get_one(Instance, instance_id).state = State.ACTIVE
    asked = mine.post(f"/instances/{instance_id}/upgrade", page="/settings")
    assert (asked.status_code, asked.headers["location"]) == (303, f"{at}?done=upgrading")
    assert "Changing to another version" in mine.get(at).text
