"""An assistant that has been used: talk, a log, files with a history."""

from __future__ import annotations

import json
from datetime import timedelta

from playwright.sync_api import Page

from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.instances import backups, logbook, versions
from clawhaven.instances.backups import MadeFor
from clawhaven.instances.models import Instance
from clawhaven.instances.versions import Author
from clawhaven.workflows import backup, chat, files
from tests.fakes.world import FolderRuntime


def live_in(ctx: Context, world: FolderRuntime, owner: Owner, instance_id: str) -> None:
    """Make it look used."""
    folder = world.root / instance_id
    with ctx.db.read() as db:
        instance = db.get_one(Instance, instance_id)
    for file in files.render_workspace(ctx, instance):
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).write_text(file.content)
    now = ctx.clock.now()
    soul = folder / "state/workspace/SOUL.md"
    with ctx.db.tx() as db:
        versions.add(db, ctx.keys, instance_id, "SOUL.md", soul.read_text(), Author.FOUND, now - timedelta(days=3))
        soul.write_text(soul.read_text().replace("clear and short", "warm, clear and short"))
        versions.add(db, ctx.keys, instance_id, "SOUL.md", soul.read_text(), Author.OWNER, now)
    for made_for, before in ((MadeFor.DAILY, timedelta(days=1)), (MadeFor.OWNER, timedelta(hours=2))):
        with ctx.db.tx() as db:
            made = backups.open_backup(db, instance_id, made_for, now - before)
        backup.copy(ctx, made.id)
    with ctx.db.tx() as db:
        backups.mark_failed(db, backups.open_backup(db, instance_id, MadeFor.DAILY, now).id, "disk_full")
        db.get_one(Instance, instance_id).openclaw_version = "2026.1.1"
        db.get_one(Instance, instance_id).openclaw_since_at = now - timedelta(days=40)
    for _event in chat.converse(ctx, instance_id, owner.account.id, "What is on my list today?"):
        pass
    told = (("INFO", "gateway", "ready"), ("WARN", "telegram", "slow answer, trying again"), ("ERROR", "tools", "404"))
    for level, source, words in told:
        add_line(ctx, world, instance_id, level, source, words)


def add_line(ctx: Context, world: FolderRuntime, instance_id: str, level: str, source: str, words: str) -> None:
    """What OpenClaw writes into its log."""
    path = world.root / instance_id / logbook.PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"0": json.dumps({"subsystem": source}), "_meta": {"logLevelName": level}, "message": words}
    with path.open("a") as log:
        log.write(json.dumps({**about, "time": ctx.clock.now().isoformat()}) + "\n")


def wait_for_talk(page: Page) -> None:
    """What was said before has come."""
    page.locator(".turn").first.wait_for()


def look_at_changes(page: Page) -> None:
    """Another name, up to the review."""
    page.get_by_label("Name", exact=True).fill("Ada Lovelace")
    page.get_by_role("button", name="Look at the changes").click()
    page.locator(".diff").first.wait_for()


def write_file(page: Page, file: str, words: str) -> None:
    """Write over the whole text of an assistant's file, as a hand does it."""
    page.get_by_role("textbox", name=file).focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(words)


def preview_file(page: Page) -> None:
    """Other words, up to their preview."""
    write_file(page, "AGENTS.md", "# Rules\n\n- Be **kind**.\n- Read [this](https://example.com).")
    page.get_by_role("button", name="Preview").click()
    page.locator("#preview strong").wait_for()
