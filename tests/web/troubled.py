"""What goes wrong: customers in want of money, of a key, of an answer; and an installation where nothing works."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from sqlalchemy import update
from sqlalchemy.orm import Session

from clawhaven import wiring
from clawhaven.billing import checkouts, dunning, subscriptions, wallet
from clawhaven.billing.models import Wallet
from clawhaven.context import Context
from clawhaven.instances import health, operations, states
from clawhaven.instances.states import Reason
from clawhaven.metering.spending import spending_of
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import balance, engine, lifecycle, spending
from tests.conftest import free_port
from tests.fakes.world import FolderRuntime
from tests.web.conftest import draft
from tests.web.household import House, add_person, build, buy
from tests.web.test_billing import pay, settle


class SilentVendor:
    """A payment vendor whose pages cannot be had; all else is the real one's."""

    def __init__(self, vendor: Any) -> None:
        self._vendor = vendor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vendor, name)

    def create_checkout(self, _request: Any) -> Any:
        raise ProviderError("no answer", code="sandbox_down")


class MuteModel:
    """No way to the models."""

    def answers(self) -> bool:
        return False


class BrokenList(dict[str, Any]):
    """What a mistake of ours would make of a page."""

    def items(self) -> Any:
        raise RuntimeError("a mistake of ours")


def installation(ctx: Context, folder: Path) -> Context:
    """The same database and people behind another port: every place is taken, nobody may sign in any more today,
    a list is broken, neither vendor nor models answer; and the operator says who they are."""
    imprint = folder / "imprint.md"
    imprint.write_text("Example Ltd, 1 Example Street, Exampletown.\n\nWrite to <hello@example.com>.\n")
    changed = {"max_customers": 0, "sign_in_per_minute": 0, "imprint_file": imprint, "platform_port": free_port()}
    settings = ctx.settings.model_copy(update=changed)
    settings = settings.model_copy(update={"base_url": f"http://127.0.0.1:{settings.platform_port}"})
    return dataclasses.replace(
        ctx,
        settings=settings,
        payments={name: wiring.Guarded(SilentVendor(one)) for name, one in ctx.payments.items()},
        model=cast(Any, MuteModel()),
        integrations=BrokenList(),
    )


def furnish(ctx: Context, world: FolderRuntime, house: House) -> None:
    """Two customers: one whose money is gone, and one who has little of it left and lets assistants go."""
    _want_money(ctx, world, house)
    _let_go(ctx, world, house)
    with ctx.db.tx() as db:  # a worker there is, as far as a page can see
        lease = engine.ExecutorLease(executor_id="gallery", host=ctx.host, seen=ctx.clock.now().timestamp() + 86_400)
        db.merge(lease)
        day = spending_of(db, ctx.clock.now(), instance_ids=[house.ids["live"]])[0]
    used = dataclasses.replace(day, extra_micros=day.extra_micros + 1)
    for name, one in (("goes-on", day), ("went-on", used)):
        house.ids[name] = spending.link(ctx, one).rpartition("/")[2]


def _want_money(ctx: Context, world: FolderRuntime, house: House) -> None:
    """An empty balance and a failed top-up by itself; one assistant waits for money, one each is paused for the
    balance and for a payment."""
    account_id = add_person(ctx, house, "wanting", "gina@example.com").account.id
    mine, now = house.visits["wanting"], ctx.clock.now()
    house.ids["depleted"] = build(ctx, world, buy(ctx, mine, "Iris", plan="metered"))
    pay(ctx, mine.post("/topup", chosen="10", amount="").headers["location"])
    house.ids["paused-balance"] = build(ctx, world, buy(ctx, mine, "Nora", plan="metered"))
    house.ids["paused-payment"] = build(ctx, world, buy(ctx, mine, "Otto", plan="personal"))
    with ctx.db.read() as db:
        owed = subscriptions.of_instance(db, house.ids["paused-payment"])
    assert owed is not None
    ctx.payments["sandbox"].fail_renewal(owed.reference)  # type: ignore[attr-defined]
    settle(ctx, owed.checkout_id)
    with ctx.db.tx() as db:
        _leave(db, ctx, account_id, 0)
        states.suspend(db, house.ids["paused-balance"], now, Reason.BALANCE)
        states.suspend(db, house.ids["paused-payment"], now, Reason.PAYMENT)
        (episode,) = dunning.open_episodes(db, account_id)
        dunning.suspend(db, episode, now)
        wallet.save_auto(db, account_id, is_auto=True, threshold_micros=15_000_000, amount_micros=25_000_000)
        failed = {"auto_state": wallet.Auto.FAILED, "auto_error": balance.DECLINED}
        db.execute(update(Wallet).where(Wallet.account_id == account_id).values(failed))
        house.ids["pageless"] = checkouts.open_topup(db, account_id, 25_000_000, "sandbox", now).id


def _let_go(ctx: Context, world: FolderRuntime, house: House) -> None:
    """A balance that is nearly down; one assistant without a key that does not answer either, one deleted, one being
    deleted, and an order that was cancelled."""
    owner = add_person(ctx, house, "sparing", "hank@example.com")
    mine, now = house.visits["sparing"], ctx.clock.now()
    house.ids["keyless"] = build(ctx, world, buy(ctx, mine, "Zora", plan="monthly"))
    house.ids["leaving"] = build(ctx, world, buy(ctx, mine, "Vera", plan="metered"))
    house.ids["deleted"] = build(ctx, world, buy(ctx, mine, "Ulla", plan="personal"))
    house.ids["cancelled"] = draft(mine, assistant_name="Theo", plan="yearly")
    house.ids["arrived"] = pay(ctx, mine.post("/topup", chosen="10", amount="").headers["location"])
    given_up = mine.post("/topup", chosen="25", amount="").headers["location"].rpartition("/")[2]
    with ctx.db.tx() as db:
        closed = [checkouts.by_reference(db, "sandbox", given_up), checkouts.of_instance(db, house.ids["cancelled"])]
        house.ids["unpaid"], house.ids["closed"] = (one.id for one in closed if one is not None)
        for name in ("unpaid", "closed"):
            checkouts.expire(db, house.ids[name], now)
        _leave(db, ctx, owner.account.id, 2_000_000)
        for name in ("leaving", "deleted", "cancelled"):
            asked = lifecycle.ask_delete(db, ctx, house.ids[name], f"user:{owner.user.id}")
            operations.begin_step(db, asked.id, operations.STEPS["delete"][0], now)
            if name == "deleted":
                for step in operations.STEPS["delete"]:
                    operations.end_step(db, asked.id, step, now)
                operations.close(db, asked.id, now)
                states.mark_deleted(db, house.ids[name], now)
        why = "the gateway does not answer"
        health.record(db, house.ids["keyless"], now, status="running", is_healthy=False, detail=why)


def _leave(db: Session, ctx: Context, account_id: str, micros: int) -> None:
    """Take money out until so much is left above the minimum, and have what follows from it happen."""
    standing = wallet.standing(db, account_id)
    assert standing is not None
    away = standing.balance_micros - standing.floor_micros - micros
    balance.correct(db, ctx, account_id, -away, "Used elsewhere", "cli", key=f"left:{account_id}")
    balance.look(db, ctx, account_id)
