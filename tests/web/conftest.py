"""A site to test: real rooms and workflows, folders for gateways, Telegram on loopback."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import select

from clawhaven import wiring
from clawhaven.accounts import signup
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, subscriptions
from clawhaven.cli.hosting import Doors
from clawhaven.context import Context
from clawhaven.core.settings import Settings
from clawhaven.instances import operations, states
from clawhaven.instances.models import Instance
from clawhaven.notices import outbox
from clawhaven.notices.models import Notice
from clawhaven.ports.payments import VendorSubscription
from clawhaven.web.app import create_app
from clawhaven.worker import working
from tests.conftest import free_port
from tests.fakes.world import FolderGateway, FolderRuntime
from tests.live.telegram_methods import Bot
from tests.live.telegram_server import TelegramServer

TOKEN = "123456789:" + "A" * 35
DRAFT = {"assistant_name": "Ada", "custom_instructions": "Help me plan.", "persona": "personal", "plan": "personal"}


@pytest.fixture
def telegram(monkeypatch: pytest.MonkeyPatch) -> Iterator[TelegramServer]:
    """Telegram's Bot API."""
    with TelegramServer() as server:
        monkeypatch.setenv("TELEGRAM_API_URL", server.url)
        yield server


@pytest.fixture
def bot(telegram: TelegramServer) -> Bot:
    """A bot that Telegram knows by TOKEN."""
    return telegram.add_bot(TOKEN, "ada_haven_bot")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a port of their own and room for many tries."""
    return settings.model_copy(
        update={"platform_port": (port := free_port()), "base_url": f"http://127.0.0.1:{port}"}
        | {"sign_up_per_minute": 1000, "sign_in_per_minute": 1000}
    )


@pytest.fixture
def world(tmp_path: Path) -> FolderRuntime:
    """Where gateways are folders."""
    return FolderRuntime(tmp_path / "world")


@pytest.fixture
def ctx(settings: Settings, telegram: TelegramServer, world: FolderRuntime) -> Iterator[Context]:
    """Everything real but the gateways."""
    built = wiring.build(settings)
    yield dataclasses.replace(
        built, runtimes={"folder": wiring.Guarded(world)}, gateway=wiring.Guarded(FolderGateway(world))
    )
    built.db.close()


class Visit:
    """A browser without JavaScript: it keeps cookies, reads forms, and follows nothing by itself."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.http = TestClient(
            create_app(ctx), base_url=ctx.settings.base_url, follow_redirects=False, raise_server_exceptions=False
        )

    def get(self, path: str, **kwargs: Any) -> Response:
        return self.http.get(path, **kwargs)

    def post(self, path: str, page: str = "", **fields: str) -> Response:
        """Send the form of `page` (default: of the same address), its hidden token included."""
        html = self.get(page or path).text
        return self.http.post(path, data={"csrf": token_in(html), **fields})

    def sign_in(self, owner: Owner) -> None:
        """The mailed link, used."""
        self.post("/sign-in", email=owner.user.email)
        link = re.search(r"/sign-in/[\w-]+", self.letters(owner.user.email)[-1])
        assert link is not None
        assert self.post(link.group()).status_code == 303

    def letters(self, email: str) -> list[str]:
        """Texts of the letters waiting for this address, oldest first."""
        with self.ctx.db.read() as db:
            rows = db.scalars(select(Notice).where(Notice.recipient == email).order_by(Notice.created_at)).all()
            return [message.text for row in rows if (message := outbox.message(db, row.id, self.ctx.keys))]


def token_in(html: str) -> str:
    """The hidden token of the page's last form."""
    found = re.findall(r'name="csrf" value="([0-9a-f]{64})"', html)
    assert found, "the page has no form of ours"
    return str(found[-1])


@pytest.fixture
def visit(ctx: Context) -> Visit:
    """Somebody who is not signed in."""
    return Visit(ctx)


@pytest.fixture
def owner(ctx: Context) -> Owner:
    """A customer without assistants."""
    with ctx.db.tx() as db:
        return signup.register(db, "alice@example.com", ctx.clock.now())


@pytest.fixture
def mine(ctx: Context, owner: Owner) -> Visit:
    """The customer, signed in."""
    signed_in = Visit(ctx)
    signed_in.sign_in(owner)
    return signed_in


