"""kill -9 in backups, restores and upgrades: whoever starts again ends with the assistant as it was, or as it should
be, never with half of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawhaven.instances import backups
from clawhaven.instances.models import Backup, Instance
from clawhaven.workflows import engine
from tests.journeys.installation import Installation

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What is killed here is the work on files; the engine's own recovery on PostgreSQL is tried in test_kill.py."""

BACKUP = ("copy_state", "prune")
RESTORE = ("keep_safety", "bring_back", "open_gateway", "end_restore")
UPGRADE = ("note_before", "change_version", "end_upgrade")


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    installation = Installation(tmp_path, database_url)
    yield installation
    installation.close()


class Lived:
    """A paid assistant with a diary, and a backup of it from before the diary's last word."""

    def __init__(self, house: Installation) -> None:
        self.house = house
        self.process = house.start()
        begun = house.sign_up("alice@example.com")
        self.cookies, self.id = dict(begun.cookies), begun.json()["instance_id"]
        house.pay(begun.json()["checkout_url"])
        house.wait_for(self.id, "active")
        self.diary = house.folder / "world" / self.id / "state" / "workspace" / "diary.md"
        self.diary.write_text("then")
        self.ask("backups")
        self.idle()
        (self.backup,) = self.listed()
        self.diary.write_text("now")

    def ask(self, path: str) -> None:
        answer = self.house.http.post(f"/api/instances/{self.id}/{path}", cookies=self.cookies)
        assert answer.status_code == 202, answer.text

    def idle(self) -> None:
        open_ones = "state IN ('queued', 'running')"
        self.house.wait(lambda: self.house.count("operation", open_ones) == 0, "the operation to end")

    def listed(self) -> list[Backup]:
        with self.house.db.read() as db:
            return list(backups.list_backups(db, self.id))

    def unfinished(self) -> int:
        with self.house.db.read() as db:
            return sum(count for (_, state), count in engine.unfinished(db).items() if state in ("pending", "enqueued"))

    def killed_after(self, step: str, path: str) -> None:
        """Ask for it with a worker that dies after this step; another one goes on."""
        house = self.house
        # What is replayed would crash it too; and a dead worker's lease would hold the next operation up.
        house.wait(lambda: self.unfinished() == 0, "all to end")
        house.kill(self.process)
        dying = house.start(crash_after=step, START_TIMEOUT_SECONDS="10")
        self.ask(path)
        house.wait(lambda: dying.poll() is not None, "the crash")
        assert dying.returncode == -signal.SIGKILL, house.log_tail()
        with house.db.tx() as db:
            db.connection().exec_driver_sql("UPDATE executor_lease SET seen = 0")
        house.start(START_TIMEOUT_SECONDS="10")
        self.idle()

    def assert_whole(self, diary: str) -> None:
        house = self.house
        assert self.diary.read_text() == diary
        assert house.world.running() == [self.id]
        assert sorted(path.name for path in (house.folder / "world" / self.id).iterdir()) == [
            "RUNNING",
            "secrets",
            "state",
        ]
        assert {one.state for one in self.listed()} == {"ready"}
        sealed = {path.stem for path in house.settings.vault_dir.rglob("*.sealed")}
        assert sealed == {one.id for one in self.listed()}
        assert not list(house.settings.vault_dir.rglob("*.part"))
        assert house.count("boot_slot") == 0


@pytest.mark.parametrize("after", RESTORE)
def test_killed_in_a_restore(house: Installation, after: str) -> None:
    lived = Lived(house)
    lived.killed_after(after, f"backups/{lived.backup.id}/restore")
    lived.assert_whole("then")
    assert house.count("operation", "kind = 'restore' AND state = 'done'") == 1
    assert house.count("instance_event", "kind = 'restored'") == 1


def test_killed_while_a_restore_is_undone(house: Installation) -> None:
    lived = Lived(house)
    sealed = house.settings.vault_dir / lived.id / f"{lived.backup.id}.sealed"
    assert sealed.exists()
    (house.folder / "world" / "NEVER_READY_WITH").write_text("then")
    lived.killed_after("put_back", f"backups/{lived.backup.id}/restore")
    lived.assert_whole("now")
    assert house.count("operation", "kind = 'restore' AND error_code = 'put_back'") == 1
    assert house.count("notice", "kind = 'alert'") == 1


@pytest.mark.parametrize("after", BACKUP)
def test_killed_in_a_backup(house: Installation, after: str) -> None:
    lived = Lived(house)
    lived.killed_after(after, "backups")
    lived.assert_whole("now")
    assert len(lived.listed()) == 2


@pytest.mark.parametrize("after", UPGRADE)
def test_killed_in_an_upgrade(house: Installation, after: str) -> None:
    lived = Lived(house)
    with house.db.tx() as db:
        db.get_one(Instance, lived.id).openclaw_version = "2026.1.1"
    lived.killed_after(after, "upgrade")
    lived.assert_whole("now")
    with house.db.read() as db:
        placement = db.get_one(Instance, lived.id).placement
    assert placement is not None
    assert placement["version"] == "new"
