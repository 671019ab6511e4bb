"""Installing Node and OpenClaw: once, whole, by whoever comes first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import psutil
import pytest

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.runtimes import toolchain, validation
from tests.live.openclaw import free_port, settings_for

VERSION = toolchain.locked_version()
INSTALL = (
    "import sys; from pathlib import Path; from clawhaven.providers.runtimes.toolchain import install;"
    "print(install(Path(sys.argv[1]), sys.argv[2]).entry)"
)
ROOT = Path(__file__).resolve().parents[3]


def test_the_lock_pins_the_version_of_the_settings_and_names_no_address() -> None:
    assert Settings.model_fields["openclaw_version"].default == VERSION
    lock = files("clawhaven.providers.runtimes").joinpath("openclaw", "package-lock.json").read_text()
    packages = json.loads(lock)["packages"]
    assert all("resolved" not in package for package in packages.values())
    loaded = [package for path, package in packages.items() if path and not package.get("inBundle")]
    assert len(loaded) > 300
    assert all(package["integrity"].startswith("sha512-") for package in loaded)
    scripts = {path.rpartition("node_modules/")[2] for path, one in packages.items() if one.get("hasInstallScript")}
    judged = json.loads(files("clawhaven.providers.runtimes").joinpath("openclaw", "package.json").read_text())
    assert scripts == set(judged["allowScripts"])
    assert [name for name, is_allowed in judged["allowScripts"].items() if is_allowed] == ["openclaw"]


def test_nothing_is_found_in_an_empty_cache(tmp_path: Path) -> None:
    assert toolchain.find(tmp_path / "none", VERSION) is None


def test_another_version_than_the_locked_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProviderError) as caught:
        toolchain.install(tmp_path, "2020.1.1")
    assert (caught.value.code, caught.value.permanent) == ("unknown_version", True)


def test_a_registry_out_of_reach_is_said_and_nothing_half_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{free_port()}/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(ProviderError) as caught:
        toolchain.install(tmp_path, VERSION)
    assert (caught.value.code, caught.value.permanent) == ("npm_unreachable", False)
    assert toolchain.find(tmp_path, VERSION) is None
    assert not list(tmp_path.glob("openclaw-*"))


def test_too_little_room_is_said_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "NEEDED_BYTES", 2**62)
    with pytest.raises(ProviderError) as caught:
        toolchain.install(tmp_path, VERSION)
    assert caught.value.code == "disk_full"


@pytest.mark.live
def test_two_at_once_after_one_was_killed_make_one_installation(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    argv = [sys.executable, "-c", INSTALL, str(cache), VERSION]
    first = subprocess.Popen(argv, cwd=ROOT, start_new_session=True)
    while not list(cache.glob("openclaw-*.partial-*/package-lock.json")):
        assert first.poll() is None
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    both = [subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=280)[0].strip() for one in both]
    found = toolchain.find(cache, VERSION)
    assert found is not None
    assert said == [str(found.entry)] * 2
    assert not list(cache.glob("*.partial-*"))
    assert not (cache / "npm").exists()
    version = subprocess.run([found.node, found.entry, "--version"], capture_output=True, text=True, check=True).stdout
    assert VERSION in version


@pytest.mark.live
def test_openclaw_itself_judges_what_we_would_write(tmp_path: Path) -> None:
    from clawhaven.instances.config import build_config, secret_ref
    from clawhaven.providers.runtimes.process import Process

    settings = settings_for(tmp_path)
    runtime = Process(Process.Options(), settings)
    layout = runtime.layout("ins_1", 30000)
    telegram = {"enabled": True, "botToken": secret_ref("/telegram/botToken"), "dmPolicy": "pairing"}
    for api in ("anthropic-messages", "openai-completions", "openai-responses"):
        config = build_config(
            layout,
            name="Ada",
            instance_id="ins_1",
            model="m",
            model_api=api,
            max_output_tokens=100,
            context_window=1000,
            origins=["https://a.example.com"],
            channels={"telegram": telegram},
            owners=["telegram:7"],
            emoji="🦀",
            thinking="low",
        )
        assert runtime.validate(config) == []
    problems = runtime.validate(config.replace('"local"', '"nonsense"').replace('"dmScope"', '"scopeOfDms"'))
    assert any(problem.startswith("gateway.mode: ") for problem in problems)
    assert any("scopeOfDms" in problem for problem in problems)
    assert runtime.validate("not json at all") != []


def test_a_command_of_a_background_thread_ends_with_us(tmp_path: Path) -> None:
    program = (
        "import sys, threading, time; from pathlib import Path; from clawhaven.providers.runtimes.toolchain import run;"
        "argv = ['sh', '-c', 'echo $$ > pid.new; mv pid.new pid; sleep 600'];"
        "args = dict(env={'PATH': '/usr/bin:/bin'}, cwd=Path(sys.argv[1]), timeout=600);"
        "threading.Thread(target=run, args=(argv,), kwargs=args, daemon=True).start();"
        "noted = Path(sys.argv[1]) / 'pid'\nwhile not noted.exists(): time.sleep(0.02)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, timeout=60, check=True)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)


@pytest.mark.live
def test_many_who_ask_about_the_same_text_at_once_are_one_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path)
    tools = toolchain.install(settings.cache_dir, VERSION)
    asked: list[str] = []
    honest = validation._ask

    def ask(tools: toolchain.Toolchain, config: str, cache_dir: Path) -> list[str]:
        asked.append(config)
        return honest(tools, config, cache_dir)

    monkeypatch.setattr(validation, "_ask", ask)
    text = json.dumps({"gateway": {"mode": "nonsense"}})
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: validation.validate(tools, text, tmp_path / "cache"), range(4)))
    assert asked == [text]
    assert said == [said[0]] * 4
    assert "gateway.mode" in said[0][0]