@pytest.fixture
def stranger(ctx: Context) -> Visit:
    """Another customer, signed in."""
    with ctx.db.tx() as db:
        other = signup.register(db, "mallory@example.com", ctx.clock.now())
    signed_in = Visit(ctx)
    signed_in.sign_in(other)
    return signed_in


def fill_in(visit: Visit, **fields: str) -> None:
    """The wizard up to its review, as somebody signed in; with `email` as a stranger."""
    given = {**DRAFT, **fields}
    first = {name: given[name] for name in ("email", "plan") if name in given}
    steps = [("/configure/plan" if "email" not in given else "/configure", "/configure", first)]
    words = {name: given[name] for name in ("assistant_name", "persona", "custom_instructions")}
    steps.append(("/configure/assistant", "/configure/assistant", words))
    steps.append(("/configure/model", "/configure/model", {"model": given.get("model", "")}))
    if "telegram_bot_token" in given:
        token = {"telegram_bot_token": given["telegram_bot_token"]}
        steps.append(("/configure/channel", "/configure/channel/telegram", token))
    steps.append(("/configure/channel", "/configure/channel", {}))
    for page, path, values in steps:
        answer = visit.post(path, page=page, **values)
        assert answer.status_code == 303, answer.text


def order(visit: Visit, coupon: str = "", **fields: str) -> Response:
    """The whole wizard; the answer leads to the payment page."""
    fill_in(visit, **fields)
    return visit.post("/configure/review", coupon=coupon)


def draft(visit: Visit, **fields: str) -> str:
    """Order an assistant as somebody signed in; returns the pending instance's id."""
    answer = order(visit, **fields)
    assert answer.status_code == 303, answer.text
    with visit.ctx.db.read() as db:
        newest = select(Instance).order_by(Instance.created_at.desc(), Instance.id).limit(1)
        return db.scalars(newest).one().id


def subscribe(ctx: Context, instance_id: str) -> None:
    """A subscription that pays for the instance."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        checkout = checkouts.of_instance(db, instance_id)
        assert checkout is not None
        vendor = VendorSubscription(f"sub-{instance_id}", "active", now, now + timedelta(days=30), False)
        subscriptions.mirror(db, checkout, vendor, now)


def bring_to_life(ctx: Context, world: FolderRuntime, instance_id: str) -> None:
    """A running assistant with a subscription that pays for it."""
    with ctx.db.tx() as db:
        states.begin_provisioning(db, instance_id, ctx.clock.now())
    run_it(ctx, world, instance_id)
    subscribe(ctx, instance_id)


def run_it(ctx: Context, world: FolderRuntime, instance_id: str) -> None:
    """What provisioning does, without its engine: steps done, gateway there, active."""
    now = ctx.clock.now()
    folder = world.root / instance_id
    folder.mkdir()
    (folder / "RUNNING").write_text("0")
    with ctx.db.tx() as db:
        operation = operations.under_way(db, instance_id)
        operation = operation or operations.open_operation(db, instance_id, "provision", now)
        for step in operations.STEPS["provision"]:
            operations.end_step(db, operation.id, step, now)
        operations.close(db, operation.id, now)
        db.get_one(Instance, instance_id).placement = {"folder": instance_id, "port": 0}
        db.flush()
        states.activate(db, instance_id, now + timedelta(seconds=1))


@pytest.fixture
def live(ctx: Context, world: FolderRuntime, mine: Visit) -> str:
    """The id of the customer's active assistant."""
    instance_id = draft(mine)
    bring_to_life(ctx, world, instance_id)
    return instance_id


def state_of(ctx: Context, instance_id: str) -> str:
    """The lifecycle's word."""
    with ctx.db.read() as db:
        return db.get_one(Instance, instance_id).state


@pytest.fixture
def served(ctx: Context) -> Iterator[Context]:
    """The whole installation on its port: web, API, worker and the sandbox vendor's courier."""
    config = uvicorn.Config(
        Doors(ctx),
        host="127.0.0.1",
        port=ctx.settings.platform_port,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)

    def serve() -> None:  # in a thread of its own: Playwright keeps an event loop in the test's
        with working(ctx):
            server.run()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        threading.Event().wait(0.05)
    yield ctx
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()
