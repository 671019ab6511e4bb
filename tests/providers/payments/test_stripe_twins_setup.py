"""The twins of the set-up: a price, the portal and the webhook endpoint, by ours and by the official library."""

from __future__ import annotations

from pathlib import Path

import pytest
import stripe as library

from clawhaven.ports.payments import Price
from clawhaven.providers.payments import stripe_portal
from clawhaven.providers.payments.stripe_calls import API_VERSION, Calls
from clawhaven.providers.payments.stripe_objects import EVENTS
from clawhaven.providers.payments.stripe_portal import FEATURES
from clawhaven.providers.payments.stripe_setup import prepare
from tests.fakes.stripe_recorder import Recorder, shaped, strangers
from tests.fakes.stripe_server import KEY
from tests.fakes.stripe_twins import PORTAL, PRICE, options_of, price

HOOK = "https://haven.example/api/webhooks/stripe"
ALL = {"limit": 100}


@pytest.mark.parametrize("known", [None, "with more in it"])
def test_both_set_the_portal_up_alike(known: str | None, tmp_path: Path) -> None:
    wrong = {**PORTAL, "features": {**FEATURES, "subscription_update": {"enabled": True}}}
    where = "/v1/billing_portal/configurations"
    answers = {f"GET {where}": [wrong] if known else [], f"POST {where}": PORTAL, f"POST {where}/bpc_1": PORTAL}
    with Recorder(answers) as recorder:
        options = options_of(recorder.url)
        line = stripe_portal.prepare(Calls(recorder.url, options.stripe_secret_key.get_secret_value()))
        sent = recorder.take()
        c = library.StripeClient(KEY, base_addresses={"api": recorder.url})
        c.v1.billing_portal.configurations.list(params={"active": True, **ALL})
        if known:
            c.v1.billing_portal.configurations.update("bpc_1", params={"features": FEATURES})
        else:
            params = {"features": FEATURES, "metadata": {"clawhaven": "portal"}}
            c.v1.billing_portal.configurations.create(params=params)
        wanted = recorder.take()
    assert [one.asked for one in sent] == [one.asked for one in wanted]
    assert [wrong for one in sent for wrong in strangers(one.verb, one.path, one.params)] == []
    assert ("changed back" if known else "made now") in line


@pytest.mark.parametrize("known", [None, "another version", "an event short"])
def test_both_set_up_alike(known: str | None, tmp_path: Path) -> None:
    fields = {"id": "we_0", "url": HOOK, "api_version": API_VERSION, "enabled_events": list(EVENTS)}
    fields |= {
        "another version": {"api_version": "2020-08-27"},
        "an event short": {"enabled_events": ["invoice.paid"]},
    }.get(known or "", {})
    made = shaped("webhook_endpoint", id="we_1", url=HOOK, secret="whsec_new")
    answers = {
        "GET /v1/prices": [price()],
        "GET /v1/billing_portal/configurations": [PORTAL],
        "GET /v1/webhook_endpoints": [shaped("webhook_endpoint", **fields)] if known else [],
        "POST /v1/webhook_endpoints": made,
        "GET /v1/webhook_endpoints/we_1": made,
        "POST /v1/webhook_endpoints/we_0": made,
    }
    with Recorder(answers) as recorder:
        lines = prepare(options_of(recorder.url), [Price("personal", "Personal", 29_000_000, "month")], HOOK)
        sent = recorder.take()
        c = library.StripeClient(KEY, base_addresses={"api": recorder.url})
        keys = ["clawhaven_personal_2900_month"]
        c.v1.prices.list(params={"lookup_keys": keys, "active": True, **ALL})
        c.v1.webhook_endpoints.list(params=ALL)
        if known == "an event short":
            c.v1.webhook_endpoints.update("we_0", params={"enabled_events": list(EVENTS), "disabled": False})
        else:
            params = {"url": HOOK, "api_version": "2026-10-28.endive", "enabled_events": list(EVENTS)}
            more = {"description": "Clawhaven", "metadata": {"clawhaven": "webhook"}}
            c.v1.webhook_endpoints.retrieve(c.v1.webhook_endpoints.create(params=params | more).id)
        c.v1.billing_portal.configurations.list(params={"active": True, **ALL})
        wanted = recorder.take()
    assert [one.asked for one in sent] == [one.asked for one in wanted]
    assert [wrong for one in sent for wrong in strangers(one.verb, one.path, one.params)] == []
    assert ("STRIPE_WEBHOOK_SECRET=whsec_new" in lines) == (known != "an event short")
    assert PRICE in lines[0]
