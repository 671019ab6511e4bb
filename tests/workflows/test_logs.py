"""Looking at an assistant's log, and at what has come since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clawhaven.core.errors import Unavailable
from clawhaven.instances import logbook
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import logs
from tests.workflows.scene import Scene


def write(scene: Scene, path: Path, *words: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as log:
        for word in words:
            log.write(json.dumps({"time": scene.ctx.clock.now().isoformat(), "message": word}) + "\n")


def test_each_look_goes_on_where_the_last_one_ended(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = scene.live()
    instance = scene.instance(begun.instance.id)
    path = scene.world.root / instance.id / logbook.PATH

    def look(position: int | None = None, **asked: object) -> tuple[list[str], int]:
        found = logs.read(scene.ctx, instance, position=position, **asked)  # type: ignore[arg-type]
        return [entry.text for entry in found.entries], found.position

    assert look() == (["folder gateway: nothing to say"], 1)  # printed, while it has no log of its own
    assert look(1) == ([], 1)
    write(scene, path, "one", "two", "three")
    with path.open("a") as log:
        log.write('{"message": "half a li')
    texts, position = look()
    assert texts == ["one", "two", "three"]
    assert look(most=2)[0] == ["two", "three"]
    assert look(words="TWO")[0] == ["two"]
    with path.open("a") as log:
        log.write('ne"}\n')
    assert look(position)[0] == ["half a line"]
    path.unlink()
    write(scene, path, "after it was begun anew")
    assert look(position)[0] == ["after it was begun anew"]

    def silent(*_: object) -> str:
        raise ProviderError("no answer", code="docker_down")

    monkeypatch.setattr(scene.world, "read", silent)
    with pytest.raises(Unavailable):
        look()
    instance.placement = None
    assert look() == ([], 0)
