"""One customer per account and vendor."""

from __future__ import annotations

from clawhaven.billing import customers
from tests.workflows.scene import Scene


def test_the_first_customer_told_stays_and_belongs_to_one_account(scene: Scene) -> None:
    ada, eve = (scene.sign_up(f"{name}@example.com").owner.account.id for name in ("ada", "eve"))
    now = scene.ctx.clock.now()
    with scene.ctx.db.tx() as db:
        assert customers.find(db, ada, "stripe") is None
        customers.remember(db, ada, "stripe", "cus_1", now)
        customers.remember(db, ada, "stripe", "cus_2", now)
        customers.remember(db, eve, "stripe", "cus_1", now)
        customers.remember(db, ada, "creem", "cus_1", now)
    with scene.ctx.db.read() as db:
        assert (customers.find(db, ada, "stripe"), customers.find(db, ada, "creem")) == ("cus_1", "cus_1")
        assert customers.find(db, eve, "stripe") is None
        assert customers.account_of(db, "stripe", "cus_1") == ada
        assert customers.account_of(db, "stripe", "cus_2") is None
