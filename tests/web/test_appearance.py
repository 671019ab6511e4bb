"""Theme and language are kept in cookies and come with the page, so nothing flashes."""

from __future__ import annotations

import pytest

from tests.web.conftest import Visit


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_theme_is_kept_and_written_into_the_page(visit: Visit, theme: str) -> None:
    answer = visit.http.post("/appearance", data={"theme": theme, "next": "/sign-in"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    page = visit.get("/").text
    assert f'<html lang="en" data-theme="{theme}">' in page
    assert f'value="{theme}" aria-pressed="true"' in page


def test_the_system_decides_at_first_and_again(visit: Visit) -> None:
    assert '<html lang="en">' in visit.get("/").text
    visit.http.post("/appearance", data={"theme": "dark"})
    visit.http.post("/appearance", data={"theme": ""})
    assert '<html lang="en">' in visit.get("/").text


def test_a_language_is_kept(visit: Visit) -> None:
    visit.http.post("/appearance", data={"language": "de"})
    page = visit.get("/sign-in").text
    assert '<html lang="de">' in page
    assert "Zum Inhalt springen" in page
    visit.http.post("/appearance", data={"language": "en"})
    assert "Skip to the content" in visit.get("/sign-in").text


@pytest.mark.parametrize("data", [{"theme": "pink"}, {"language": "xx"}, {"language": "../de"}])
def test_what_there_is_not_is_refused(visit: Visit, data: dict[str, str]) -> None:
    answer = visit.http.post("/appearance", data=data)
    assert answer.status_code == 400
    assert "set-cookie" not in answer.headers or "appearance" not in answer.headers["set-cookie"]


@pytest.mark.parametrize("back", ["https://evil.example", "//evil.example", "/\\evil.example", "", "/a\nb"])
def test_it_leads_back_to_this_site_only(visit: Visit, back: str) -> None:
    assert visit.http.post("/appearance", data={"theme": "dark", "next": back}).headers["location"] == "/"


def test_other_sites_change_nothing(visit: Visit) -> None:
    answer = visit.http.post("/appearance", data={"theme": "dark"}, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert '<html lang="en">' in visit.get("/").text


def test_a_cookie_with_nonsense_is_ignored(visit: Visit) -> None:
    visit.http.cookies.set("clawhaven_theme", 'dark" onload="x')
    visit.http.cookies.set("clawhaven_language", "xx")
    assert '<html lang="en">' in visit.get("/").text
