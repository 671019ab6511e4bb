"""One assistant's pages and buttons, and that they are its owner's alone."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from clawhaven.context import Context
from clawhaven.core.audit import AuditEntry
from clawhaven.instances import operations
from clawhaven.instances.models import Instance
from tests.web.conftest import Visit, draft, state_of

TABS = ("", "/chat", "/channels", "/configuration", "/usage", "/logs", "/history")
ACTIONS = (
    "start",
    "stop",
    "restart",
    "delete",
    "configuration",
    "chat",
    "channels/telegram",
    "channels/telegram/listen",
)


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_is_the_owners(mine: Visit, stranger: Visit, visit: Visit, live: str, tab: str) -> None:
    path = f"/instances/{live}{tab}"
    page = mine.get(path)
    assert page.status_code == 200
    assert page.text.count('aria-current="page"') == 1
    assert stranger.get(path).status_code == 404
    assert visit.get(path).headers["location"] == f"/sign-in?next={path}"


@pytest.mark.parametrize("action", ACTIONS)
def test_every_button_is_the_owners(
    mine: Visit, stranger: Visit, visit: Visit, ctx: Context, live: str, action: str
) -> None:
    path = f"/instances/{live}/{action}"
    assert stranger.post(path, page="/dashboard", confirm="Ada", message="hi").status_code == 404
    assert visit.post(path, page="/sign-in", confirm="Ada").status_code == 401
    assert mine.http.post(path, data={"confirm": "Ada"}).status_code == 403  # without the form's token
    assert state_of(ctx, live) == "active"
    with ctx.db.read() as db:
        assert operations.under_way(db, live) is None
        assert db.get_one(Instance, live).deletion_asked_at is None


def test_stop_and_start(mine: Visit, ctx: Context, live: str) -> None:
    overview = f"/instances/{live}"
    stopped = mine.post(f"{overview}/stop", page=overview)
    assert stopped.headers["location"] == f"{overview}?done=stop"
    page = mine.get(stopped.headers["location"]).text
    assert "You stopped it" in page
    assert "Last answer finished" in page  # the operation's steps
    assert f"{overview}/start" in page
    assert f"{overview}/restart" not in page
    assert state_of(ctx, live) == "suspended"
    assert mine.post(f"{overview}/start", page=overview).status_code == 303
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).suspended_for is None
        actors = set(db.scalars(select(AuditEntry.actor).where(AuditEntry.subject == live)))
        owner_id = db.scalars(select(AuditEntry.actor).where(AuditEntry.action == "instance.suspend")).one()
    assert owner_id.startswith("user:usr_")
    assert actors == {owner_id}


def test_restart_is_under_way_and_an_impossible_one_is_explained(mine: Visit, ctx: Context, live: str) -> None:
    overview = f"/instances/{live}"
    assert mine.post(f"{overview}/restart", page=overview).status_code == 303
    assert "Restarting" in mine.get(overview).text
    mine.post(f"{overview}/stop", page=overview)
    refused = mine.post(f"{overview}/restart", page=overview)
    assert refused.status_code == 409
    assert "cannot be restarted" in refused.text
    assert f'href="{overview}"' in refused.text


def test_delete_wants_the_name(mine: Visit, ctx: Context, live: str) -> None:
    overview = f"/instances/{live}"
    wrong = mine.post(f"{overview}/delete", page=overview, confirm="ada")
    assert wrong.status_code == 400
    assert 'id="confirm-error"' in wrong.text
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).deletion_asked_at is None
    assert mine.post(f"{overview}/delete", page=overview, confirm=" Ada ").status_code == 303
    page = mine.get(overview).text
    assert "Being deleted" in page
    assert f"{overview}/delete" not in page
    assert f"{overview}/stop" not in page


def test_a_model_is_chosen_from_those_on_offer(mine: Visit, ctx: Context, live: str) -> None:
    path = f"/instances/{live}/configuration"
    fields = {"assistant_name": "Ada", "persona": "personal", "custom_instructions": "Help me plan."}
    page = mine.get(path).text
    assert '<option value="sandbox-1" selected>sandbox-1: $4.50 read, $22.50 written' in page
    assert "Your plan includes the model" in page
    wrong = mine.post(path, **fields, model="gpt-6-luna")
    assert (wrong.status_code, 'id="model-error"' in wrong.text) == (400, True)
    assert mine.post(path, **fields, model="sandbox-1").headers["location"] == f"{path}?done=unchanged"
    with ctx.db.tx() as db:
        db.get_one(Instance, live).model = "retired-1"
    assert "retired-1 (not on offer any more)" in mine.get(path).text
    assert mine.post(path, **fields, model="retired-1").headers["location"] == f"{path}?done=unchanged"
    assert mine.post(path, **fields, model="sandbox-1").headers["location"] == f"{path}?done=saved"
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).model == "sandbox-1"
        assert operations.under_way(db, live) is not None


def test_configuration_is_saved_once_and_refused_whole(mine: Visit, ctx: Context, live: str) -> None:
    path = f"/instances/{live}/configuration"
    fields = {"assistant_name": "Bo", "persona": "dev", "custom_instructions": "Be brief.\r\nAlways."}
    assert mine.post(path, **fields).headers["location"] == f"{path}?done=saved"
    with ctx.db.read() as db:
        row = db.get_one(Instance, live)
        assert (row.name, row.persona, row.instructions) == ("Bo", "dev", "Be brief.\nAlways.")
        asked = operations.under_way(db, live)
        assert asked is not None
        assert asked.kind == "configure"
    assert mine.post(path, **fields).headers["location"] == f"{path}?done=unchanged"
    wrong = mine.post(path, assistant_name="{x}", persona="pirate", custom_instructions="kept words")
    assert wrong.status_code == 400
    assert 'id="assistant_name-error"' in wrong.text
    assert 'id="persona-error"' in wrong.text
    assert "kept words" in wrong.text
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).name == "Bo"


def test_history_tells_what_happened(mine: Visit, live: str) -> None:
    page = mine.get(f"/instances/{live}/history").text
    assert page.index("The assistant is ready.") < page.index("Building the assistant.")


def test_a_draft_can_be_paid_or_deleted(mine: Visit) -> None:
    instance_id = draft(mine)
    page = mine.get(f"/instances/{instance_id}").text
    assert "Finish the payment" in page
    assert f"/instances/{instance_id}/delete" in page
    assert f"/instances/{instance_id}/stop" not in page


def test_an_address_cannot_put_words_into_our_mouth(mine: Visit, live: str) -> None:
    page = mine.get(f"/instances/{live}", params={"done": "You won a prize"}).text
    assert "prize" not in page
    assert "Restarting. It takes" in mine.get(f"/instances/{live}", params={"done": "restart"}).text


def test_the_operations_stream_is_the_owners_and_ends(mine: Visit, stranger: Visit, live: str) -> None:
    accept = {"accept": "text/event-stream"}
    assert stranger.get(f"/instances/{live}/events", headers=accept).status_code == 404
    told = mine.get(f"/instances/{live}/events", headers=accept).text
    assert '"is_over": true' in told
