"""Google through the real gateway: connected, attached, found and read by the assistant; and no token lies anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.google_server import CLIENT_SECRET, GoogleServer
from tests.live.demo import Customer, Demo
from tests.live.model_server import ModelServer
from tests.live.test_secrets import leaks

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

MODEL = "claude-haiku-4-5"
CODE = """
const [hit] = await openclaw.tools.search("search the owner's Gmail");
return await openclaw.tools.call(hit.id, {query: "lunch"});
"""
"""What a model writes into OpenClaw's tool search, which is how it reaches tools that are not its own."""


def connect(ada: Customer, google: GoogleServer) -> None:
    """Through the consent page, in the browser that is signed in."""
    url = ada.request("POST", "/api/integrations/google/connect").json()["authorize_url"]
    back = ada.request("GET", "/integrations/google/callback", params=google.allow(url), follow_redirects=False)
    assert back.status_code == 303, back.text
    assert back.headers["location"].endswith("done=integration-connected")


def held_file(ada: Customer) -> Path:
    """What the gateway shows at our door."""
    return ada.demo.data / "customers" / ada.instance_id / "state" / "integrations" / "google.json"


def test_the_real_gateway_reads_mail_through_us_and_holds_no_token_of_googles(tmp_path: Path) -> None:
    with GoogleServer() as google, ModelServer() as model:
        vendor = {"ANTHROPIC_API_KEY": "sk-ant-x", "ANTHROPIC_API_URL": model.url, "DEFAULT_MODEL": MODEL}
        with Demo(tmp_path, **google.environment(), **vendor) as demo:
            google.return_url = f"http://127.0.0.1:{demo.port}/integrations/google/callback"
            google.add_message("18a1", "Lunch", "Shall we eat on Friday?")
            demo.start()
            ada = demo.join("ada@example.com")
            ada.pay()
            ada.wait_for("active")
            connect(ada, google)
            attached = ada.request("POST", f"{ada.path}/integrations/attach", json={"vendor": "google"})
            assert attached.status_code == 200, attached.text
            ada.wait_idle()
            log = held_file(ada).parent.parent / "logs" / "gateway.jsonl"
            demo.wait(lambda: has_taken_over(log), "the gateway to take the server over", 60)

            model.wanted = ("tool_search_code", {"code": CODE})
            google.access.clear()  # so that the refreshing is ours, too
            ada.chat("tool, please: did anybody write about lunch?")
            assert "Subject: Lunch" in json.dumps(model.asked[-1].body["messages"])
            assert google.called("/gmail/v1/users/me/messages/18a1")

            token = json.loads(held_file(ada).read_text())["Authorization"].removeprefix("Bearer ")
            secrets = {f"google {number}": secret for number, secret in enumerate(google.secrets_given)}
            secrets |= {"client secret": CLIENT_SECRET}
            found = leaks_in(demo.folder, {**secrets, "door token": token})
            assert found == {"google.json": {"door token"}}
            assert not held_file(ada).stat().st_mode & 0o077
            assert not leaks(repr(demo.rows("SELECT * FROM integration")).encode(), secrets)

            ask = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            door = {"authorization": f"Bearer {token}"}
            assert demo.http.post("/proxy/mcp/google", json=ask, headers=door).status_code == 200
            assert ada.request("DELETE", "/api/integrations/google").status_code == 204
            assert demo.http.post("/proxy/mcp/google", json=ask, headers=door).status_code == 401
            ada.wait_idle()
            assert held_file(ada).read_text() == "{}\n"
            assert "google" not in (held_file(ada).parent.parent / "openclaw.json").read_text()
            google.wait_until_forgotten()
            assert demo.count("integration_revocation") == 0 or demo.wait(
                lambda: demo.count("integration_revocation") == 0, "the revocation's row to go", 60
            )
            assert "how are you" in ada.chat("how are you")["reply"]


def has_taken_over(log: Path) -> bool:
    """The gateway says so in its log."""
    return any("hot reload applied" in line and "mcp" in line for line in log.read_text().splitlines())


def leaks_in(folder: Path, secrets: dict[str, str]) -> dict[str, set[str]]:
    """File name -> the secrets in the clear in it; files of this test's own process aside."""
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and (names := leaks(path.read_bytes(), secrets)):
            found.setdefault(path.name, set()).update(names)
    return found
