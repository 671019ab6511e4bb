"""An installation in this process: real rooms, database and sandbox vendor; gateways are folders, Telegram a script."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, cast

import sqlalchemy as sa

from clawhaven import wiring
from clawhaven.billing import checkouts
from clawhaven.context import Context
from clawhaven.core.clock import Clock
from clawhaven.core.ids import new_id
from clawhaven.core.settings import Settings
from clawhaven.instances import connections, states
from clawhaven.instances import placement as places
from clawhaven.instances.drafts import PROXY_KEY_PURPOSE
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State
from clawhaven.ports.channel import BotInfo, ChannelConfig, OwnerClaim
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.notifier import Message
from clawhaven.providers.channels.telegram import Telegram
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.workflows import access, checkout, engine, files, settlement
from clawhaven.workflows.attempts import stopping
from clawhaven.workflows.checkout import Begun, Form
from tests.fakes.world import FolderGateway, FolderRuntime

PLENTY = dict.fromkeys(("sign_up_per_minute", "sign_in_per_minute", "webhooks_per_minute", "api_per_minute"), 100_000)
TABLES = """user_account account instance checkout notice operation channel_connection api_key waitlist payment_event
subscription receipt workflow_status audit_log sign_in_link login_session"""
TOKEN = "123456789:" + "A" * 35


class ScriptedTelegram:
    """Telegram without a network: knows every token but REFUSED, and says who opened the link when told to."""

    name = "telegram"
    label = Telegram.label
    pairing: Literal["none", "qr", "code"] = "code"
    fields = Telegram.fields
    REFUSED = "111111111:" + "x" * 35
    DOWN = "222222222:" + "x" * 35

    def __init__(self, settings: Settings) -> None:
        self._real = Telegram(Telegram.Options(), settings)
        self.looks: list[OwnerClaim | ProviderError] = []
        """What the next looks for the owner find; nobody once this is empty."""
        self.asked: list[tuple[str, int]] = []
        """(start token, offset) of every look."""
        self.confirmed: list[str] = []
        """Who was told that the bot is theirs."""

    def probe(self, credentials: Mapping[str, str]) -> BotInfo:
        token = credentials["telegram_bot_token"]
        if token == self.REFUSED:
            raise ProviderError("unknown token", permanent=True, code="invalid_bot_token")
        if token == self.DOWN:
            raise ProviderError("no answer", code="telegram_down")
        number = token.split(":")[0]
        return BotInfo(number, f"bot{number}_bot", "Bot", f"https://t.me/bot{number}_bot")

    def config(
        self, credentials: Mapping[str, str], dm_policy: str, owners: tuple[str, ...], secrets_provider: str
    ) -> ChannelConfig:
        return self._real.config(credentials, dm_policy, owners, secrets_provider)

    def claim_owner(
        self, credentials: Mapping[str, str], token: str, offset: int, timeout_seconds: int = 25
    ) -> OwnerClaim:
        self.asked.append((token, offset))
        found = self.looks.pop(0) if self.looks else OwnerClaim(None, None, offset)
        if isinstance(found, ProviderError):
            raise found
        return found

    def confirm_claim(self, credentials: Mapping[str, str], offset: int, user_id: str) -> None:
        self.confirmed.append(user_id)


class Mailbox:
    """Takes every letter; refuses as told first."""

    name = "mailbox"

    def __init__(self) -> None:
        self.letters: list[Message] = []
        self.refusals: list[ProviderError] = []

    def send(self, message: Message) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.letters.append(message)


@dataclasses.dataclass
class Scene:
    """One installation and the stand-ins around it."""

    ctx: Context
    world: FolderRuntime
    telegram: ScriptedTelegram
    mailbox: Mailbox

    @property
    def vendor(self) -> Sandbox:
        """The payment vendor's own side."""
        return cast(Sandbox, self.ctx.payments["sandbox"])

    def sign_up(self, email: str = "ada@example.com", token: str | None = None, **changes: Any) -> Begun:
        """A new customer with a draft and a payment page."""
        channels = {"telegram": {"telegram_bot_token": token}} if token else {}
        form = Form(**{**_FORM, "channels": channels, **changes})
        return checkout.sign_up(self.ctx, email, form)

    def pay(self, begun: Begun) -> str:
        """The customer pays, and we read it at the vendor; returns the checkout's state there."""
        self.vendor.complete(self.reference(begun), "paid")
        return self.settle(begun)

    def reference(self, begun: Begun) -> str:
        """What the vendor calls this checkout."""
        with self.ctx.db.read() as db:
            reference = checkouts.get(db, begun.checkout.id).reference
        assert reference
        return reference

    def settle(self, begun: Begun) -> str:
        """What the workflow of a payment event does, here and now."""
        seen = self.ctx.payments["sandbox"].fetch(self.reference(begun))
        with self.ctx.db.tx() as db:
            return settlement.equalise(db, self.ctx, checkouts.get(db, begun.checkout.id), seen)

    def live(self, email: str = "ada@example.com", **changes: Any) -> Begun:
        """A paid assistant that runs, as the provisioning workflow leaves it."""
        begun = self.sign_up(email, **changes)
        self.pay(begun)
        self.bring_up(begun.instance.id)
        return begun

    def bring_up(self, instance_id: str) -> None:
        """From provisioning to active: port, gateway, grant, state."""
        ctx = self.ctx
        with ctx.db.tx() as db:
            instance = db.get_one(Instance, instance_id)
            port = places.take_port(db, ctx.host, instance_id, 20_000, 20_999)
            access.grant(db, ctx, instance, ctx.keys.open(instance.proxy_key, PROXY_KEY_PURPOSE))
        folder = self.world.root / instance_id
        (folder / "state").mkdir(parents=True, exist_ok=True)
        (folder / "RUNNING").write_text("0")
        with ctx.db.tx() as db:
            db.get_one(Instance, instance_id).placement = {"folder": instance_id, "port": port}
            db.flush()
            states.activate(db, instance_id, ctx.clock.now())
            access.open_access(db, ctx, instance_id)
            db.execute(sa.text("UPDATE operation SET state = 'done' WHERE instance_id = :id"), {"id": instance_id})
        files.apply_config(ctx, instance_id)
        built = files.load(ctx, instance_id)[0]
        self.world.apply(built.placement or {}, files.render_workspace(ctx, built))

    def put_in(self, state: State, email: str | None = None) -> Begun:
        """An assistant in this state, as its history leaves it."""
        address = email or f"{state}-{new_id('x')[-6:]}@example.com"
        begun = self.live(address) if state in (State.ACTIVE, State.SUSPENDED) else self.sign_up(address)
        now = self.ctx.clock.now()
        with self.ctx.db.tx() as db:
            if state == State.SUSPENDED:
                states.suspend(db, begun.instance.id, now, Reason.OWNER)
            if state in (State.PROVISIONING, State.FAILED):
                states.begin_provisioning(db, begun.instance.id, now)
            if state == State.FAILED:
                states.fail(db, begun.instance.id, now, "disk_full", "The server's disk is full.")
            if state == State.DELETED:
                states.mark_deleted(db, begun.instance.id, now)
        return begun

    def instance(self, instance_id: str) -> Instance:
        """The row as it is now."""
        with self.ctx.db.read() as db:
            return db.get_one(Instance, instance_id)

    def wait(self, check: Callable[[], bool], seconds: float = 60) -> None:
        """Until `check` says yes."""
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.05)

    def count(self, table: str, where: str = "1=1") -> int:
        """Rows of a table; the engine's own is in a schema of its own on PostgreSQL."""
        if table == "workflow_status" and not self.ctx.db.is_sqlite:
            table = "dbos.workflow_status"
        with self.ctx.db.read() as db:
            return int(db.scalar(sa.text(f"SELECT count(*) FROM {table} WHERE {where}")) or 0)

    def counts(self) -> dict[str, int]:
        """Rows of every table that a refused request must leave alone."""
        return {table: self.count(table) for table in TABLES.split()}

    def connected(self, begun: Begun, token: str = TOKEN) -> str:
        """Connect a bot; returns the start token of its claim link."""
        credentials, bot = checkout.probe_channel(self.ctx, "telegram", {"telegram_bot_token": token})
        with self.ctx.db.tx() as db:
            now = self.ctx.clock.now()
            made = connections.connect(db, begun.instance.id, "telegram", credentials, bot, self.ctx.keys, now)
            url = connections.claim_url(made, self.ctx.keys)
        assert url
        return url.partition("?start=")[2]


_FORM: dict[str, Any] = {
    "assistant_name": "Ada",
    "custom_instructions": "Help me plan.",
    "plan": "personal",
    "persona": "personal",
}


@contextmanager
def set_up(settings: Settings, clock: Clock | None = None, **changes: Any) -> Iterator[Scene]:
    """A scene over a migrated database; closed at the end."""
    stopping.clear()  # an engine that another test of this process ran and closed leaves the word behind
    settings = settings.model_copy(update={**PLENTY, "max_customers": 10_000, "drain_seconds": 0, **changes})
    built = wiring.build(settings, clock)
    world = FolderRuntime(settings.data_dir.parent / "world")
    telegram, mailbox = ScriptedTelegram(settings), Mailbox()
    ctx = dataclasses.replace(
        built,
        runtimes={"folder": wiring.Guarded(world)},
        gateway=wiring.Guarded(FolderGateway(world)),
        channels={"telegram": wiring.Guarded(telegram)},
        notifier=wiring.Guarded(mailbox),
    )
    try:
        yield Scene(ctx, world, telegram, mailbox)
    finally:
        engine._clients.pop(ctx.db, None)
        ctx.db.close()
