"""Connected accounts from the terminal."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer

GOOGLE = {
    "vendor": "google",
    "label": "Google",
    "is_available": True,
    "integration_id": "int_1",
    "address": "ada@gmail.example",
    "parts": [{"label": "Gmail", "is_granted": True}, {"label": "Google Calendar", "is_granted": False}],
    "connected_at": "2026-11-21T03:29:14+00:00",
    "lapsed_at": None,
    "instance_ids": [INSTANCE],
}
ATTACHED = {"vendor": "google", "integration_id": "int_1", "attached_at": "2026-11-21T03:29:14+00:00"}
ONE = f"/api/instances/{INSTANCE}/integrations"


@pytest.fixture(autouse=True)
def _answers(server: ContractServer) -> None:
    server.answers["GET", "/api/integrations"] = (200, {"items": [GOOGLE]})
    server.answers["POST", "/api/integrations/google/connect"] = (200, {"authorize_url": "https://accounts.example/x"})
    server.answers["DELETE", "/api/integrations/google"] = (204, None)
    server.answers["GET", ONE] = (200, {"items": [ATTACHED]})
    server.answers["POST", f"{ONE}/attach"] = (200, {"items": [ATTACHED]})
    server.answers["POST", f"{ONE}/detach"] = (200, {"items": []})


def test_list_shows_what_may_be_read(run: Run, server: ContractServer) -> None:
    ran = run("integrations", "list")
    assert ran.code == 0
    for words in ("google", "ada@gmail.example", "Gmail", INSTANCE):
        assert words in ran.out
    assert "Google Calendar" not in ran.out
    assert "int_1" in run("integrations", "list", INSTANCE).out
    off = {**GOOGLE, "is_available": False, "integration_id": None, "address": None, "parts": [], "instance_ids": []}
    server.answers["GET", "/api/integrations"] = (200, {"items": [off]})
    assert "Not switched on by the operator of this site: Google." in run("integrations", "list").err


def test_connect_prints_the_address(run: Run) -> None:
    ran = run("integrations", "connect", "google")
    assert ran.out == "https://accounts.example/x\n"
    assert "signed in" in ran.err


def test_revoke_wants_a_yes(run: Run, server: ContractServer) -> None:
    assert run("integrations", "revoke", "google").code == 2
    assert server.seen == []
    assert run("integrations", "revoke", "google", "--yes").out == "Disconnected.\n"
    assert server.seen[-1].method == "DELETE"


def test_attach_and_detach(run: Run, server: ContractServer) -> None:
    assert "int_1" in run("integrations", "attach", INSTANCE).out
    assert server.seen[-1].body == {"vendor": "google"}
    assert run("integrations", "detach", INSTANCE).code == 0
    assert server.seen[-1].body == {"vendor": "google"}
