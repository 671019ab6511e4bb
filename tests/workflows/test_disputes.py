"""The operator hears of each dispute, each verdict and each payment that went back, once."""

from __future__ import annotations

from clawhaven.billing import checkouts
from clawhaven.workflows import disputes
from tests.workflows.scene import Scene


def test_each_turn_is_told_once(scene: Scene) -> None:
    begun = scene.live()
    assert begun.checkout
    for refunded, verdict in ((0, None), (5, None), (0, "open"), (0, "open"), (0, "won"), (29_000_000, None)):
        with scene.ctx.db.tx() as db:
            (receipt,) = checkouts.receipts_of(db, begun.checkout.id)
            receipt.dispute, receipt.refunded_micros = verdict, refunded
            db.flush()
            for _ in range(2):
                disputes.alert(db, scene.ctx, [receipt])
    assert scene.count("notice", "kind = 'alert'") == 3
    assert scene.count("notice", f"recipient = '{scene.ctx.settings.support_address}'") == 3
