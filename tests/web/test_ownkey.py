"""The model key on the configuration page."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from clawhaven.context import Context
from clawhaven.metering.models import OwnKey
from tests.fakes.world import FolderRuntime
from tests.web.conftest import Visit, bring_to_life, draft

KEY = "sk-sandbox-customers-1234"


@pytest.fixture
def own(ctx: Context, world: FolderRuntime, mine: Visit) -> str:
    """The id of the customer's active assistant on an own-key plan."""
    instance_id = draft(mine, plan="monthly")
    bring_to_life(ctx, world, instance_id)
    return instance_id


def keys(ctx: Context) -> list[OwnKey]:
    with ctx.db.read() as db:
        return list(db.scalars(select(OwnKey)))


def give(mine: Visit, own: str, **fields: str) -> int:
    page = f"/instances/{own}/configuration"
    return mine.post(f"/instances/{own}/api-key", page=page, **{"api_key": KEY, **fields}).status_code


def test_missing_given_replaced_removed(mine: Visit, ctx: Context, own: str) -> None:
    path = f"/instances/{own}/configuration"
    page = mine.get(path).text
    assert "Until it is here, the assistant cannot answer" in page
    assert 'type="password"' in page
    assert "https://platform.claude.com/settings/keys" in page
    add = f'href="{path}#api-key"'
    assert 'id="api-key"' in page
    assert add in mine.get("/dashboard").text
    assert add in mine.get(f"/ready/{own}").text
    assert give(mine, own, vendor="") == 303
    assert add not in mine.get("/dashboard").text
    page = mine.get(f"{path}?done=key-saved").text
    assert "<code>1234</code>" in page
    assert "The key works and is in use" in page
    assert KEY not in page
    assert give(mine, own, api_key="sk-sandbox-another-9876") == 303
    assert [key.hint for key in keys(ctx)] == ["9876"]
    answer = mine.post(f"/instances/{own}/api-key/remove", page=path)
    assert answer.headers["location"] == f"{path}?done=key-removed"
    assert keys(ctx) == []
    again = mine.post(f"/instances/{own}/api-key/remove", page=path)
    assert again.headers["location"] == f"{path}?done=unchanged"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"api_key": "not-a-known-key"}, 'id="vendor-error"'),
        ({"vendor": "openai"}, 'id="vendor-error"'),
        ({"api_key": "short"}, 'id="api_key-error"'),
        ({"api_key": "sk-sandbox-"}, 'id="api_key-error"'),
    ],
)
def test_what_is_wrong_is_told_at_its_field(
    mine: Visit, ctx: Context, own: str, fields: dict[str, str], place: str
) -> None:
    path = f"/instances/{own}/configuration"
    page = mine.post(f"/instances/{own}/api-key", page=path, **{"api_key": KEY, **fields})
    assert page.status_code == 400
    assert place in page.text
    assert f'value="{fields.get("api_key", KEY)}"' not in page.text
    assert KEY not in page.text
    assert 'value="Ada"' in page.text  # the rest of the page is as it was
    assert keys(ctx) == []


def test_other_plans_have_no_such_section(mine: Visit, ctx: Context, live: str) -> None:
    path = f"/instances/{live}/configuration"
    assert "Model key" not in mine.get(path).text
    page = mine.post(f"/instances/{live}/api-key", page=path, api_key=KEY)
    assert page.status_code == 409
    assert "comes with the model" in page.text


def test_strangers_and_forged_forms_change_nothing(mine: Visit, stranger: Visit, ctx: Context, own: str) -> None:
    for action in ("api-key", "api-key/remove"):
        path = f"/instances/{own}/{action}"
        assert stranger.post(path, page="/configure", api_key=KEY).status_code == 404
        assert mine.http.post(path, data={"api_key": KEY}).status_code == 403
    assert keys(ctx) == []


def test_the_form_for_the_rest_still_works(mine: Visit, own: str) -> None:
    path = f"/instances/{own}/configuration"
    fields = {"assistant_name": "Eve", "persona": "dev", "custom_instructions": "x"}
    assert "Look at the changes" in mine.post(path, **fields).text
    wrong = mine.post(path, **{**fields, "assistant_name": ""})
    assert wrong.status_code == 400
    assert 'id="assistant_name-error"' in wrong.text
    assert "Model key" in wrong.text
