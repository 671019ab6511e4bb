"""How large an assistant is: its plan decides, or the operator's settings where the plan is silent."""

from __future__ import annotations

import dataclasses

import pytest

from clawhaven.billing.plans import Catalogue
from clawhaven.instances import operations
from clawhaven.ports.runtime import Placement, Spec
from clawhaven.wiring import Guarded
from clawhaven.workflows import attempts, engine, provision
from tests.fakes.world import FolderRuntime
from tests.workflows.scene import Scene


class MeasuringRuntime(FolderRuntime):
    """Remembers how large each gateway was to be."""

    def __init__(self, root: FolderRuntime) -> None:
        super().__init__(root.root)
        self.sizes: list[tuple[int, float]] = []

    def create(self, spec: Spec) -> Placement:
        self.sizes.append((spec.memory_bytes // 1024**2, spec.cpus))
        return super().create(spec)


@pytest.mark.parametrize(
    ("memory_mb", "cpus", "size"), [(0, 0, (2048, 2.0)), (4096, 0, (4096, 2.0)), (1536, 0.5, (1536, 0.5))]
)
def test_the_plan_decides_memory_and_processors(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, memory_mb: int, cpus: float, size: tuple[int, float]
) -> None:
    measuring = MeasuringRuntime(scene.world)
    plans = {plan.id: dataclasses.replace(plan, memory_mb=memory_mb, cpus=cpus) for plan in scene.ctx.plans}
    ctx = dataclasses.replace(scene.ctx, plans=Catalogue(plans), runtimes={"folder": Guarded(measuring)})
    monkeypatch.setattr(engine, "_context", ctx)
    attempts.stopping.clear()
    begun = scene.sign_up()
    scene.pay(begun)
    with ctx.db.read() as db:
        operation = operations.latest(db, begun.instance.id, "provision")
    assert operation is not None
    port = provision.reserve_place(begun.instance.id, operation.id)
    provision.start_gateway(begun.instance.id, operation.id, port)
    assert measuring.sizes == [size]
