"""After a whole life with the real gateway, no secret lies anywhere but where it must."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import psutil
import pytest

from clawhaven.core.secrets import hash_token
from clawhaven.providers.runtimes import labelled
from tests.fakes.skill_vendors import BRAVE_KEY, SkillVendors
from tests.live.demo import Customer, Demo
from tests.live.telegram_server import TelegramServer

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

BOT_TOKEN = "987654321:AAplantedBotTokenThatNobodyMaySee-0000"
PLANTED = {
    "ENCRYPTION_KEY": "0f" * 8 + "c1a2b3d4" * 6,
    "ANTHROPIC_API_KEY": "sk-ant-planted-0123456789abcdefghijklmnop",
    "SANDBOX_PAYMENTS_SECRET": "whsec_planted0123456789abcdefghijklmnop",
}
OWNER = 424242

PAGES = (
    "/",
    "/configure",
    "/waitlist",
    "/sign-in",
    "/dashboard",
    "/instances",
    "/usage",
    "/ledger",
    "/instances/{id}",
    "/instances/{id}/history",
    "/instances/{id}/configuration",
    "/instances/{id}/channels",
    "/instances/{id}/skills",
    "/instances/{id}/chat",
    "/instances/{id}/logs",
    "/instances/{id}/usage",
    "/instances/{id}/programs",
    "/deploying/{id}",
    "/ready/{id}",
    "/api/instances",
    "/api/instances/{id}",
    "/api/instances/{id}/channels",
    "/api/instances/{id}/skills",
    "/api/instances/{id}/events",
    "/api/instances/{id}/logs",
    "/api/instances/{id}/usage",
    "/api/instances/{id}/program-keys",
    "/api/status/{id}",
    "/api/auth/me",
    "/api/auth/keys",
    "/api/billing/ledger",
    "/api/billing/usage",
    "/api/openapi.json",
)
SHOWS_CLAIM = re.compile(r"/instances/[^/]+/channels|/ready/.*|/api/instances.*|/api/status/.*")
"""The owner's own pages, which show the bot's one-time link until it is used."""

ALLOWED_FILES = {
    "secrets.json": {"gateway token", "proxy key", "bot token", "skill key"},
    "mail.log": {"sign-in link"},
    "output-0.log": {"sign-in link"},
}
"""Where a secret must lie in the clear: the gateway's own file, and mail on its way to its reader. The claim link is
not mailed before the address is proven."""


@dataclass
class Watch:
    """Looks at every command line of this machine all the time; our own processes' are among them."""

    lines: set[str] = field(default_factory=set)
    is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.is_over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.lines.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue
            time.sleep(0.05)


@pytest.fixture
def telegram() -> Iterator[TelegramServer]:
    with TelegramServer() as running:
        yield running


@pytest.fixture
def skill_vendors() -> Iterator[SkillVendors]:
    with SkillVendors() as running:
        yield running


@pytest.fixture
def demo(tmp_path: Path, telegram: TelegramServer, skill_vendors: SkillVendors) -> Iterator[Demo]:
    vendors = {"TELEGRAM_API_URL": telegram.url, "BRAVE_API_URL": skill_vendors.url}
    settings = {"LOG_LEVEL": "DEBUG", "DEFAULT_MODEL": "sandbox-1", **vendors, **PLANTED}
    with Demo(tmp_path, **settings) as made:
        yield made


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    yield made
    made.is_over.set()
    thread.join()


def forms_of(secret: str) -> list[bytes]:
    """The secret as it is, as hexadecimal digits, and as base64 at each of the three places it can begin at."""
    raw = secret.encode()
    found = [raw, raw.hex().encode()]
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw)
        found.append(coded[4 if shift else 0 : -4])
    return found


def leaks(content: bytes, secrets: dict[str, str]) -> set[str]:
    """Names of the secrets that these bytes give away."""
    return {name for name, secret in secrets.items() if any(form in content for form in forms_of(secret))}


