"""Revocations whose workflow broke: the reconciler goes on with them."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven.integrations import connected
from clawhaven.workflows import engine, integrations
from tests.fakes.google_server import GoogleServer
from tests.workflows.scene import Scene
from tests.workflows.test_integrations import ACTOR, come_back, google, hurry, scene

__all__ = ["google", "scene"]


def test_a_revocation_whose_workflow_broke_is_asked_for_again(scene: Scene, google: GoogleServer) -> None:
    ada, ctx = scene.live(), scene.ctx
    come_back(scene, google, ada.instance.account_id)
    with ctx.db.tx() as db:
        integrations.disconnect(db, ctx, ada.instance.account_id, "google", ACTOR)
        [waiting] = connected.revocations_of(db, ada.instance.account_id)
    assert integrations.resume_revocations(ctx) == [], "it is on its way"
    ctx.clock.advance(integrations.LOST_AFTER + timedelta(seconds=1))
    assert integrations.resume_revocations(ctx) == [], "its workflow waits for a worker"
    with ctx.db.tx() as db:
        table = "workflow_status" if ctx.db.is_sqlite else "dbos.workflow_status"
        db.execute(sa.text(f"UPDATE {table} SET status = 'ERROR'"))
    assert integrations.resume_revocations(ctx) == [waiting.id]
    assert integrations.resume_revocations(ctx) == []
    with engine.running(ctx):
        scene.wait(lambda: scene.count("integration_revocation") == 0)
    assert [one.is_dead for one in google.permissions] == [True]


def test_what_was_asked_for_again_goes_on_though_the_vendor_is_away(
    scene: Scene, google: GoogleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    ada, ctx = scene.live(), scene.ctx
    come_back(scene, google, ada.instance.account_id)
    with ctx.db.tx() as db:
        integrations.disconnect(db, ctx, ada.instance.account_id, "google", ACTOR)
    google.is_down = True
    with engine.running(ctx):
        scene.wait(lambda: len(google.called("/revoke")) > 3)
    with ctx.db.tx() as db:
        table = "workflow_status" if ctx.db.is_sqlite else "dbos.workflow_status"
        db.execute(sa.text(f"UPDATE {table} SET status = 'ERROR'"))
    ctx.clock.advance(integrations.LOST_AFTER + timedelta(seconds=1))
    assert len(integrations.resume_revocations(ctx)) == 1
    before = len(google.called("/revoke"))
    with engine.running(ctx):
        scene.wait(lambda: len(google.called("/revoke")) > before + 3)
