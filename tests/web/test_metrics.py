"""/metrics: for this machine or for who has the token, and a missing page for everybody else."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from pydantic import SecretStr

from clawhaven.context import Context
from clawhaven.core.metrics import Counts, Sharing
from clawhaven.proxy.metrics import SERIES, Meter
from clawhaven.web.app import create_app
from clawhaven.web.metrics import may_read
from tests.core.test_metrics import samples


def asking(peer: str = "127.0.0.1", **headers: str) -> Request:
    """A request as it arrives."""
    given = {"host": "127.0.0.1:8080"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return cast(Request, SimpleNamespace(client=SimpleNamespace(host=peer), headers=given))


def with_settings(ctx: Context, **changes: Any) -> Context:
    return dataclasses.replace(ctx, settings=ctx.settings.model_copy(update=changes))


@pytest.mark.parametrize(
    ("request_", "is_allowed"),
    [
        (asking(), True),
        (asking("::1", host="[::1]:8080"), True),
        (asking(host="localhost:8080"), True),
        (asking("192.0.2.1"), False),
        (asking("testclient"), False),
        (asking(host="haven.example"), False),
        (asking(x_forwarded_for="192.0.2.1"), False),
        (asking(forwarded="for=192.0.2.1"), False),
        (asking(via="1.1 proxy"), False),
    ],
)
def test_without_a_token_only_this_machine(ctx: Context, request_: Request, is_allowed: bool) -> None:
    assert may_read(ctx, request_) is is_allowed
    assert not may_read(with_settings(ctx, trusted_proxy_count=1), request_)
    assert not may_read(with_settings(ctx, environment="production"), request_)


def test_with_a_token_only_who_sends_it(ctx: Context) -> None:
    guarded = with_settings(ctx, metrics_token=SecretStr("s3cret"))
    assert may_read(guarded, asking("192.0.2.1", authorization="Bearer s3cret", host="haven.example"))
    assert not may_read(guarded, asking())
    assert not may_read(guarded, asking(authorization="Bearer s3cre"))
    assert not may_read(guarded, asking(authorization="s3cret"))


def test_the_page_has_this_installation_and_the_proxies(ctx: Context) -> None:
    meter = Meter()
    meter.begin()
    meter.end("openai-chat", 200, 0.1, 0.1)
    sharing = Sharing(ctx.settings.data_dir, "proxy", meter.counts)
    sharing.write()
    guarded = with_settings(ctx, metrics_token=SecretStr("s3cret"))
    with TestClient(create_app(guarded), base_url=ctx.settings.base_url) as http:
        assert http.get("/metrics").status_code == 404
        answer = http.get("/metrics", headers={"authorization": "Bearer s3cret"})
    sharing.close()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(answer.content)
    assert found["clawhaven_database_up{}"] == 1
    assert sum(value for name, value in found.items() if name.startswith("clawhaven_proxy_requests_total")) == 1
    assert Counts(SERIES).snapshot()["values"] == []
