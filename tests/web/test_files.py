"""An assistant's files in the browser: edited, previewed, compared, undone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clawhaven.context import Context
from clawhaven.instances import versions, workspace
from clawhaven.ports.errors import ProviderError
from clawhaven.web import deps
from clawhaven.workflows import editing, engine
from tests.fakes.world import FolderRuntime
from tests.web.conftest import Visit, draft, token_in


@pytest.fixture
def soul(world: FolderRuntime, live: str) -> Path:
    """The assistant's SOUL.md."""
    path = world.root / live / "state/workspace/SOUL.md"
    path.parent.mkdir(parents=True)
    path.write_text("# Soul\n\nBe kind.\n")
    return path


def base_in(page: str) -> str:
    found = re.search(r'name="base" value="(\w+)"', page)
    assert found is not None
    return found.group(1)


def write_newest(ctx: Context, instance_id: str, monkeypatch: pytest.MonkeyPatch, file: str = "SOUL.md") -> None:
    """What the worker does."""
    monkeypatch.setattr(engine, "_context", ctx)
    with ctx.db.read() as db:
        newest = versions.newest(db, instance_id, file)
    assert newest is not None
    assert editing.write_version(newest.id) == "written"


def test_a_file_is_shown_changed_and_brought_back(
    mine: Visit, ctx: Context, live: str, soul: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/instances/{live}/files/soul"
    page = mine.get(path).text
    assert "# Soul\n\nBe kind.\n</textarea>" in page
    assert "<h3>Soul</h3>" in page
    assert "No change yet" in page
    saved = mine.post(path, text="Be brief.\r\n<b>Always.</b>", base=base_in(page))
    assert saved.headers["location"] == f"{path}?done=file-saved"
    assert "being written" in mine.get(path).text
    write_newest(ctx, live, monkeypatch)
    assert soul.read_text() == "Be brief.\n<b>Always.</b>\n"
    page = mine.get(path).text
    assert "being written" not in page
    assert "&lt;b&gt;Always.&lt;/b&gt;" in page
    assert "<b>Always" not in page
    old = mine.get(f"{path}/versions/1").text
    assert re.search(r"<del>.*Be kind\.</del>", old)
    assert re.search(r"<ins>.*Be brief\.</ins>", old)
    assert re.search(r"<ins>.*Be brief\.</ins>", mine.get(f"{path}/versions/2?against=before").text)
    assert "This is what the file says now" in mine.get(f"{path}/versions/2").text
    back = mine.post(f"{path}/versions/1/restore", page=f"{path}/versions/1")
    assert back.headers["location"] == f"{path}?done=file-restored"
    write_newest(ctx, live, monkeypatch)
    assert soul.read_text() == "# Soul\n\nBe kind.\n"
    assert mine.get(f"{path}/versions/9").status_code == 404
    assert mine.post(path, text="# Soul\n\nBe kind.").headers["location"] == f"{path}?done=unchanged"


def test_what_the_assistant_changed_meanwhile_is_not_written_over_unseen(mine: Visit, live: str, soul: Path) -> None:
    path = f"/instances/{live}/files/soul"
    base = base_in(mine.get(path).text)
    soul.write_text("# Soul\n\nI like tea.\n")
    page = mine.post(path, text="# Soul\n\nBe brief.\n", base=base)
    assert page.status_code == 409
    assert "Somebody was faster" in page.text
    assert re.search(r"<del>.*I like tea\.</del>", page.text)
    assert "Be brief.\n</textarea>" in page.text
    fields = {"csrf": token_in(page.text), "text": "# Soul\n\nBe brief.\n", "base": base_in(page.text)}
    assert mine.http.post(path, data=fields).status_code == 303


def test_a_preview_changes_nothing(mine: Visit, live: str, soul: Path) -> None:
    path = f"/instances/{live}/files/soul"
    assert "data-unsaved" not in mine.get(path).text
    page = mine.post(path, text="**bold** <i>x</i>", base="x", action="preview").text
    assert "data-unsaved" in page
    assert "<strong>bold</strong> &lt;i&gt;" in page
    assert "**bold** &lt;i&gt;x&lt;/i&gt;</textarea>" in page
    part = mine.post(f"{path}/preview", page=path, text="**bold** <i>x</i>")
    assert part.text == "<p><strong>bold</strong> &lt;i&gt;x&lt;/i&gt;</p>\n"
    assert soul.read_text() == "# Soul\n\nBe kind.\n"
    much = mine.post(f"{path}/preview", page=path, text="x" * 30_000).text
    assert much == f"<p>{'x' * workspace.LIMITS['SOUL.md']}</p>\n"


def test_drawing_is_limited_for_an_account(mine: Visit, live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deps, "DRAWINGS", 3)
    path, settings = f"/instances/{live}/files/soul", f"/instances/{live}/configuration"
    form = {"csrf": token_in(mine.get(settings).text), "text": "my long text", "custom_instructions": "my long text"}
    assert mine.http.post(f"{path}/preview", data=form).status_code == 200
    assert mine.http.post(path, data={**form, "action": "preview"}).status_code == 200
    assert mine.http.post(settings, data=form).status_code == 400
    assert mine.http.post(f"{path}/preview", data=form).status_code == 429
    for url in (path, settings, f"{settings}/apply"):
        page = mine.http.post(url, data=form)
        assert page.status_code == 429
        assert "my long text</textarea>" in page.text
        assert re.search(r"Please wait (a second|\d+ seconds)\.", page.text)


def test_looking_is_drawing_too(mine: Visit, live: str, soul: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/instances/{live}/files/soul"
    assert mine.post(path, text="Be brief.", base=base_in(mine.get(path).text)).status_code == 303
    monkeypatch.setattr(deps, "DRAWINGS", 6)
    assert [mine.get(f"{path}/versions/1").status_code for _ in range(2)] == [200, 200]
    assert [mine.get(one).status_code for one in (path, f"/instances/{live}/files", path)] == [200, 429, 429]
    assert mine.get(f"{path}/versions/1").status_code == 429
    waiting = mine.get(path, headers={"hx-request": "true"})  # what the page's script asks each second draws nothing
    assert waiting.status_code == 200
    assert 'id="file-state"' in waiting.text
    assert "<p>Be brief.</p>" not in waiting.text


def test_what_is_too_long_or_unknown_or_unreadable(
    mine: Visit, live: str, soul: Path, world: FolderRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/instances/{live}/files/user"
    page = mine.post(path, text="x" * (workspace.USER_FILE_LIMIT + 1))
    assert page.status_code == 400
    assert 'id="text-error"' in page.text
    assert mine.get(f"/instances/{live}/files/passwd").status_code == 404
    soul.write_text("x" * 100_000)
    page = mine.get(f"/instances/{live}/files")
    assert "longer than can be kept" in page.text
    assert f"\n{'x' * versions.LONGEST}</textarea>" in page.text
    refused = mine.post(f"/instances/{live}/files/soul", text="short")
    assert refused.status_code == 409
    assert "too long to be kept" in refused.text
    assert soul.read_text() == "x" * 100_000

    def silent(*_: object) -> str:
        raise ProviderError("gone fishing", code="down")

    monkeypatch.setattr(world, "read", silent)
    page = mine.get(f"/instances/{live}/files")
    assert page.status_code == 200
    assert "cannot be read at the moment" in page.text
    assert "fishing" not in page.text


def test_a_file_that_grew_too_long_is_compared_with_its_beginning(mine: Visit, live: str, soul: Path) -> None:
    path = f"/instances/{live}/files/soul"
    base = base_in(mine.get(path).text)
    assert mine.post(path, text="Be brief.", base=base).status_code == 303
    soul.write_text("y" * 100_000)
    with mine.ctx.db.tx() as db:
        newest = versions.newest(db, live, "SOUL.md")
        assert newest is not None
        versions.mark_written(newest, mine.ctx.clock.now())
    for page in (mine.get(f"{path}/versions/1"), mine.post(path, text="Be kind.", base=base)):
        assert "y" * 1000 in page.text
        assert page.text.count("y") < versions.LONGEST + 5000
        assert "longer than can be kept" in page.text


def test_a_stale_form_changes_nothing_and_keeps_its_text(mine: Visit, live: str, soul: Path) -> None:
    path = f"/instances/{live}/files/soul"
    base = base_in(mine.get(path).text)
    page = mine.http.post(path, data={"csrf": "0" * 64, "text": "my <long> text", "base": base})
    assert page.status_code == 403
    assert "please send it once more" in page.text
    assert "my &lt;long&gt; text</textarea>" in page.text
    assert soul.read_text() == "# Soul\n\nBe kind.\n"
    again = {"csrf": token_in(page.text), "text": "my long text", "base": base_in(page.text)}
    assert mine.http.post(path, data=again).status_code == 303


def test_no_files_yet(mine: Visit) -> None:
    instance_id = draft(mine)
    assert "They are there once the assistant is built" in mine.get(f"/instances/{instance_id}/files").text
    assert mine.post(f"/instances/{instance_id}/files/soul", page="/dashboard", text="x").status_code == 409
