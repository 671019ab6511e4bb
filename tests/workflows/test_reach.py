"""A channel is tried: what its network says, what the gateway says."""

from __future__ import annotations

import pytest

from clawhaven.core.errors import NotFound
from clawhaven.instances import connections
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows.reach import Reach, try_channel
from tests.workflows.scene import Scene


def test_both_ends_are_asked(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = scene.live()
    who = begun.owner.account.id

    def tried() -> Reach:
        return try_channel(scene.ctx, begun.instance.id, who, "telegram")

    with pytest.raises(NotFound):
        tried()
    scene.connected(begun)
    assert tried() == Reach("good", "waiting", "")
    with scene.ctx.db.tx() as db:
        (one,) = connections.list_connections(db, begun.instance.id)
        connections.claim(db, one.id, "7", "ada_t", scene.ctx.clock.now())
    assert tried().is_good
    with pytest.raises(NotFound):
        try_channel(scene.ctx, begun.instance.id, "acc_stranger", "telegram")
    (scene.world.root / "DOWN").touch()
    assert tried() == Reach("good", "silent", "")
    (scene.world.root / "DOWN").unlink()
    (scene.world.root / begun.instance.id / "RUNNING").unlink()
    assert tried() == Reach("good", "silent", "")

    def refuse(_credentials: object) -> None:
        raise ProviderError("unknown token", permanent=True, code="invalid_bot_token")

    monkeypatch.setattr(scene.telegram, "probe", refuse)
    assert tried().network == "refused"
