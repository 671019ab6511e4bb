"""What a month left the operator, to the micro-dollar."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from clawhaven import ledger
from clawhaven.billing.models import Receipt
from clawhaven.core.errors import Invalid
from clawhaven.core.ids import new_id
from clawhaven.instances.models import Instance, InstanceEvent
from clawhaven.metering.models import UsageRow
from clawhaven.ports.payments import FeeRate
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.workflows import access, margin
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene


def use(scene: Scene, begun: Begun, mode: str, cost: int, price: int, state: str = "closed", short: int = 0) -> None:
    """A model call, as metering leaves it."""
    now = scene.ctx.clock.now()
    values: dict[str, Any] = {
        "id": new_id("call"),
        "instance_id": begun.instance.id,
        "account_id": begun.instance.account_id,
        "plan_mode": mode,
        "model": "m",
        "upstream": "sandbox",
        "dialect": "openai",
        "price_id": "p",
        "markup_percent": 150,
        "state": state,
        "provider_cost_micros": cost,
        "price_micros": price,
        "uncovered_micros": short,
        "started_at": now,
        "expires_at": now,
    }
    with scene.ctx.db.tx() as db:
        db.execute(sa.insert(UsageRow).values(**values))


def report(scene: Scene, month: str = "") -> margin.Report:
    with scene.ctx.db.read() as db:
        return margin.report(db, scene.ctx, month)


def test_a_month_of_two_customers(scene: Scene) -> None:
    ada, bea = scene.live("ada@example.com"), scene.live("bea@example.com")
    scene.sign_up("idle@example.com")
    use(scene, ada, "included", cost=2_000_001, price=3_000_000)
    use(scene, ada, "metered", cost=100, price=150)
    use(scene, ada, "own_key", cost=0, price=0)
    use(scene, ada, "metered", cost=999, price=999, state="abandoned")
    now = scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        paid = db.scalars(sa.select(Receipt).where(Receipt.account_id == ada.instance.account_id)).one()
        paid.fee_micros, price = 1_140_000, paid.amount_micros
        hers = db.scalars(sa.select(Receipt).where(Receipt.account_id == bea.instance.account_id)).one()
        hers.fee_micros = None
        wallet = access.wallet_of(db, scene.ctx, bea.instance.account_id)
        ledger.credit(db, key="c", ledger_account_id=wallet, amount_micros=7, now=now, kind="credit", source="credits")
        ledger.debit(
            db,
            key="e",
            ledger_account_id=wallet,
            amount_micros=2,
            now=now,
            kind="credit_expired",
            to="credits",
            below_floor=True,
        )
        ledger.credit(
            db,
            key="u",
            ledger_account_id=wallet,
            amount_micros=1_000,
            now=now,
            kind="plan_returned",
            source="subscription_revenue",
        )
    found = report(scene)
    lines = {line.email: line for line in found.lines}
    assert set(lines) == {"ada@example.com", "bea@example.com"}
    one = lines["ada@example.com"]
    assert (one.subscription_micros, one.usage_micros, one.fees_micros) == (price, 150, 1_140_000)
    assert (one.fees_unknown, one.model_micros, one.server_micros) == (0, 2_000_101, 0)
    assert one.margin_micros == price + 150 - 1_140_000 - 2_000_101
    assert one.percent == round(100 * one.margin_micros / (price + 150))
    other = lines["bea@example.com"]
    assert (other.refunded_micros, other.credits_micros, other.fees_unknown) == (1_000, 5, 1)
    assert other.revenue_micros == price - 1_000
    assert [line.email for line in found.lines] == ["bea@example.com", "ada@example.com"], "the largest first"
    for name in margin.Margin.__dataclass_fields__:
        if name not in ("account_id", "email"):
            assert getattr(found.total, name) == sum(getattr(line, name) for line in found.lines), name
    assert found.total.margin_micros == sum(line.margin_micros for line in found.lines)


def test_what_nobody_paid_is_named_and_costs_no_second_time(scene: Scene) -> None:
    begun = scene.live()
    use(scene, begun, "metered", cost=100, price=150)
    before = report(scene).total
    use(scene, begun, "metered", cost=100, price=120, short=30)
    use(scene, begun, "metered", cost=0, price=0, state="abandoned", short=7)
    after = report(scene).total
    assert (before.uncovered_micros, after.uncovered_micros) == (0, 30)
    assert after.margin_micros == before.margin_micros + 20


def test_other_months_are_other_months(scene: Scene) -> None:
    scene.live()
    empty = report(scene, "2020-01")
    assert (empty.lines, empty.total.margin_micros, empty.total.percent) == ([], 0, None)
    for word in ("", "2020", "2020-13", "x" * 7):
        if word:
            with pytest.raises(Invalid):
                report(scene, word)
    assert report(scene).month == f"{scene.ctx.clock.now():%Y-%m}"


def test_a_server_costs_from_the_first_start_to_the_deletion(scene: Scene) -> None:
    scene.ctx.settings.instance_cost = scene.ctx.settings.instance_cost + 31
    begun = scene.live()
    month = datetime(2026, 1, 1, tzinfo=UTC)
    with scene.ctx.db.tx() as db:
        db.execute(sa.update(InstanceEvent).values(at=month + timedelta(days=10)))
        db.execute(
            sa.update(Instance)
            .where(Instance.id == begun.instance.id)
            .values(active_at=month + timedelta(days=20), deleted_at=month + timedelta(days=33))
        )
    assert report(scene, "2025-12").total.server_micros == 0
    assert report(scene, "2026-01").total.server_micros == 21_000_000, "a later start after a pause begins nothing"
    february = 31_000_000 * 2 // 28
    assert report(scene, "2026-02").total.server_micros == february
    assert report(scene, "2026-03").total.server_micros == 0


def test_the_number_of_queries_does_not_grow(scene: Scene) -> None:
    seen: list[str] = []
    scene.ctx.settings.instance_cost += 5

    def count() -> int:
        seen.clear()
        report(scene)
        return len(seen)

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(scene.ctx.db.engine, "before_cursor_execute", note)
    scene.live("a@example.com")
    first = count()
    for name in "bcde":
        scene.live(f"{name}@example.com")
    assert count() == first
    assert sum(statement.lstrip().upper().startswith("SELECT") for statement in seen) == 5


def test_a_share_is_whole_micro_dollars() -> None:
    assert margin.share(10, timedelta(seconds=1), timedelta(seconds=3)) == 3
    assert margin.share(31_000_000, timedelta(days=31), timedelta(days=31)) == 31_000_000


@pytest.mark.parametrize(
    ("figures", "percent", "told"),
    [
        ({"subscription_micros": 29_000_000, "model_micros": 9_000_000}, 69, ""),
        ({}, None, ""),
        (
            {"subscription_micros": 10_000_000, "credits_micros": -5_000_000},
            150,
            r"\$5\.00 of credit given earlier ended",
        ),
        (
            {"subscription_micros": 1_000_000, "model_micros": 4_000_000, "fees_micros": 1},
            -300,
            r"models cost, \$4\.00",
        ),
        ({"credits_micros": 10_000_000}, None, r"credit that was given, \$10\.00"),
        ({"subscription_micros": 5, "refunded_micros": 29_000_000}, None, r"money given back, \$29\.00"),
    ],
)
def test_a_strange_margin_is_explained(figures: dict[str, int], percent: int | None, told: str) -> None:
    one = margin.Margin("acc_1", "", **figures)
    assert one.percent == percent
    assert bool(one.remark) == bool(told)
    assert re.search(told, one.remark)


def test_reports_of_many_customers_are_kept_for_a_minute(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    lately = margin.Lately()
    first = lately.report(scene.ctx)
    assert lately.report(scene.ctx) is not first, "a small one is made anew"
    monkeypatch.setattr(margin, "LARGE", 0)
    kept = lately.report(scene.ctx)
    assert lately.report(scene.ctx) is kept
    scene.ctx.clock.advance(margin.KEPT)
    assert lately.report(scene.ctx).made_at >= kept.made_at + margin.KEPT


def test_a_vendor_that_tells_no_fee_is_estimated_by_its_price_list(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.live("ada@example.com")
    scene.live("bea@example.com")
    with scene.ctx.db.tx() as db:
        (told, untold) = db.scalars(sa.select(Receipt).order_by(Receipt.created_at)).all()
        told.fee_micros, untold.fee_micros = 1_140_000, None
    before = report(scene).total
    assert (before.fees_micros, before.fees_estimated_micros, before.fees_unknown) == (1_140_000, 0, 1)
    monkeypatch.setattr(Sandbox, "fee_rate", FeeRate(Decimal("3.9"), 400_000))
    found = report(scene)
    estimate = 1_131_000 + 400_000  # 3.9 % of $29.00, and 40 cents
    assert (found.total.fees_micros, found.total.fees_estimated_micros) == (1_140_000 + estimate, estimate)
    assert found.total.fees_unknown == 0
    assert sorted(line.fees_estimated_micros for line in found.lines) == [0, estimate]
    assert found.total.margin_micros == before.margin_micros - estimate
