"""Sessions, genuine forms and client addresses."""

from __future__ import annotations

import dataclasses

import pytest
from fastapi import Request

from clawhaven.accounts import operators, sessions
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.settings import Settings
from clawhaven.web import deps
from tests.web.conftest import Visit, token_in


def ask(ctx: Context, peer: str, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    app = type("App", (), {"state": type("State", (), {"ctx": ctx})})
    return deps.client_address(Request({"type": "http", "headers": headers, "client": (peer, 1), "app": app}))


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "expected"),
    [
        (0, "9.9.9.9", ["1.1.1.1"], "9.9.9.9"),
        (1, "9.9.9.9", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        (2, "9.9.9.9", ["6.6.6.6, 1.1.1.1", "2.2.2.2"], "1.1.1.1"),
        (2, "9.9.9.9", ["1.1.1.1"], "9.9.9.9"),
        (1, "9.9.9.9", ["not an address"], "not an address"),
        (0, "2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        (0, "::ffff:9.9.9.9", [], "9.9.9.9"),
    ],
)
def test_the_address_that_limits_count(
    ctx: Context, settings: Settings, trusted: int, peer: str, forwarded: list[str], expected: str
) -> None:
    behind = dataclasses.replace(ctx, settings=settings.model_copy(update={"trusted_proxy_count": trusted}))
    assert ask(behind, peer, *forwarded) == expected


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({}, True),
        ({"origin": "null"}, True),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "null"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "http://testserver"}, False),
    ],
)
def test_only_our_own_pages_may_post(mine: Visit, headers: dict[str, str], is_ours: bool) -> None:
    data = {"csrf": token_in(mine.get("/dashboard").text)}
    answer = mine.http.post("/sign-out", data=data, headers=headers)
    assert answer.status_code == (303 if is_ours else 403)


def test_our_own_origin_may_post(mine: Visit, ctx: Context) -> None:
    data = {"csrf": token_in(mine.get("/dashboard").text)}
    assert mine.http.post("/sign-out", data=data, headers={"origin": ctx.settings.base_url}).status_code == 303


@pytest.mark.parametrize(
    ("page", "field"), [("/settings", "email"), ("/settings/keys", "name"), ("/settings/data", "confirm")]
)
def test_a_nul_character_is_refused_with_a_sentence(mine: Visit, page: str, field: str) -> None:
    action = {"/settings": "/settings/email", "/settings/data": "/settings/delete"}.get(page, page)
    form = {"csrf": token_in(mine.get(page).text), "may": "read", "key": "frm_1", field: "a\0b@example.com"}
    answer = mine.http.post(action, data=form)
    assert (answer.status_code, "invisible character" in answer.text) == (400, True)


def test_a_nul_character_is_refused_from_strangers(visit: Visit) -> None:
    assert visit.post("/sign-in", email="a\0b@example.com").status_code == 400


def test_a_token_is_its_visitors_own(visit: Visit, mine: Visit, stranger: Visit, ctx: Context, owner: Owner) -> None:
    others = token_in(stranger.get("/dashboard").text)
    assert mine.http.post("/sign-out", data={"csrf": others}).status_code == 403
    anonymous = token_in(visit.get("/sign-in").text)
    assert mine.http.post("/sign-out", data={"csrf": anonymous}).status_code == 403
    planted = Visit(ctx)
    planted.http.cookies.set(deps.FORM_COOKIE, "chosen-by-an-attacker")
    token = deps._token_of("chosen-by-an-attacker")
    assert planted.http.post("/sign-in", data={"csrf": token, "email": owner.user.email}).status_code == 403
    assert planted.letters(owner.user.email)[1:] == []


@pytest.mark.parametrize(
    ("path", "is_local"),
    [
        ("/dashboard", True),
        ("/a?b=c", True),
        ("//x", False),
        ("/\\x", False),
        ("x", False),
        ("/a\nb", False),
        ("", False),
    ],
)
def test_local_paths(path: str, is_local: bool) -> None:
    assert deps.is_local(path) is is_local


def test_whose_session_or_view_has_ended_may_not_look_any_more(ctx: Context, visit: Visit, owner: Owner) -> None:
    boss = Visit(ctx)
    with ctx.db.tx() as db:
        operator = operators.appoint(db, "boss@example.com", ctx.clock.now())
    boss.sign_in(operator)
    visit.sign_in(owner)
    boss.post(f"/admin/accounts/{owner.account.id}/view", f"/admin/accounts/{owner.account.id}")
    own, viewed = (request_of(ctx, one) for one in (visit, boss))
    assert viewed.state.visitor.view is not None
    assert deps.may_still_look(own)
    assert deps.may_still_look(viewed)
    boss.post("/admin/view/end", "/dashboard")
    assert not deps.may_still_look(viewed)
    with ctx.db.tx() as db:
        sessions.close_all(db, owner.user.id)
    assert not deps.may_still_look(own)


def request_of(ctx: Context, visit: Visit) -> Request:
    """A request for the dashboard that has been let in."""
    app = type("App", (), {"state": type("State", (), {"ctx": ctx})})
    cookies = "; ".join(f"{name}={value}" for name, value in visit.http.cookies.items())
    headers = [(b"cookie", cookies.encode())]
    about = {"type": "http", "method": "GET", "path": "/dashboard", "query_string": b"", "server": ("here", 80)}
    request = Request({**about, "scheme": "http", "headers": headers, "app": app})
    deps.visit(request)
    return request
