"""What is done before the first customer comes is what the first customer would have waited for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

import pytest

from clawhaven import wiring
from clawhaven.context import Context
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File, Layout
from clawhaven.workflows import files, preparation
from tests.fakes.world import FolderRuntime
from tests.workflows.scene import Scene

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class AskedRuntime(FolderRuntime):
    """Remembers the configurations it was asked about; its paths hold the id, as the real ones do."""

    asked: list[str]
    rehearsed: dict[str, str]
    memory_bytes: int
    verdict: list[str]

    def layout(self, instance_id: str, port: int) -> Layout:
        root = f"/cells/{instance_id}"
        secrets, workspace = f"{root}/secrets.json", f"{root}/workspace"
        return Layout(f"{root}/state", secrets, workspace, port, "http://127.0.0.1:1/proxy", "loopback")

    def warm_up(self, files_for: Callable[[Layout], Sequence[File]], memory_bytes: int) -> None:
        self.rehearsed = {file.path: file.content for file in files_for(self.layout("rehearsal", 4711))}
        self.memory_bytes = memory_bytes
        if self.fault("DISK_FULL"):
            raise OSError("no space left on device")

    def validate(self, config: str) -> list[str]:
        self.asked.append(config)
        return self.verdict


@pytest.fixture
def runtime(scene: Scene) -> AskedRuntime:
    made = AskedRuntime(scene.world.root)
    made.asked, made.verdict = [], []
    return made


@pytest.fixture
def ctx(scene: Scene, runtime: AskedRuntime) -> Context:
    return dataclasses.replace(scene.ctx, runtimes={"folder": wiring.Guarded(runtime)})


@pytest.mark.parametrize("token", [None, "123456789:" + "A" * 35], ids=["alone", "with a bot not claimed yet"])
def test_the_first_customers_check_is_made_ahead_to_the_letter(
    scene: Scene, ctx: Context, runtime: AskedRuntime, token: str | None
) -> None:
    preparation.prepare(ctx, "folder")
    begun = scene.sign_up(assistant_name="Grace", custom_instructions="Be brief.", token=token)
    instance, channels = files.load(ctx, begun.instance.id)
    layout = ctx.runtime("folder").layout(instance.id, 20_017)
    files.check_config(ctx, instance, files.render_config(ctx, instance, channels, layout))
    ahead, asked = runtime.asked
    assert ahead == asked
    assert "Grace" not in asked
    assert instance.id not in asked
    assert json.loads(asked)["agents"]["defaults"]["model"]["primary"].endswith(instance.model)


def test_software_that_cannot_be_had_is_an_error(ctx: Context, runtime: AskedRuntime) -> None:
    (runtime.root / "NPM_DOWN").touch()
    with pytest.raises(ProviderError) as caught:
        preparation.prepare(ctx, "folder")
    assert caught.value.code == "npm_unreachable"
    assert runtime.asked == []


def test_a_refused_configuration_stops_nothing_ahead_and_everything_later(
    scene: Scene, ctx: Context, runtime: AskedRuntime
) -> None:
    runtime.verdict = ["gateway.port: too high"]
    preparation.prepare(ctx, "folder")
    instance, channels = files.load(ctx, scene.sign_up().instance.id)
    text = files.render_config(ctx, instance, channels, ctx.runtime("folder").layout(instance.id, 20_017))
    with pytest.raises(ProviderError) as caught:
        files.check_config(ctx, instance, text)
    assert (caught.value.code, caught.value.permanent) == ("config_invalid", True)


def test_a_rehearsal_gets_what_an_assistant_gets_with_secrets_that_open_nothing(
    scene: Scene, ctx: Context, runtime: AskedRuntime
) -> None:
    (runtime.root / "DISK_FULL").touch()
    preparation.prepare(ctx, "folder")
    assert runtime.memory_bytes == ctx.settings.instance_memory_mb * 1024**2
    assert set(runtime.rehearsed) == {files.CONFIG, files.SECRETS}
    tree = json.loads(runtime.rehearsed[files.CONFIG])
    assert tree["gateway"]["port"] == 4711
    assert tree["agents"]["defaults"]["workspace"] == "/cells/rehearsal/workspace"
    before = runtime.rehearsed[files.SECRETS]
    preparation.prepare(ctx, "folder")
    assert runtime.rehearsed[files.SECRETS] != before, "made up each time"
    assert scene.count("model_grant") == 0


def test_without_any_model_there_is_nothing_to_check(ctx: Context, runtime: AskedRuntime) -> None:
    preparation.prepare(dataclasses.replace(ctx, upstreams={}), "folder")
    assert runtime.asked == []


def test_one_runtime_that_fails_keeps_no_other_from_being_prepared(
    scene: Scene, ctx: Context, runtime: AskedRuntime
) -> None:
    broken = FolderRuntime(scene.world.root.parent / "broken")
    (broken.root / "NPM_DOWN").touch()
    both = dataclasses.replace(ctx, runtimes={"broken": wiring.Guarded(broken), "folder": wiring.Guarded(runtime)})
    thread = preparation.begin(both)
    thread.join(30)
    assert not thread.is_alive()
    assert thread.daemon
    assert len(runtime.asked) == 1
