"""Usage in any combination, live and for spreadsheets; limits a day; automatic calls that go on."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from clawhaven import metering
from clawhaven.core.secrets import hash_token
from clawhaven.instances.drafts import PROXY_KEY_PURPOSE
from clawhaven.ledger import entries
from clawhaven.metering import Ask, Source
from clawhaven.ports.upstream import Usage
from clawhaven.workflows import access
from clawhaven.workflows.checkout import Begun
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

Keys = Callable[..., dict[str, str]]


@pytest.fixture
def ada(scene: Scene) -> Begun:
    """A metered assistant with money and three calls, one of them by itself, all of 675 micro-dollars."""
    now = scene.ctx.clock.now()
    scene.ctx.clock.advance(now.replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=1) - now)
    begun = scene.live(plan="metered")
    now = scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        wallet = access.wallet_of(db, scene.ctx, begun.owner.account.id)
        entries.credit(db, key="test", ledger_account_id=wallet, amount_micros=90_000_000, now=now)
    for source in (Source.PERSON, Source.PERSON, Source.CRON):
        call(scene, begun, source)
    return begun


def call(scene: Scene, begun: Begun, source: Source, *, is_closed: bool = True) -> None:
    now, key = scene.ctx.clock.now(), scene.ctx.keys.open(begun.instance.proxy_key, PROXY_KEY_PURPOSE)
    ask = Ask("sandbox-1", "anthropic-messages", 1_000, 1_000, source)
    with scene.ctx.db.tx() as db:
        opened = metering.open_call(db, ask, key_hash=hash_token(key), upstreams=("sandbox",), now=now)
        if is_closed:
            metering.close_call(db, opened.id, Usage(100, 10), now=now)


def test_usage_adds_up_in_any_combination(http: TestClient, scene: Scene, ada: Begun, key_of: Keys) -> None:
    me, day = key_of(ada), f"{scene.ctx.clock.now():%Y-%m-%d}"
    answer = http.get("/api/billing/usage/by?by=day,source", headers=me).json()
    assert [(one["day"], one["source"], one["calls"], one["price_micros"]) for one in answer["items"]] == [
        (day, "cron", 1, 675),
        (day, "person", 2, 1_350),
    ]
    assert "provider_cost_micros" not in answer["items"][0]
    for by, expected in (("model", "sandbox-1"), ("instance", ada.instance.id), ("day", day)):
        (one,) = http.get(f"/api/billing/usage/by?by={by}", headers=me).json()["items"]
        assert (one[by], one["calls"], one["price"]) == (expected, 3, "$0.002025")
    later = (scene.ctx.clock.now() + timedelta(days=1)).strftime("%Y-%m-%dT00:00:00Z")
    assert http.get(f"/api/billing/usage/by?since={later}", headers=me).json()["items"] == []
    assert http.get("/api/billing/usage/by?instance_id=ins_other", headers=me).json()["items"] == []
    assert http.get("/api/billing/usage/by", headers=key_of(scene.live("eve@example.com"))).json()["items"] == []
    assert_error(http.get("/api/billing/usage/by?by=year", headers=me), 400, "validation_failed", "by")
    assert_error(http.get("/api/billing/usage/by?since=2026-01-01T00:00:00", headers=me), 400, None, "since")


def test_a_table_for_spreadsheets(http: TestClient, ada: Begun, key_of: Keys) -> None:
    answer = http.get("/api/billing/usage.csv?by=source", headers=key_of(ada))
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["source"], row["calls"], row["price_micros"], row["price_usd"]) for row in rows] == [
        ("cron", "1", "675", "0.000675"),
        ("person", "2", "1350", "0.00135"),
    ]


def test_live_numbers(http: TestClient, scene: Scene, ada: Begun, key_of: Keys) -> None:
    call(scene, ada, Source.PERSON, is_closed=False)
    live = http.get("/api/billing/usage/live", headers=key_of(ada)).json()
    assert (live["in_flight"], live["today"]["calls"], live["this_hour"]["calls"]) == (1, 3, 3)
    assert live["held_micros"] > 0
    assert {one["source"]: one["calls"] for one in live["today_by_source"]} == {"cron": 1, "person": 2}
    (day,) = live["instances"]
    assert (day["spent_today_micros"], day["automatic_today_micros"], day["automatic_allowance_micros"]) == (
        2_025,
        675,
        500_000,
    )
    assert day["is_automatic_paused"] is False


def test_a_limit_is_set_and_lifted(http: TestClient, scene: Scene, ada: Begun, key_of: Keys) -> None:
    me, path = key_of(ada), f"/api/instances/{ada.instance.id}"
    found = http.put(f"{path}/spend-limit", headers=me, json={"spend_per_day_micros": 2_000_000}).json()
    assert (found["spend_per_day_micros"], found["account_spend_per_day_micros"]) == (2_000_000, None)
    assert http.put("/api/billing/spend-limit", headers=me, json={"spend_per_day_micros": 10_000}).status_code == 200
    found = http.get(f"{path}/spending", headers=me).json()
    assert (found["spend_per_day_micros"], found["account_spend_per_day_micros"]) == (2_000_000, 10_000)
    found = http.put(f"{path}/spend-limit", headers=me, json={"spend_per_day_micros": None}).json()
    assert found["spend_per_day_micros"] is None
    for wrong in ({"spend_per_day_micros": 1}, {"spend_per_day_micros": "5"}, {}, {"spend_per_day_micros": -10_000}):
        assert_error(http.put(f"{path}/spend-limit", headers=me, json=wrong), 400, "validation_failed")
    stranger = key_of(scene.live("eve@example.com"))
    assert_error(http.get(f"{path}/spending", headers=stranger), 404)
    assert_error(http.put(f"{path}/spend-limit", headers=stranger, json={"spend_per_day_micros": None}), 404)
    assert_error(http.post(f"{path}/continue", headers=stranger, json={}), 404)


def test_automatic_calls_go_on_by_one_tap(http: TestClient, scene: Scene, ada: Begun, key_of: Keys) -> None:
    me, path = key_of(ada), f"/api/instances/{ada.instance.id}/continue"
    for _ in range(2):
        found = http.post(path, headers=me, json={"seen_extra_micros": 0}).json()
        assert (found["automatic_extra_micros"], found["automatic_allowance_micros"]) == (500_000, 1_000_000)
    assert http.post(path, headers=me, json={}).json()["automatic_allowance_micros"] == 1_500_000
    own_key = scene.live("eve@example.com", plan="monthly")
    answer = http.post(f"/api/instances/{own_key.instance.id}/continue", headers=key_of(own_key), json={})
    assert_error(answer, 409, "no_allowance")


def test_an_assistant_that_never_called_has_an_empty_day(http: TestClient, scene: Scene, key_of: Keys) -> None:
    draft = scene.sign_up("eve@example.com")
    found = http.get(f"/api/instances/{draft.instance.id}/spending", headers=key_of(draft)).json()
    assert (found["spent_today_micros"], found["is_automatic_paused"]) == (0, False)
