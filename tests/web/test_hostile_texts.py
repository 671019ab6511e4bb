"""Whatever somebody else wrote is shown as text, in Chromium: names, instructions, files, logs, answers, bots, reasons.

Every free text in the database and around it is replaced by markup that would run; then every page is opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from sqlalchemy import update

from clawhaven import wiring
from clawhaven.accounts.models import ApiKey, LoginSession
from clawhaven.billing.models import InboxEvent, Refund, Waiting
from clawhaven.context import Context
from clawhaven.core.audit import AuditEntry
from clawhaven.instances.models import Connection, Instance, InstanceEvent, Observed, OpenDraft, Operation
from clawhaven.metering.models import UsageHour, UsageRow
from clawhaven.notices.models import Notice
from clawhaven.ports.gateway import GatewayAddress, Said
from tests.fakes.world import FolderGateway, FolderRuntime
from tests.live.telegram_methods import Bot
from tests.web import browser, furnishing, gallery, lived
from tests.web.browser import Watcher
from tests.web.household import House

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

HOSTILE = "'\"></textarea></title><img src=x onerror=own()>{{7*7}}"
LONG = f"{HOSTILE}<script>own()</script><a href='javascript:own()'>x</a>\n[x](javascript:own())\n<style>*{{color:red}}"

TEXTS = (
    (Instance.name, HOSTILE),
    (Instance.instructions, LONG),
    (Instance.failure_message, LONG),
    (InstanceEvent.message, LONG),
    (Operation.error_message, LONG),
    (Observed.detail, LONG),
    (OpenDraft.name, HOSTILE),
    (OpenDraft.instructions, LONG),
    (Connection.bot_username, HOSTILE),
    (Connection.owner_username, HOSTILE),
    (LoginSession.user_agent, HOSTILE),
    (ApiKey.name, HOSTILE),
    (Refund.reason, LONG),
    (InboxEvent.note, LONG),
    (InboxEvent.vendor_type, HOSTILE),
    (Waiting.email, HOSTILE),
    (UsageRow.model, HOSTILE),
    (UsageRow.error, HOSTILE),
    (UsageHour.model, HOSTILE),
    (Notice.subject, HOSTILE),
    (Notice.last_error, LONG),
    (AuditEntry.actor, HOSTILE),
    (AuditEntry.action, HOSTILE),
)
"""Columns with words of customers, gateways, vendors and browsers."""

WATCH = "window.own = () => { window.owned = true; }; window.alert = window.own;"
FOUND = """({
    owned: window.owned === true,
    alive: document.querySelectorAll('[onerror], [onload], [onclick], [src="x"]').length,
    links: [...document.links].filter(link => link.protocol === 'javascript:').length,
    scripts: [...document.scripts].filter(script => !script.src).length,
    text: [document.body.innerText, ...[...document.querySelectorAll('input, textarea')].map(it => it.value)].join(' '),
})"""

ACTS = (None, lived.wait_for_talk)
"""What is done on a page before it is looked at; others send forms, and a text of theirs would be our own."""

EXPECTED = ("404 (Not Found)", "400 (Bad Request)", "409 (Conflict)", "410 (Gone)")
"""What a browser may complain of on any page; and of a page's own answer."""

SEEN_ON = frozenset({"instance-chat", "instance-paused-logs"})
"""Words that come from a gateway, not out of the database."""

SEEN_AT_LEAST = 12
"""Pages on which such a text stands, at least: otherwise this test looks at nothing."""


class HostileGateway(FolderGateway):
    """What it answered earlier would run."""

    def history(self, address: GatewayAddress, session: str, most: int) -> Sequence[Said]:
        return [Said(True, LONG, None), Said(False, LONG, None)]


def poison(ctx: Context, world: FolderRuntime, house: House) -> None:
    """Every text of somebody else's."""
    with ctx.db.tx() as db:
        for column, text in TEXTS:
            table = column.class_
            if table is Waiting:
                db.execute(update(Waiting).values(email=Waiting.id + HOSTILE))
            elif table is UsageHour:
                continue  # part of its key; the calls have the same name
            else:
                db.execute(update(table).values({column.key: text}))
    for path in (world.root / house.ids["live"]).rglob("*.md"):
        path.write_text(LONG)


@pytest.fixture
def logs(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway's log lines are its own words. They are of now: pages show the last 24 hours."""
    lines = [f"{ctx.clock.now():%Y-%m-%dT%H:%M:%SZ} {level} {LONG}" for level in ("info", "error")]
    monkeypatch.setattr(FolderRuntime, "logs", lambda *_, **__: lines)


def test_no_text_becomes_markup_on_any_page(ctx: Context, world: FolderRuntime, bot: Bot, logs: None) -> None:
    ctx = dataclasses.replace(ctx, gateway=wiring.Guarded(HostileGateway(world)))
    house = furnishing.furnish(ctx, world)
    poison(ctx, world, house)
    shown_on, wrong = set[str](), list[str]()
    with gallery.serving(ctx), gallery.serving(house.next_door), browser.open_chromium() as chromium:
        for who in sorted({shown.who for shown in gallery.pages(house)}):
            context = chromium.new_context(**browser.LOOKS[0][1])
            context.add_cookies(house.cookies(who, ctx.settings.base_url))
            context.add_init_script(WATCH)
            watcher = Watcher(context)
            page = context.new_page()
            for shown in (one for one in gallery.pages(house) if one.who == who and one.act in ACTS):
                watcher.expected = (*EXPECTED, f"status of {shown.status} ")
                page.goto(shown.url(ctx, house))
                if shown.act is not None:
                    shown.act(page)
                found = page.evaluate(FOUND)
                if found.pop("text").find("onerror=own()") >= 0:
                    shown_on.add(shown.name)
                wrong += [f"{shown.name}: {name}" for name, value in found.items() if value]
                wrong += [f"{shown.name}: {text}" for text in browser.faults(page, watcher)]
            context.close()
    assert wrong == []
    assert shown_on >= SEEN_ON, SEEN_ON - shown_on
    assert len(shown_on) >= SEEN_AT_LEAST, sorted(shown_on)
