"""Plans, the wallet, usage and the statement."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from clawhaven.api.app import create_app
from clawhaven.billing.plans import Catalogue
from clawhaven.ledger import entries
from clawhaven.workflows import access
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


def test_plans_are_those_that_can_be_bought(http: TestClient) -> None:
    for path in ("/api/plans", "/api/billing/plans"):
        plan = http.get(path).json()["items"][0]
        assert (plan["id"], plan["price_micros"], plan["price"]) == ("personal", 29_000_000, "$29.00 / month")
        limits = {"instances": 1, "messages_per_hour": 100, "tokens_per_day": 1_000_000, "calls_in_flight": 8}
        assert plan["limits"] == limits
        assert (plan["memory_mb"], plan["cpus"], plan["channels"]) == (2048, 2.0, ["telegram"])
        assert (plan["trial_days"], plan["savings"], plan["annual_micros"]) == (0, None, 348_000_000)
        assert "fair use" in plan["terms"]


def test_a_plan_that_saves_says_how_much(scene: Scene) -> None:
    plans = Catalogue({plan.id: dataclasses.replace(plan, is_offered=True) for plan in scene.ctx.plans})
    app = create_app(dataclasses.replace(scene.ctx, plans=plans))
    with TestClient(app, base_url=scene.ctx.settings.base_url) as http:
        items = {plan["id"]: plan for plan in http.get("/api/billing/plans").json()["items"]}
    assert items["yearly"]["savings"] == {"amount_micros": 49_000_000, "percent": 14, "compared_with": "monthly"}
    assert items["quarterly"]["savings"]["percent"] == 13
    assert (items["yearly"]["limits"]["messages_per_hour"], items["metered"]["included_credit_micros"]) == (
        None,
        10_000_000,
    )


def test_a_payment_is_in_the_statement_and_leaves_the_wallet_empty(
    http: TestClient, scene: Scene, key_of: Keys
) -> None:
    ada = scene.live()
    me = key_of(ada)
    assert http.get("/api/billing/balance", headers=me).json() == {
        "currency": "USD",
        "balance_micros": 0,
        "held_micros": 0,
        "disputed_micros": 0,
        "minimum_micros": 10_000_000,
        "available_micros": 0,
        "level": None,
        "included_usage_micros": 0,
    }
    lines = http.get("/api/billing/ledger", headers=me).json()["items"]
    assert [(line["kind"], line["amount"], line["balance_after_micros"]) for line in lines] == [
        ("plan", "-$29.00", 0),
        ("payment", "$29.00", 29_000_000),
    ]


def test_the_statement_pages_without_gaps(http: TestClient, scene: Scene, key_of: Keys) -> None:
    ada, eve = scene.sign_up("ada@example.com"), scene.sign_up("eve@example.com")
    now = scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        for owner in (ada, eve):
            wallet = access.wallet_of(db, scene.ctx, owner.owner.account.id)
            for number in range(7):
                key = f"t{number}:{wallet}"
                entries.credit(db, key=key, ledger_account_id=wallet, amount_micros=number + 1, now=now)
    cursor, amounts = None, []
    for _ in range(4):
        query = "?limit=2" + (f"&cursor={cursor}" if cursor else "")
        page = http.get(f"/api/billing/ledger{query}", headers=key_of(ada)).json()
        amounts += [line["amount_micros"] for line in page["items"]]
        cursor = page["next_cursor"]
    assert (amounts, cursor) == ([7, 6, 5, 4, 3, 2, 1], None)


@pytest.mark.parametrize(
    "query", ["", "?since=2026-01-01T00:00:00Z", "?since=2026-01-01T00:00:00%2B02:00&until=2026-02-01T00:00:00Z"]
)
def test_usage_hides_what_it_cost_the_operator(http: TestClient, scene: Scene, key_of: Keys, query: str) -> None:
    answer = http.get(f"/api/billing/usage{query}", headers=key_of(scene.sign_up()))
    assert answer.status_code == 200
    assert answer.json()["total"]["calls"] == 0
    assert "provider_cost" not in answer.text
