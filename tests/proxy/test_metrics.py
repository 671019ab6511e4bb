"""What the proxy counts."""

from __future__ import annotations

import time
from datetime import timedelta

from clawhaven.core.metrics import page
from clawhaven.metering import ClosedCall, PlanMode, spending
from clawhaven.ports.upstream import Usage
from clawhaven.proxy.metrics import METER, SERIES, Meter
from tests.core.test_metrics import samples
from tests.proxy.conftest import House


def test_a_call_is_counted_from_its_arrival_to_its_settlement() -> None:
    meter = Meter()
    closed = ClosedCall("call_1", "acc_1", PlanMode.METERED, 450, 675, 5, is_new=True)
    repeat = ClosedCall("call_1", "acc_1", PlanMode.METERED, 450, 675, 5, is_new=False)
    meter.begin()
    meter.begin()
    meter.settle(Usage(100, 10, 20, 3, 4), closed)
    meter.settle(Usage(100, 10, 20, 3, 4), repeat)
    meter.settle(None, ClosedCall("call_2", "acc_1", PlanMode.METERED, 0, 0, 0, is_new=True))
    meter.end("openai-chat", 200, 0.3, 0.02)
    meter.refuse("openai-chat", "payment_required")
    meter.batch(3, 0.002)
    found = samples(page([("proxy-1", meter.counts.snapshot())]))
    for name, value in {
        "clawhaven_proxy_in_flight{process=proxy-1}": 1,
        "clawhaven_proxy_requests_total{dialect=openai-chat,process=proxy-1,status=200}": 1,
        "clawhaven_proxy_refusals_total{dialect=openai-chat,process=proxy-1,reason=payment_required}": 1,
        "clawhaven_proxy_micros_total{process=proxy-1,side=price}": 675,
        "clawhaven_proxy_micros_total{process=proxy-1,side=provider}": 450,
        "clawhaven_proxy_tokens_total{kind=cache_write,process=proxy-1}": 7,
        "clawhaven_proxy_tokens_total{kind=input,process=proxy-1}": 100,
        "clawhaven_proxy_request_seconds_bucket{dialect=openai-chat,le=0.5,process=proxy-1}": 1,
        "clawhaven_proxy_first_byte_seconds_sum{dialect=openai-chat,process=proxy-1}": 0.02,
        "clawhaven_proxy_batch_calls_sum{process=proxy-1}": 3,
        "clawhaven_proxy_batch_seconds_count{process=proxy-1}": 1,
    }.items():
        assert found[name] == value, name


def test_no_series_names_a_customer() -> None:
    labels = {label for series in SERIES for label in series.labels}
    assert labels <= {"dialect", "status", "reason", "kind", "side"}


def test_a_running_proxy_counts_and_notes_the_limit_that_refused(house: House) -> None:
    body = {"model": "sandbox-1", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
    before = samples(page([("", METER.counts.snapshot())]))
    assert house.post("/v1/messages", body).status_code == 200
    with house.db.tx() as db:
        spending.set_limit(db, house.instance, 0)
    for _ in range(2):
        assert house.post("/v1/messages", body).status_code == 200, "a person is told in words"
    assert house.post("/v1/nothing", {}).status_code == 404
    deadline = time.monotonic() + 5
    while METER.counts.snapshot()["values"][0][2] and time.monotonic() < deadline:
        time.sleep(0.01)
    after = samples(page([("", METER.counts.snapshot())]))
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["clawhaven_proxy_requests_total{dialect=anthropic-messages,status=200}"] == 3
    assert grown["clawhaven_proxy_refusals_total{dialect=anthropic-messages,reason=spend_per_day}"] == 2
    assert grown["clawhaven_proxy_in_flight{}"] == 0
    assert grown["clawhaven_proxy_micros_total{side=price}"] == house.calls()[0].price_micros
    assert grown["clawhaven_proxy_request_seconds_count{dialect=anthropic-messages}"] == 3
    with house.db.read() as db:
        (row,) = spending.untold(db, house.clock.now() - timedelta(days=1))
        assert (row.instance_id, row.limit, row.account_id) == (house.instance, "spend_per_day", "acc_1")
