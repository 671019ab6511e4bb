"""An assistant's log on its page."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from datetime import timedelta

import pytest

from clawhaven.context import Context
from clawhaven.instances import logbook
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import Placement
from clawhaven.web import logs, streams
from tests.fakes.world import FolderRuntime
from tests.web.conftest import TOKEN, Visit, draft


def test_secrets_are_masked_and_markup_is_text(
    mine: Visit, live: str, world: FolderRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def talkative(_placement: Placement, _lines: int = 200) -> Sequence[str]:
        return [f"polling with {TOKEN}\n", "<script>alert(1)</script>"]

    monkeypatch.setattr(world, "logs", talkative)
    page = mine.get(f"/instances/{live}/logs").text
    assert TOKEN not in page
    assert "polling with [redacted]" in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_runtime_that_does_not_answer_is_said(
    mine: Visit, live: str, world: FolderRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_placement: Placement, _lines: int = 200) -> Sequence[str]:
        raise ProviderError("gone fishing", code="down")

    monkeypatch.setattr(world, "logs", silent)
    page = mine.get(f"/instances/{live}/logs")
    assert page.status_code == 200
    assert "cannot be read at the moment" in page.text
    assert "fishing" not in page.text


def test_nothing_yet(mine: Visit) -> None:
    assert "Nothing has been written yet" in mine.get(f"/instances/{draft(mine)}/logs").text


def test_the_day_is_filtered_and_downloaded(mine: Visit, ctx: Context, live: str, world: FolderRuntime) -> None:
    write_log(ctx, world, live, ("ERROR", "telegram", "token refused"), ("INFO", "gateway", "ready <b>now</b>"))
    path = f"/instances/{live}/logs"
    page = mine.get(path).text
    assert "token refused" in page
    assert "ready &lt;b&gt;now&lt;/b&gt;" in page
    assert "from yesterday" not in page
    only = mine.get(path, params={"level": "error", "q": "TOKEN"}).text
    assert "token refused" in only
    assert "ready" not in only
    assert "Nothing like that in the last 24 hours" in mine.get(path, params={"q": "unheard of"}).text
    file = mine.get(f"{path}/download", params={"level": "error"})
    assert file.headers["content-disposition"].startswith('attachment; filename="')
    assert file.text.endswith("ERROR [telegram] token refused\n")
    assert file.text.count("\n") == 1


def test_new_lines_come_as_they_are_written(
    mine: Visit, stranger: Visit, ctx: Context, live: str, world: FolderRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(streams, "LONGEST_SECONDS", 0.2)
    write_log(ctx, world, live, ("INFO", "gateway", "before the page"))
    found = re.search(r'data-url="([^"]+)"', mine.get(f"/instances/{live}/logs").text)
    assert found is not None
    url = html.unescape(found.group(1))
    write_log(ctx, world, live, ("WARN", "gateway", f"after it, with {TOKEN}"))
    told = mine.get(url).text
    (block,) = [part for part in told.split("\n\n") if "event: lines" in part]
    (line,) = json.loads(block.split("data: ")[1])["lines"]
    assert (line["level"], line["source"], line["text"]) == ("warn", "gateway", "after it, with [redacted]")
    position = block.split("id: ")[1].split("\n")[0]
    assert "lines" not in mine.get(url, headers={"last-event-id": position}).text
    assert stranger.get(url).status_code == 404


def write_log(ctx: Context, world: FolderRuntime, instance_id: str, *lines: tuple[str, str, str]) -> None:
    """What OpenClaw writes; the first time with a line that is too old to be shown."""
    path = world.root / instance_id / logbook.PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    old = [] if path.exists() else [("INFO", "gateway", "from yesterday", timedelta(hours=25))]
    with path.open("a") as log:
        for level, source, message, age in [*old, *((*line, timedelta()) for line in lines)]:
            about = {"0": json.dumps({"subsystem": source}), "_meta": {"logLevelName": level}, "message": message}
            log.write(json.dumps({**about, "time": (ctx.clock.now() - age).isoformat()}) + "\n")
