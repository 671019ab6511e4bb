"""Keys for customers' own programs, on the assistant's page."""

from __future__ import annotations

import html
import re

import pytest
import sqlalchemy as sa

from clawhaven.context import Context
from clawhaven.core.secrets import hash_token
from clawhaven.instances.models import Instance
from clawhaven.metering import programs
from clawhaven.metering.models import ProgramKey
from tests.fakes.world import FolderRuntime
from tests.web.conftest import Visit, bring_to_life, draft

SECRET = re.compile(r"chp_[A-Za-z0-9_-]{43}")


@pytest.fixture
def live(ctx: Context, world: FolderRuntime, mine: Visit) -> str:
    """The id of the customer's active assistant."""
    instance_id = draft(mine)
    bring_to_life(ctx, world, instance_id)
    return instance_id


def made(ctx: Context) -> list[ProgramKey]:
    with ctx.db.read() as db:
        return list(db.scalars(sa.select(ProgramKey)))


def test_made_shown_once_listed_and_revoked(mine: Visit, ctx: Context, live: str) -> None:
    path = f"/instances/{live}/programs"
    assert "No key yet" in mine.get(path).text
    shown = mine.post(path, name=" Site search ", key="frm_1").text
    (secret,) = set(SECRET.findall(shown))
    (key,) = made(ctx)
    assert (key.name, key.key_hash, key.made_by) == ("Site search", hash_token(secret), None)
    again = mine.post(path, name="Site search", key="frm_1")
    assert again.status_code == 409
    assert "made already" in again.text
    page = mine.get(path).text
    assert not SECRET.search(page)
    assert key.prefix in page
    revoked = mine.post(f"{path}/{key.id}/revoke", page=path)
    assert revoked.headers["location"] == f"{path}?done=key-revoked"
    assert made(ctx) == []
    assert mine.post(f"{path}/{key.id}/revoke", page=path).status_code == 404


def test_both_clients_have_an_address_and_three_lines_that_are_python(mine: Visit, ctx: Context, live: str) -> None:
    page = html.unescape(mine.get(f"/instances/{live}/programs").text)
    base = f"{ctx.settings.base_url}/proxy"
    for client, address in (("Anthropic", base), ("OpenAI", f"{base}/v1")):
        assert f'{client}(base_url="{address}", api_key="chp_…")' in page
    with ctx.db.read() as db:
        chosen = db.get_one(Instance, live).model
    assert f'model="{chosen}"' in page
    examples = re.findall(r"(from (?:anthropic|openai) import .*?)</pre>", page, re.S)
    assert len(examples) == 2
    for example in examples:
        assert len(example.strip().splitlines()) == 3
        compile(example, "example", "exec")


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_bad_name_is_said_at_its_field(mine: Visit, ctx: Context, live: str, name: str) -> None:
    answer = mine.post(f"/instances/{live}/programs", name=name, key="frm_2")
    assert answer.status_code == 400
    assert 'id="name-error"' in answer.text
    assert made(ctx) == []


def test_strangers_see_and_end_nothing(mine: Visit, stranger: Visit, ctx: Context, live: str) -> None:
    path = f"/instances/{live}/programs"
    mine.post(path, name="mine", key="frm_3")
    (key,) = made(ctx)
    assert stranger.get(path).status_code == 404
    assert stranger.post(path, page="/settings", name="x", key="frm_4").status_code == 404
    assert stranger.post(f"{path}/{key.id}/revoke", page="/settings").status_code == 404
    assert len(made(ctx)) == 1


def test_an_own_key_plan_without_a_key_says_so(mine: Visit, ctx: Context, world: FolderRuntime) -> None:
    instance_id = draft(mine, plan="monthly")
    bring_to_life(ctx, world, instance_id)
    assert "there is none yet" in mine.get(f"/instances/{instance_id}/programs").text


def test_a_deleted_assistant_takes_none(mine: Visit, ctx: Context, live: str) -> None:
    with ctx.db.tx() as db:
        db.execute(sa.update(Instance).where(Instance.id == live).values(deletion_asked_at=ctx.clock.now()))
    path = f"/instances/{live}/programs"
    assert "New key" not in mine.get(path).text
    assert mine.post(path, page="/settings", name="late", key="frm_5").status_code == 409
    with ctx.db.read() as db:
        assert programs.list_keys(db, live) == []


def test_where_keys_are_made_the_reference_of_the_api_is_near(mine: Visit, live: str) -> None:
    for path in ("/settings/keys", f"/instances/{live}/programs", "/docs/your-account", "/docs/programs"):
        for language in ("en", "de"):
            assert 'href="/api/docs"' in mine.get(path, headers={"accept-language": language}).text, (path, language)
