"""Comparing the money when asked: by a workflow, look by look, once; the doors read what was kept."""

from __future__ import annotations

from datetime import timedelta

import pytest

from clawhaven.billing import comparisons
from clawhaven.core.errors import Conflict
from clawhaven.workflows import comparing, engine, money, vendors
from clawhaven.workflows.vendors import Difference
from tests.workflows.scene import Scene


def paid_unseen(scene: Scene) -> None:
    """A payment that we have not heard of."""
    scene.vendor.complete(scene.reference(scene.sign_up()), "paid")
    scene.ctx.clock.advance(timedelta(hours=1))


def run(scene: Scene, *, is_repair: bool) -> comparing.Shown:
    with scene.ctx.db.tx() as db:
        comparing.ask(db, scene.ctx, "user:boss", is_repair=is_repair)
    with engine.running(scene.ctx):
        scene.wait(lambda: scene.count("comparison", "ended_at IS NULL") == 0)
    with scene.ctx.db.read() as db:
        return comparing.show(db, scene.ctx)


def test_looked_at_then_repaired(scene: Scene) -> None:
    paid_unseen(scene)
    seen = run(scene, is_repair=False)
    assert [one.is_safe for one in seen.found] == [True] * len(seen.found) != []
    assert scene.count("workflow_status", "workflow_uuid LIKE 'settle:%'") == 0
    assert seen.last is not None
    assert (seen.last.done, seen.under_way) == (len(money.LOOKS), None)
    done = run(scene, is_repair=True)
    assert {one.repair for one in done.found} == {"the vendor is asked, and what it says is settled"}
    assert scene.count("workflow_status", "workflow_uuid LIKE 'settle:%'") >= 1
    assert scene.count("audit_log", "action = 'money.compare'") == 2


def test_asked_twice_is_one_and_a_repair_waits(scene: Scene) -> None:
    with scene.ctx.db.tx() as db:
        first = comparing.ask(db, scene.ctx, "user:boss", is_repair=False)
        assert comparing.ask(db, scene.ctx, "user:boss", is_repair=False).id == first.id
        with pytest.raises(Conflict):
            comparing.ask(db, scene.ctx, "user:boss", is_repair=True)
    assert scene.count("workflow_status", "name = 'compare_on_demand'") == 1


def test_a_look_that_breaks_is_a_difference_and_a_vendor_away_is_one_line(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_ctx: object) -> list[Difference]:
        return [Difference("sandbox", "does not answer", vendors.AWAY)]

    def broken(_ctx: object) -> list[Difference]:
        raise ZeroDivisionError

    monkeypatch.setattr(comparing, "LOOKS", {"first": away, "second": broken, "third": away})
    seen = run(scene, is_repair=False)
    assert [(one.subject, one.problem) for one in seen.found] == [
        ("sandbox", "does not answer"),
        ("broken", "this look broke"),
    ]


def test_the_nightly_one_is_kept_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    paid_unseen(scene)
    monkeypatch.setattr(engine, "_context", scene.ctx)
    money.compare_money()
    with scene.ctx.db.read() as db:
        row = comparisons.newest(db)
        assert row is not None
        assert (row.asked_by, row.is_repair) == (money.ACTOR, True)
        assert comparisons.found_by(row)