def sign_in_again(demo: Demo, email: str, session: str) -> tuple[str, str]:
    """The link's token from the mail, and the session it opens in the browser that holds `session`: there the bot
    stays."""
    assert demo.http.post("/api/auth/link", json={"email": email}).status_code == 202
    mail = demo.data / "mail.log"
    found = demo.wait(lambda: re.findall(r"/sign-in/([A-Za-z0-9_-]{20,})", mail.read_text()), "the mail")
    token = found[-1]
    page = demo.http.get(f"/sign-in/{token}")
    assert page.status_code == 200
    with httpx2.Client(base_url=str(demo.http.base_url), cookies={"clawhaven_session": session}) as same:
        opened = same.post("/api/auth/link/redeem", json={"token": token})
        assert opened.status_code == 200, opened.text
        return token, opened.cookies["clawhaven_session"]


def read_everything(ada: Customer, secrets: dict[str, str], key: str) -> None:
    """Every page and answer that an owner can read, as owner and as holder of an API key."""
    for path in PAGES:
        path = path.format(id=ada.instance_id)
        answer = ada.request("GET", path)
        assert answer.status_code in (200, 303), (path, answer.status_code)
        seen = answer.content + repr(answer.headers.multi_items()).encode()
        assert leaks(seen, secrets) <= ({"claim link"} if SHOWS_CLAIM.fullmatch(path) else set()), path
        assert not leaks(str(answer.url).encode(), secrets), path
        if path.startswith("/api/"):
            by_key = ada.demo.http.get(path, headers={"authorization": f"Bearer {key}"})
            assert leaks(by_key.content, secrets) <= {"claim link"}, path


def test_secrets_stay_where_they_belong(demo: Demo, telegram: TelegramServer, watch: Watch) -> None:
    bot = telegram.add_bot(BOT_TOKEN, "ada_assistant_bot", "Ada")
    demo.start("serve")
    ada = demo.join("ada@example.com", telegram_bot_token=BOT_TOKEN)
    ada.pay()
    ada.wait_for("active")
    link, session = sign_in_again(demo, "ada@example.com", ada.session)
    first_session, ada.session = ada.session, session  # which the link has ended
    key = ada.request("POST", "/api/auth/keys", json={"name": "script"}).json()["key"]
    program = ada.request("POST", f"{ada.path}/program-keys", json={"name": "search"}).json()["key"]
    given = ada.request("PUT", f"{ada.path}/skills/web_search/key", json={"api_key": BRAVE_KEY})
    assert (given.status_code, given.json()["status"]) == (202, "on")
    ada.wait_idle()
    claim_url = ada.get(f"{ada.path}/channels")["items"][0]["claim_url"]
    held = json.loads((demo.data / "customers" / ada.instance_id / "secrets" / "secrets.json").read_text())
    secrets = {
        **PLANTED,
        "bot token": BOT_TOKEN,
        "skill key": BRAVE_KEY,
        "gateway token": held["gateway"]["token"],
        "proxy key": held["house"]["key"],
        "session": session,
        "first session": first_session,
        "API key": key,
        "program key": program,
        "sign-in link": link,
        "claim link": parse_qs(urlsplit(claim_url).query)["start"][0],
    }
    assert leaks(json.dumps(held).encode(), secrets) == {"bot token", "gateway token", "proxy key", "skill key"}
    assert all(len(secret) >= 20 for secret in secrets.values())
    # What comes wrong must not come back: each of these is refused with the token in it.
    for path, body in (
        ("/api/signup", {"email": "eve@example.com", "assistant_name": "", "telegram_bot_token": BOT_TOKEN}),
        ("/api/signup", {"email": "eve@example.com", "assistant_name": "E", "telegram_bot_token": BOT_TOKEN}),
        ("/api/signup", {"email": "eve@example.com", "assistant_name": "E", "bot": BOT_TOKEN}),
        ("/api/auth/link/redeem", {"token": link}),
    ):
        refused = demo.http.post(path, json=body)
        assert refused.status_code in (400, 401, 409, 422), refused.text
        assert not leaks(refused.content, secrets), path
    form = {"email": "eve@example.com", "assistant_name": "Eve", "telegram_bot_token": BOT_TOKEN}
    again = demo.http.post("/configure", data=form)
    assert (again.status_code, "eve@example.com" in again.text) == (403, True)
    assert not leaks(again.content, secrets)
    read_everything(ada, secrets, key)

    telegram.say(bot, OWNER, f"/start {secrets['claim link']}", username="ada")
    demo.wait(lambda: ada.get(f"{ada.path}/channels")["items"][0]["status"] == "connected", "the claim")
    demo.wait(lambda: "setMyCommands" in telegram.calls(bot), "the gateway to know the bot", 120)
    assert "how are you" in ada.chat("how are you")["reply"]
    assert ada.request("POST", f"{ada.path}/restart").status_code == 202
    ada.wait_idle()
    assert "once more" in ada.chat("once more")["reply"]
    read_everything(ada, secrets, key)

    environments = [
        "\0".join(process.environ().values())
        for members in labelled.find_all(demo.data / "customers").values()
        for process in members
        if psutil.pid_exists(process.pid)
    ]
    assert len(environments) >= 2
    assert not leaks("\0".join(environments).encode(), secrets)
    assert any("gateway" in line for line in watch.lines)
    assert not leaks("\n".join(watch.lines).encode(), secrets)

    assert_database_keeps_no_secret(demo, secrets)
    assert demo.stop() == 0
    assert_files_keep_no_secret(demo, secrets)
    errors = b"".join(path.read_bytes() for path in demo.errors)
    assert b'"level": "debug"' in errors or b'"level":"debug"' in errors
    assert not leaks(errors, secrets)


