"""A customer whose vendor says what the test wants, for the tests of dunning."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

from clawhaven.billing import checkouts, subscriptions
from clawhaven.billing.models import Dunning, Subscription
from clawhaven.core.ids import new_id
from clawhaven.instances import operations, states
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason
from clawhaven.notices import outbox
from clawhaven.notices.models import Notice
from clawhaven.ports.payments import VendorState
from clawhaven.workflows import dunning as trouble
from clawhaven.workflows import settlement
from clawhaven.workflows.checkout import Begun
from tests.workflows.scene import Scene

DAY = timedelta(days=1)


class Customer:
    """A paid assistant whose vendor says what the test wants."""

    def __init__(self, scene: Scene, begun: Begun | None = None, **changes: Any) -> None:
        self.scene = scene
        self.begun = begun or scene.live(f"{new_id('u')}@example.com", **changes)
        self.instance_id = self.begun.instance.id
        self.told = self.vendor_now()

    def vendor_now(self) -> VendorState:
        return self.scene.ctx.payments["sandbox"].fetch(self.scene.reference(self.begun))

    def vendor_says(self, state: str, **changes: Any) -> None:
        """Settle this, as after any event."""
        assert self.told.subscription
        assert self.begun.checkout
        seen = dataclasses.replace(
            self.told, subscription=dataclasses.replace(self.told.subscription, state=state, **changes)
        )
        with self.scene.ctx.db.tx() as db:
            settlement.equalise(db, self.scene.ctx, checkouts.get(db, self.begun.checkout.id), seen)

    def pass_days(self, days: float) -> None:
        """So much time passes; then the sweep comes, twice."""
        self.scene.ctx.clock.advance(days * DAY)
        trouble.sweep(self.scene.ctx)
        trouble.sweep(self.scene.ctx)

    @property
    def row(self) -> Instance:
        return self.scene.instance(self.instance_id)

    @property
    def reasons(self) -> list[Reason]:
        return states.reasons(self.row)

    @property
    def subscription(self) -> Subscription:
        assert self.begun.checkout
        with self.scene.ctx.db.read() as db:
            found = subscriptions.of_checkout(db, self.begun.checkout.id)
        assert found
        return found

    @property
    def episodes(self) -> list[Dunning]:
        with self.scene.ctx.db.read() as db:
            rows = db.query(Dunning).filter_by(subscription_id=self.subscription.id).order_by(Dunning.began_at)
            return list(rows)

    def letters(self) -> list[str]:
        """Kinds of what was written to them, receipts and the like left out, in order."""
        with self.scene.ctx.db.read() as db:
            rows = db.query(Notice).filter_by(account_id=self.begun.owner.account.id).order_by(Notice.created_at)
            return [row.kind for row in rows if row.kind not in ("receipt", "welcome", "ready", "sign_in")]

    def texts(self) -> list[tuple[str, str]]:
        """Kind and text of what was written to them since they live, in order."""
        with self.scene.ctx.db.read() as db:
            rows = db.query(Notice).filter_by(account_id=self.begun.owner.account.id).order_by(Notice.created_at)
            told = [(row.kind, self.scene.ctx.keys.open(row.sealed_text, outbox.PURPOSE)) for row in rows]
        return [(kind, text) for kind, text in told if kind not in ("receipt", "welcome", "ready", "sign_in")]

    def come_back(self) -> None:
        """What the resume workflow does at its end."""
        with self.scene.ctx.db.tx() as db:
            states.activate(db, self.instance_id, self.scene.ctx.clock.now())
            for one in operations.queued(db, self.instance_id):
                operations.close(db, one.id, self.scene.ctx.clock.now())
