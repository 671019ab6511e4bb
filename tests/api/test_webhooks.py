"""Payment events at the door: only the vendor's own, each stored once, whatever the order."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from clawhaven.billing import checkouts
from clawhaven.core import ratelimit
from clawhaven.core.ids import new_id
from clawhaven.ledger import check_books
from clawhaven.providers.payments.signature import sign
from clawhaven.workflows import alarms, checkout
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene

URL = "/api/webhooks/sandbox"


def event(kind: str = "checkout.completed", checkout: str | None = "sco_x", **changes: Any) -> bytes:
    """The body of an event as the sandbox sends it."""
    body = {"id": new_id("evt"), "type": kind, "created": 1_790_000_000_000, "data": {"checkout": checkout}}
    return json.dumps({**body, **changes}).encode()


def signed(scene: Scene, body: bytes, *, age: float = 0, secret: str | None = None) -> dict[str, str]:
    """The headers of this body, signed by the vendor so many seconds ago."""
    key = secret or scene.vendor._courier.secrets()[0]
    return {"sandbox-signature": sign(key, int(scene.ctx.clock.now().timestamp() - age), body)}


def test_only_what_the_vendor_signed_is_stored(http: TestClient, scene: Scene) -> None:
    body = event()
    good = signed(scene, body)
    forged: list[tuple[bytes, dict[str, str]]] = [
        (body, {}),
        (body, {"sandbox-signature": ""}),
        (body, {"sandbox-signature": "t=1,v1="}),
        (body, {"sandbox-signature": "t=1,v1=" + "0" * 64}),
        (body, {"sandbox-signature": "x" * 10_000}),
        (body, {"sandbox-signature": good["sandbox-signature"].replace("v1=", "v0=")}),
        (body, signed(scene, body, secret="another")),
        (body, {"stripe-signature": good["sandbox-signature"]}),
        (body + b" ", good),
        (body.replace(b"sco_x", b"sco_y"), good),
        (b"", good),
        (event(), good),
        (body, signed(scene, body, age=310)),
        (body, signed(scene, body, age=-310)),
        (b"{}" * 10_000, signed(scene, body)),
    ]
    for content, headers in forged:
        assert_error(http.post(URL, content=content, headers=headers), 400, "bad_signature")
    assert scene.count("payment_event") == 0
    answer = http.post(URL, content=body, headers=signed(scene, body, age=290))
    assert (answer.status_code, answer.json()) == (200, {"received": True, "duplicate": False})


def test_a_replay_changes_nothing(http: TestClient, scene: Scene) -> None:
    body = event()
    headers = signed(scene, body)
    assert http.post(URL, content=body, headers=headers).json()["duplicate"] is False
    counts = scene.counts()
    for url in (URL, "/api/webhook/sandbox"):
        assert http.post(url, content=body, headers=headers).json() == {"received": True, "duplicate": True}
    assert http.post(URL, content=body, headers=signed(scene, body, age=20)).json()["duplicate"] is True
    assert_error(http.post(URL, content=body, headers=signed(scene, body, age=360)), 400, "bad_signature")
    assert scene.counts() == counts


def test_what_is_heard_of_a_vendor_is_noted_also_of_a_replay(http: TestClient, scene: Scene) -> None:
    body = event()
    at = []
    for _ in range(2):
        assert http.post(URL, content=body, headers=signed(scene, body)).status_code == 200
        with scene.ctx.db.read() as db:
            at.append(ratelimit.last_noted(db, "webhook-heard:sandbox"))
        scene.ctx.clock.advance(alarms.HEARD)
    assert_error(http.post(URL, content=body, headers={}), 400, "bad_signature")
    with scene.ctx.db.read() as db:
        assert ratelimit.last_noted(db, "webhook-heard:sandbox") == at[1]
    assert at[0] is not None
    assert at[1] is not None
    assert at[1] - at[0] >= alarms.HEARD


def test_a_replay_at_another_provider_is_nobodys(http: TestClient, scene: Scene) -> None:
    body = event()
    for provider in ("stripe", "creem", "SANDBOX", "sandbox%20", "..%2Fsandbox", "x" * 3000):
        assert_error(
            http.post(f"/api/webhooks/{provider}", content=body, headers=signed(scene, body)), 404, "not_found"
        )
    assert_error(http.get(URL), 405, "method_not_allowed")
    assert scene.count("payment_event") == 0


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"{}",
        b"not json",
        b"\xff\xfe",
        event(data=None),
        event(created="now"),
        event(created=1e300),
        event(created=float("nan")),
        event(type=None),
        event(type=["checkout.completed"]),
        event(id="x" * 5000),
        event(id="a\0b"),
        event(type="x" * 5000),
        event(checkout="a\0b"),
        event(checkout="x" * 5000),
    ],
    ids=range(16),
)
def test_a_signed_event_in_an_odd_shape_is_refused_or_ignored_and_never_a_500(
    http: TestClient, scene: Scene, body: bytes
) -> None:
    answer = http.post(URL, content=body, headers=signed(scene, body))
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert_error(answer, 400)
        assert scene.count("payment_event") == 0


def test_types_nobody_knows_are_stored_and_do_no_harm(http: TestClient, scene: Scene) -> None:
    for kind in ("invoice.created", "x", "customer.subscription.paused", "😀"):
        body = event(kind, checkout=None)
        assert http.post(URL, content=body, headers=signed(scene, body)).status_code == 200
    assert scene.count("payment_event", "kind = 'other' AND state = 'received'") == 4


def test_an_event_that_overtakes_our_own_reference_is_kept(http: TestClient, scene: Scene) -> None:
    """The vendor tells of a checkout before its answer to us is stored."""
    begun = scene.sign_up()
    reference = scene.reference(begun)
    with scene.ctx.db.tx() as db:
        checkouts.get(db, begun.checkout.id).reference = None
    scene.vendor.complete(reference, "paid")
    for headers, body in scene.vendor.unseen(begun.checkout.created_at):
        assert http.post(URL, content=body, headers=headers).status_code == 200
    assert scene.count("payment_event", "state = 'received'") == 3
    assert scene.instance(begun.instance.id).state == "pending"
    assert checkout.page_for(scene.ctx, begun.checkout.id).reference == reference
    assert scene.settle(begun) == "paid"
    assert scene.instance(begun.instance.id).state == "provisioning"


def test_three_hundred_deliveries_of_sixty_events_have_sixty_effects(http: TestClient, scene: Scene) -> None:
    begun = [scene.sign_up(f"c{number}@example.com") for number in range(20)]
    for one in begun:
        scene.vendor.complete(scene.reference(one), "paid")
    events = scene.vendor.unseen(begun[0].checkout.created_at)
    assert len(events) == 60
    deliveries = [(headers, body) for headers, body in events for _ in range(5)]
    random.Random(7).shuffle(deliveries)
    before = scene.count("workflow_status")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda sent: http.post(URL, headers=sent[0], content=sent[1]), deliveries))
    assert [answer.status_code for answer in answers] == [200] * 300
    assert sum(not answer.json()["duplicate"] for answer in answers) == 60
    assert scene.count("payment_event") == 60
    assert scene.count("workflow_status") == before + 60
    for one in begun * 3:
        assert scene.settle(one) == "paid"
    assert scene.count("receipt") == scene.count("subscription", "state = 'active'") == 20
    assert scene.count("operation", "kind = 'provision'") == 20
    assert scene.count("notice", "kind = 'receipt'") == 20
    with scene.ctx.db.read() as db:
        assert check_books(db) == []