def assert_database_keeps_no_secret(demo: Demo, secrets: dict[str, str]) -> None:
    """Workflow inputs, outputs and step results included; what we need again is sealed, the rest only hashed."""
    connection = sqlite3.connect(f"file:{demo.data}/clawhaven.sqlite3?mode=ro", uri=True, timeout=30)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert {"workflow_status", "operation_outputs", "instance"} <= set(tables)
    for table in tables:
        text = repr(list(connection.execute(f'SELECT * FROM "{table}"'))).encode()
        assert not leaks(text, secrets), table
        assert secrets["sign-in link"][:12].encode() not in text, table
    assert connection.execute("SELECT count(*) FROM operation_outputs").fetchone()[0] > 10
    for query in (
        "SELECT gateway_token FROM instance",
        "SELECT proxy_key FROM instance",
        "SELECT credentials FROM channel_connection",
    ):
        assert all(value.startswith("v1.") for (value,) in connection.execute(query)), query
    for query, secret in (
        ("SELECT token_hash FROM login_session", "session"),
        ("SELECT token_hash FROM sign_in_link", "sign-in link"),
        ("SELECT key_hash FROM api_key", "API key"),
        ("SELECT key_hash FROM model_grant", "proxy key"),
    ):
        assert hash_token(secrets[secret]) in {value for (value,) in connection.execute(query)}, query
    connection.close()


def assert_files_keep_no_secret(demo: Demo, secrets: dict[str, str]) -> None:
    """Every file, byte for byte: databases with their deleted pages, logs, the gateway's state and caches."""
    found: dict[str, set[str]] = {}
    for path in demo.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found.setdefault(path.name, set()).update(leaks(path.read_bytes(), secrets))
            assert found[path.name] <= ALLOWED_FILES.get(path.name, set()), path
            if path.name in ("mail.log", "secrets.json"):
                assert not path.stat().st_mode & 0o077, path
    assert not demo.data.stat().st_mode & 0o077
    assert {"clawhaven.sqlite3", "sandbox-payments.sqlite3", "gateway.log", "openclaw.json"} <= set(found)
    # Where they must be they were found, so the search can find.
    assert {name: leaked for name, leaked in found.items() if leaked} == ALLOWED_FILES
