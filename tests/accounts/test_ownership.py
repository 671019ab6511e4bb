"""The one ownership check."""

from __future__ import annotations

import pytest

from clawhaven.accounts.ownership import owned
from clawhaven.billing.models import Checkout
from clawhaven.core.errors import NotFound
from clawhaven.instances.models import Instance
from tests.workflows.scene import Scene


def test_a_stranger_and_a_missing_id_are_the_same(scene: Scene) -> None:
    ada, eve = scene.sign_up("ada@example.com"), scene.sign_up("eve@example.com")
    told = set()
    with scene.ctx.db.read() as db:
        assert owned(db, Instance, ada.instance.id, ada.owner.account.id).id == ada.instance.id
        assert owned(db, Checkout, ada.checkout.id, ada.owner.account.id).id == ada.checkout.id
        for table, row_id in ((Instance, ada.instance.id), (Checkout, ada.checkout.id), (Instance, "ins_x")):
            for account in (eve.owner.account.id, "", "acc_x", f"{ada.owner.account.id} "):
                with pytest.raises(NotFound) as caught:
                    owned(db, table, row_id, account)
                told.add(str(caught.value.as_json()))
        with pytest.raises(NotFound):
            owned(db, Instance, ada.checkout.id, ada.owner.account.id)
    assert len(told) == 1
