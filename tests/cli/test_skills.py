"""`clawhaven skills`: looking, turning on and off, keys that are typed unseen."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer, problem

KEY = "BSAgoodgoodgoodgood-1234"
SKILLS = f"/api/instances/{INSTANCE}/skills"
SEARCH = {
    "skill": "web_search",
    "label": "Web search",
    "summary": "Looks things up on the web, with your key of Brave Search.",
    "note": "Brave bills you for it.",
    "status": "on",
    "unavailable": None,
    "key_ends_in": "1234",
}
BROWSER = {
    **SEARCH,
    "skill": "browser",
    "label": "Browser",
    "status": "unavailable",
    "unavailable": "There is no browser where the assistants run.",
    "key_ends_in": None,
}


@pytest.fixture(autouse=True)
def contract(server: ContractServer) -> None:
    """What the site answers about skills."""
    server.answers["GET", "/api/skills"] = (200, {"items": [SEARCH, BROWSER]})
    server.answers["GET", SKILLS] = (200, {"items": [SEARCH, BROWSER]})
    server.answers["PUT", f"{SKILLS}/web_search"] = (202, SEARCH)
    server.answers["PUT", f"{SKILLS}/web_search/key"] = (202, SEARCH)
    server.answers["DELETE", f"{SKILLS}/web_search/key"] = (204, None)
    server.answers["POST", f"{SKILLS}/web_search/test"] = (
        200,
        {"is_good": True, "vendor": "good", "assistant": "ready"},
    )


def test_list_and_catalogue_say_what_is_on_and_why_not(run: Run) -> None:
    for words in (("list", INSTANCE), ("catalogue",)):
        out = run("skills", *words).out
        assert "web_search" in out
        assert "There is no browser" in out.replace("\n", " ")
    assert run("skills", "list", INSTANCE, "--format", "json").json["items"][0]["status"] == "on"


def test_enable_and_disable(run: Run, server: ContractServer) -> None:
    assert run("skills", "enable", INSTANCE, "web_search").code == 0
    assert server.seen[-1].body == {"is_on": True}
    assert run("skills", "disable", INSTANCE, "web_search").code == 0
    assert server.seen[-1].body == {"is_on": False}
    server.answers["PUT", f"{SKILLS}/web_search"] = (
        400,
        problem("key_missing", "This skill needs a key of Brave Search first.", field="api_key"),
    )
    ran = run("skills", "enable", INSTANCE, "web_search")
    assert ran.code == 1
    assert "needs a key of Brave Search first" in ran.err


def test_a_key_is_read_from_stdin_and_not_shown(run: Run, server: ContractServer) -> None:
    ran = run("skills", "set-key", INSTANCE, "web_search", "--key", "-", "--verbose", stdin=f"{KEY}\n")
    assert ran.code == 0
    assert server.seen[-1].body == {"api_key": KEY}
    assert KEY not in ran.out + ran.err
    assert "ends in 1234" in ran.out
    assert run("skills", "set-key", INSTANCE, "web_search").code == 2


def test_test_and_remove(run: Run, server: ContractServer) -> None:
    assert "ready" in run("skills", "test", INSTANCE, "web_search").out
    assert run("skills", "remove-key", INSTANCE, "web_search").code == 2
    assert run("skills", "remove-key", INSTANCE, "web_search", "--yes").out == "The key is removed.\n"
    assert server.seen[-1].method == "DELETE"
