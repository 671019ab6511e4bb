"""Watching a gateway boot: readiness is seen at once, and the watching leaves the machine to the boot."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from typing import Any

import pytest

from clawhaven import wiring
from clawhaven.context import Context
from clawhaven.core.errors import AppError
from clawhaven.instances.models import Instance
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import GatewayAddress
from clawhaven.ports.runtime import Health, Observation, Placement
from clawhaven.workflows import attempts, boot, engine
from tests.fakes.world import FolderGateway, FolderRuntime
from tests.workflows.scene import Scene

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ANSWERS_AFTER, STARTED_AFTER = 0.6, 1.5
"""Seconds, in the order of a real gateway's: it answers a while before it has started."""


class CountingGateway(FolderGateway):
    """Boots in real time after `began`, and counts what it is asked."""

    def __init__(self, world: FolderRuntime) -> None:
        super().__init__(world)
        self.began, self.asked = time.monotonic(), Counter[str]()
        self.is_strange = False

    @property
    def age(self) -> float:
        return time.monotonic() - self.began

    def has_started(self, address: GatewayAddress) -> bool | None:
        self.asked["has_started"] += 1
        return None if self.age < ANSWERS_AFTER else self.age >= STARTED_AFTER

    def health(self, address: GatewayAddress) -> Health:
        self.asked["health"] += 1
        if self.is_strange:
            return Health(True, True, False, problems={"gateway": "it does not know our token"})
        return Health(True, True, True, version="counted")


class ScriptedWorld:
    """The folders' runtime, whose observations can be given in advance. `looks` and `starts` count."""

    def __init__(self, world: FolderRuntime) -> None:
        self.world, self.script, self.looks, self.starts = world, list[Observation](), 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)

    def observe(self, placement: Placement, *, with_memory: bool = False) -> Observation:
        self.looks += 1
        assert not with_memory, "it costs a second"
        return self.script.pop(0) if self.script else self.world.observe(placement)

    def start(self, placement: Placement) -> None:
        self.starts += 1


@dataclasses.dataclass
class Booting:
    ctx: Context
    gateway: CountingGateway
    runtime: ScriptedWorld
    instance_id: str


@pytest.fixture
def booting(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Booting:
    begun = scene.live()
    gateway, runtime = CountingGateway(scene.world), ScriptedWorld(scene.world)
    ctx = dataclasses.replace(scene.ctx, gateway=wiring.Guarded(gateway), runtimes={"folder": wiring.Guarded(runtime)})
    monkeypatch.setattr(engine, "_context", ctx)
    attempts.stopping.clear()
    gateway.began = time.monotonic()
    return Booting(ctx, gateway, runtime, begun.instance.id)


def test_readiness_is_seen_at_once_with_few_and_cheap_questions(booting: Booting) -> None:
    assert boot.wait_ready(booting.ctx, booting.instance_id) == {"version": "counted"}
    late = booting.gateway.age - STARTED_AFTER
    assert 0 <= late < 0.5, "0.1 s on a machine that has time"
    assert booting.gateway.asked["health"] == 1, "the dear question is asked once, at the end"
    assert booting.gateway.asked["has_started"] <= 2 + ANSWERS_AFTER / 0.3 + (STARTED_AFTER - ANSWERS_AFTER) / 0.1
    assert booting.runtime.looks <= 2


def test_one_that_does_not_know_our_token_is_not_ready(booting: Booting) -> None:
    settings = booting.ctx.settings.model_copy(update={"start_timeout_seconds": 3})
    booting.gateway.is_strange = True
    with pytest.raises(ProviderError) as caught:
        boot.wait_ready(dataclasses.replace(booting.ctx, settings=settings), booting.instance_id)
    assert caught.value.code == "not_ready"
    assert "it does not know our token" in caught.value.message
    assert booting.gateway.asked["health"] <= 6


@pytest.mark.parametrize("exit_code", [78, None])
def test_one_that_starved_is_started_once_more(booting: Booting, exit_code: int | None) -> None:
    booting.runtime.script = [Observation("exited", exit_code=exit_code)]
    assert boot.wait_ready(booting.ctx, booting.instance_id) == {"version": "counted"}
    assert booting.runtime.starts == 1


@pytest.mark.parametrize(
    ("script", "code", "starts"),
    [
        ([Observation("exited", exit_code=78)] * 2, "gateway_exited", 1),
        ([Observation("exited", exit_code=1)], "gateway_exited", 0),
        ([Observation("absent"), Observation("stopped")], "gateway_exited", 1),
        ([Observation("running", "folder://x", oom_killed=True)], "out_of_memory", 0),
    ],
)
def test_one_that_is_gone_is_said(booting: Booting, script: list[Observation], code: str, starts: int) -> None:
    booting.runtime.script = list(script)
    with pytest.raises(ProviderError) as caught:
        boot.wait_ready(booting.ctx, booting.instance_id)
    assert (caught.value.code, caught.value.permanent, booting.runtime.starts) == (code, True, starts)


def test_a_wish_to_delete_ends_the_wait_soon(booting: Booting) -> None:
    booting.gateway.began += 60

    def wish() -> None:
        with booting.ctx.db.tx() as db:
            db.get_one(Instance, booting.instance_id).deletion_asked_at = booting.ctx.clock.now()

    timer = threading.Timer(0.3, wish)
    timer.start()
    began = time.monotonic()
    with pytest.raises(AppError) as caught:
        boot.wait_ready(booting.ctx, booting.instance_id)
    timer.join()
    assert caught.value.error_code == "cancelled"
    assert time.monotonic() - began < 5


def test_a_stop_of_our_own_interrupts_the_wait(booting: Booting) -> None:
    booting.gateway.began += 60
    threading.Timer(0.3, attempts.stopping.set).start()
    try:
        with pytest.raises(engine.Interrupted):
            boot.wait_ready(booting.ctx, booting.instance_id)
    finally:
        attempts.stopping.clear()
