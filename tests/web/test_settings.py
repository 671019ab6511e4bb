"""A person's settings: address, sessions, keys, everything taken along, and the end."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven.accounts import sessions
from clawhaven.accounts.models import ApiKey
from clawhaven.accounts.signup import Owner, find_owner
from clawhaven.context import Context
from clawhaven.core import audit
from tests.web.conftest import DRAFT, TOKEN, Visit, token_in

PAGES = ("", "/sessions", "/keys", "/data")
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def link_to(visit: Visit, email: str) -> str:
    found = re.search(r"/settings/email/[\w-]+", visit.letters(email)[-1])
    assert found is not None
    return found.group()


def test_strangers_are_led_to_the_door(visit: Visit) -> None:
    for path in PAGES:
        assert visit.get(f"/settings{path}").headers["location"] == f"/sign-in?next=/settings{path}"
    assert visit.get("/settings/export").status_code == 303


def test_a_new_address_from_form_to_sign_in(mine: Visit, ctx: Context, owner: Owner) -> None:
    assert "alice@example.com" in mine.get("/settings").text
    for wrong in ("", "no address", "alice@example.com", "x" * 400 + "@example.com"):
        refused = mine.post("/settings/email", "/settings", email=wrong)
        assert (refused.status_code, 'id="email-error"' in refused.text) == (400, True), wrong
    asked = mine.post("/settings/email", "/settings", email=" Alice@New.Example ")
    assert asked.headers["location"] == "/settings?done=email-asked"
    assert "alice@new.example" in mine.get("/settings").text
    assert "asked to use another mail address" in mine.letters("alice@example.com")[-1]
    link = link_to(mine, "alice@new.example")
    elsewhere = Visit(ctx)
    for _ in range(2):
        assert elsewhere.get(link).status_code == 200, "looking does not use it up"
    used = elsewhere.post(link)
    assert (used.status_code, used.headers["location"]) == (303, "/sign-in")
    assert elsewhere.post(link).status_code == 401
    assert "new address" in mine.letters("alice@example.com")[-1]
    with ctx.db.read() as db:
        assert find_owner(db, "alice@example.com") is None
        found = find_owner(db, "alice@new.example")
        assert found is not None
        assert found.account.id == owner.account.id
    assert "alice@new.example" in mine.get("/settings").text


def test_an_address_of_somebody_else_is_not_told(mine: Visit, stranger: Visit) -> None:
    taken = mine.post("/settings/email", "/settings", email="mallory@example.com")
    assert taken.headers["location"] == "/settings?done=email-asked"
    letter = mine.letters("mallory@example.com")[-1]
    assert "has an account of its own" in letter
    assert "/settings/email/" not in letter
    told = traces_of_asking(mine, "mallory@example.com")
    mine.post("/settings/email", "/settings", email="nobody@example.com")
    assert told == traces_of_asking(mine, "nobody@example.com")


def traces_of_asking(visit: Visit, email: str) -> list[object]:
    """Everything that its owner can see of the last wish for a new address."""
    kept = json.loads(visit.get("/settings/export").text)
    history = [line["action"] for line in kept["history"] if line["action"].startswith("user.email")]
    written = {line["subject"] for line in kept["letters"]}
    page = re.sub(r'value="[^"]*"|nonce="[^"]*"', "", visit.get("/settings").text)
    warned = "asked to use another mail address" in visit.letters("alice@example.com")[-1]
    return [warned, history[-1:], written, email in page, email in json.dumps(kept), page.replace(email, "")]


def test_an_address_taken_back_and_too_many(mine: Visit) -> None:
    mine.post("/settings/email", "/settings", email="alice@new.example")
    link = link_to(mine, "alice@new.example")
    assert mine.post("/settings/email/take-back", "/settings").status_code == 303
    assert "alice@new.example" not in mine.get("/settings").text
    assert mine.post(link).status_code == 401
    for number in range(4):
        assert mine.post("/settings/email", "/settings", email=f"a{number}@new.example").status_code == 303
    assert mine.post("/settings/email", "/settings", email="b@new.example").status_code == 429


def test_sessions_are_told_apart_and_ended(mine: Visit, ctx: Context, owner: Owner) -> None:
    with ctx.db.tx() as db:
        now = ctx.clock.now()
        tokens = [sessions.open_session(db, owner.user.id, now, days=7, user_agent=FIREFOX) for _ in range(2)]
        ids = [entry.session.id for token in tokens if (entry := sessions.look_up(db, token, now))]
    html = mine.get("/settings/sessions").text
    assert html.count("Firefox on Linux</td>") == 2
    assert html.count("this one") == 1
    assert mine.post(f"/settings/sessions/{ids[0]}/end", "/settings/sessions").status_code == 303
    assert mine.post(f"/settings/sessions/{ids[0]}/end", "/settings/sessions").status_code == 404
    assert mine.get("/settings/sessions").text.count("Firefox on Linux</td>") == 1
    assert mine.post("/settings/sessions/end-others", "/settings/sessions").status_code == 303
    html = mine.get("/settings/sessions").text
    assert "Firefox" not in html
    assert "Sign out everywhere else" not in html


def test_last_use_is_kept_to_ten_minutes(mine: Visit, ctx: Context) -> None:
    def seen() -> object:
        with ctx.db.read() as db:
            return db.execute(sa.text("SELECT seen_at FROM login_session")).scalar_one()

    mine.get("/settings")
    assert seen() is None
    ctx.clock.advance(timedelta(minutes=11))
    mine.get("/settings")
    first = seen()
    assert first is not None
    ctx.clock.advance(timedelta(minutes=5))
    mine.get("/settings")
    assert seen() == first


def test_others_sessions_and_keys_are_not_there(mine: Visit, stranger: Visit, ctx: Context, owner: Owner) -> None:
    with ctx.db.read() as db:
        session_id = db.execute(
            sa.text("SELECT id FROM login_session WHERE user_id = :id"), {"id": owner.user.id}
        ).scalar_one()
    key_id = make_key(mine, ctx)
    assert stranger.post(f"/settings/sessions/{session_id}/end", "/settings/sessions").status_code == 404
    assert stranger.post(f"/settings/keys/{key_id}/revoke", "/settings/keys").status_code == 404
    assert mine.get("/settings/keys").status_code == 200


def make_key(visit: Visit, ctx: Context, **fields: str) -> str:
    made = visit.post("/settings/keys", **{"name": "laptop", "may": "read", "key": "frm_1"} | fields)
    assert made.status_code == 200, made.text
    with ctx.db.read() as db:
        return str(db.execute(sa.text("SELECT id FROM api_key ORDER BY created_at DESC LIMIT 1")).scalar_one())


def test_a_key_is_shown_once_and_revoked(mine: Visit, ctx: Context) -> None:
    html = mine.get("/settings/keys").text
    form = {"csrf": token_in(html), "name": "laptop <b>", "may": "write", "key": "frm_1"}
    made = mine.http.post("/settings/keys", data=form)
    secrets = re.findall(r"chk_[\w-]{40,}", made.text)
    assert len(secrets) == 1
    assert "laptop &lt;b&gt;" in made.text
    again = mine.http.post("/settings/keys", data=form)
    assert again.status_code == 409
    assert secrets[0] not in again.text
    html = mine.get("/settings/keys").text
    assert secrets[0] not in html
    assert secrets[0][:10] in html
    assert "look and change" in html
    for wrong in ({"name": ""}, {"may": "admin"}, {"may": ""}, {"name": "a\nb"}):
        answer = mine.post("/settings/keys", **{"name": "x", "may": "read", "key": "frm_2"} | wrong)
        assert answer.status_code == 400, wrong
        assert 'role="alert"' in answer.text
    with ctx.db.read() as db:
        key_id = db.execute(sa.text("SELECT id FROM api_key")).scalar_one()
    assert mine.post(f"/settings/keys/{key_id}/revoke", "/settings/keys").status_code == 303
    assert "No key yet" in mine.get("/settings/keys").text


def test_a_key_may_make_keys_when_its_owner_says_so(mine: Visit, ctx: Context) -> None:
    answer = mine.post("/settings/keys", name="maker", may="keys", key="frm_3")
    assert "everything, keys too" in answer.text
    with ctx.db.read() as db:
        assert list(db.scalars(sa.select(ApiKey.scopes))) == ["keys read write"]


def test_everything_can_be_taken_along(mine: Visit, ctx: Context, live: str, owner: Owner) -> None:
    make_key(mine, ctx)
    answer = mine.get("/settings/export")
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="{owner.account.slug}-')
    told = json.loads(answer.text)
    assert told["profile"]["email"] == "alice@example.com"
    assert told["assistants"][0]["instructions"] == DRAFT["custom_instructions"]
    assert {"sessions", "api_keys", "usage_by_day", "ledger", "invoices", "history", "letters"} <= told.keys()
    with ctx.db.read() as db:
        row = db.execute(sa.text("SELECT gateway_token, proxy_key FROM instance")).one()
        hashes = [
            *db.scalars(sa.text("SELECT key_hash FROM api_key")),
            *db.scalars(sa.text("SELECT token_hash FROM login_session")),
        ]
    for secret in (*row, *hashes, TOKEN):
        assert secret not in answer.text
    assert any(line["action"] == "account.export" for line in told["history"])
    with ctx.db.tx() as db:
        own = db.execute(sa.text("SELECT id FROM api_key")).scalar_one()
        for actor in (f"key:{own}", "key:key_operator"):
            audit.record(db, ctx.clock.now(), actor, f"by {actor}", "x", account_id=owner.account.id)
    mine.post(f"/settings/keys/{own}/revoke", "/settings/keys")
    told = json.loads(mine.get("/settings/export").text)
    by = {line["action"]: line["by"] for line in told["history"]}
    assert (by[f"by key:{own}"], by["by key:key_operator"]) == (f"key:{own}", "us")


def test_deleting_needs_the_address_and_ends_the_visit(mine: Visit, ctx: Context, live: str) -> None:
    html = mine.get("/settings/data").text
    assert "Your assistant stops and is deleted" in html
    for wrong in ("", "yes", "mallory@example.com"):
        refused = mine.post("/settings/delete", "/settings/data", confirm=wrong)
        assert (refused.status_code, 'id="confirm-error"' in refused.text) == (400, True)
    done = mine.post("/settings/delete", "/settings/data", confirm="alice@example.com")
    assert done.headers["location"] == "/?done=account-deleted"
    assert mine.get("/dashboard").status_code == 303
    assert (
        "is being deleted" in mine.letters("alice@example.com")[-1]
        or "being removed" in mine.letters("alice@example.com")[-1]
    )
    with ctx.db.read() as db:
        assert db.execute(sa.text("SELECT deletion_asked_at FROM instance")).scalar_one() is not None
        assert find_owner(db, "alice@example.com") is None


def test_somebody_signed_in_for_long_deletes_by_a_mailed_link(mine: Visit, ctx: Context, live: str) -> None:
    assert "Mail me the link" not in mine.get("/settings/data").text
    ctx.clock.advance(timedelta(minutes=31))
    assert "Mail me the link" in mine.get("/settings/data").text
    token = mail_deletion(mine)
    assert "Keep my account" in mine.get("/settings/data").text
    assert mine.get("/dashboard").status_code == 200
    kept = mine.post("/settings/delete/take-back", "/settings/data")
    assert kept.headers["location"] == "/settings/data?done=account-kept"
    used = mine.post(f"/settings/delete/{token}")
    assert (used.status_code, "of no use any more" in used.text) == (401, True)
    ctx.clock.advance(timedelta(seconds=1))
    token = mail_deletion(mine)
    stranger = Visit(ctx)
    assert "Delete my account" in stranger.get(f"/settings/delete/{token}").text
    assert mine.get("/dashboard").status_code == 200, "looking at the link deletes nothing"
    done = stranger.post(f"/settings/delete/{token}")
    assert done.headers["location"] == "/?done=account-deleted"
    assert mine.get("/dashboard").status_code == 303
    with ctx.db.read() as db:
        assert find_owner(db, "alice@example.com") is None


def mail_deletion(mine: Visit) -> str:
    """Ask for the end; the token of the link that is mailed."""
    asked = mine.post("/settings/delete", "/settings/data", confirm="alice@example.com")
    assert asked.headers["location"] == "/settings/data?done=deletion-mailed#delete"
    found = re.search(r"/settings/delete/([\w-]+)", mine.letters("alice@example.com")[-1])
    assert found
    return found.group(1)


@pytest.mark.parametrize(
    "path",
    [
        "/settings/email",
        "/settings/sessions/end-others",
        "/settings/keys",
        "/settings/delete",
        "/settings/delete/take-back",
    ],
)
def test_forms_of_others_change_nothing(mine: Visit, path: str) -> None:
    assert mine.http.post(path, data={"confirm": "alice@example.com", "email": "x@example.com"}).status_code == 403
