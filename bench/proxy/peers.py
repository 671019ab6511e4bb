"""Other gateways: Portkey (npm) and LiteLLM (Python), installed into a folder of their own by `--install`.

Nothing of them is part of the product or its lock files. What is not there is reported as missing, with its reason.
Portkey runs as it comes, without accounts or a database. LiteLLM runs with a key and a budget for each instance in
PostgreSQL, and once more without a database (one master key, no budgets), which needs less to be installed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from bench.proxy import machine
from bench.proxy.subjects import INSTANCES, Missing, Setup, Target

INSTALL_SECONDS = 1200
PORTKEY = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    # Streams of Portkey 1.15.2 end with "TypeError: immutable" on newer ones.
    "overrides": {"@hono/node-server": "1.13.8"},
}
LITELLM = ("litellm[proxy]", "prisma")
ENGINE = {
    "private": True,
    "dependencies": {"@prisma/client": "5.17.0", "@prisma/adapter-pg": "5.17.0", "pg": "8", "graphql": "16"},
}
"""What prisma_engine.js needs: the engine that LiteLLM's Prisma expects, compiled to WebAssembly."""

MASTER_KEY = "sk-bench-master"
BUDGET_DOLLARS = 1_000_000
WORKERS = 1
"""LiteLLM's own default. Its figures of CPU for each request do not depend on it."""


def install(cache: Path, say: Callable[[str], None]) -> None:
    """Fetch both; what fails is said and stays missing."""
    for name, put in (("portkey", _install_portkey), ("litellm", _install_litellm)):
        folder = cache / name
        folder.mkdir(parents=True, exist_ok=True)
        say(f"installing {name} into {folder} …")
        try:
            put(folder)
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or b""
            say(f"{name} could not be installed: {error}\n{output.decode(errors='replace')[-800:]}")


def versions(cache: Path) -> dict[str, str]:
    """Name -> version of what is installed."""
    found = {}
    for path in (cache / "portkey").glob("node_modules/@portkey-ai/gateway/package.json"):
        found["portkey"] = str(json.loads(path.read_text())["version"])
    for path in (cache / "litellm").glob("lib/python3.*/site-packages/litellm-*.dist-info"):
        note = ", Prisma's engine as WebAssembly" if _engine(cache / "litellm").exists() else ""
        found["litellm"] = path.name.removeprefix("litellm-").removesuffix(".dist-info") + note
    return found


@contextlib.contextmanager
def portkey(setup: Setup) -> Iterator[Target]:
    """Portkey's gateway: the provider and its address come with every request."""
    entry = setup.cache / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    node = shutil.which("node")
    if node is None or not entry.exists():
        raise Missing("Portkey; needs Node.js, then: python -m bench proxy --install")
    port, log = machine.free_port(), setup.folder / "portkey.log"
    env = {**_environment(), "TRUSTED_CUSTOM_HOSTS": "127.0.0.1", "NODE_ENV": "production"}
    with machine.running([node, str(entry), f"--port={port}", "--headless"], log=log, env=env) as pid:
        machine.wait_until_answering(port, "/", pid, log)
        headers = {
            "authorization": "Bearer sk-bench",
            "x-portkey-provider": setup.dialect,
            "x-portkey-custom-host": f"http://127.0.0.1:{setup.stub_port}/v1",
        }
        yield Target("portkey", port, "bench", [headers], gateway=[pid])


@contextlib.contextmanager
def litellm(setup: Setup) -> Iterator[Target]:
    """LiteLLM's proxy with a key and a budget for each instance; PostgreSQL with its defaults."""
    packages = setup.cache / "litellm"
    if not any(packages.glob("lib/python3.*/site-packages/prisma/client.py")):
        raise Missing("LiteLLM with its database client, Prisma; install it with: python -m bench proxy --install")
    if not machine.has_postgres():
        raise Missing("PostgreSQL's server; install it with: apt-get install postgresql")
    server = setup.folder / "postgresql-litellm"
    shutil.rmtree(server, ignore_errors=True)
    with machine.postgres(server) as (url, database):
        if _engine(packages).exists():
            _make_tables(packages, url)
        with _running_litellm(setup, url) as (port, pid):
            keys = [_ask_for_key(port, number) for number in range(INSTANCES)]
            headers = [{"authorization": f"Bearer {key}"} for key in keys]
            yield Target("litellm", port, "bench", headers, gateway=[pid], database=[database])


@contextlib.contextmanager
def litellm_without_database(setup: Setup) -> Iterator[Target]:
    """LiteLLM's proxy with nothing but its master key: no instances, no budgets, no record of what was used."""
    with _running_litellm(setup, None) as (port, pid):
        yield Target("litellm-bare", port, "bench", [{"authorization": f"Bearer {MASTER_KEY}"}], gateway=[pid])


@contextlib.contextmanager
def _running_litellm(setup: Setup, database_url: str | None) -> Iterator[tuple[int, int]]:
    binaries = setup.cache / "litellm" / "bin"
    if not (binaries / "litellm").exists():
        raise Missing("LiteLLM; install it with: python -m bench proxy --install")
    folder, port = setup.folder / "litellm", machine.free_port()
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(json.dumps(_litellm_config(setup, database_url)))  # YAML is JSON's superset
    env = {
        **_environment(),
        **_prisma_environment(setup.cache / "litellm"),
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        **({"DATABASE_URL": database_url} if database_url else {}),
        **({"DISABLE_SCHEMA_UPDATE": "True"} if _engine(setup.cache / "litellm").exists() else {}),
    }
    command = [str(binaries / "litellm"), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", str(WORKERS)]
    with machine.running(command, log=folder / "log", env=env, cwd=folder) as pid:
        machine.wait_until_answering(port, "/health/liveliness", pid, folder / "log")
        yield port, pid


def _litellm_config(setup: Setup, database_url: str | None) -> dict[str, Any]:
    base = f"http://127.0.0.1:{setup.stub_port}" + ("/v1" if setup.dialect == "openai" else "")
    model = {
        "model": f"{setup.dialect}/bench",
        "api_base": base,
        "api_key": "sk-bench",
        "input_cost_per_token": 0.000002,
        "output_cost_per_token": 0.00001,
    }
    return {
        "model_list": [{"model_name": "bench", "litellm_params": model}],
        "litellm_settings": {"telemetry": False, "num_retries": 0},
        "general_settings": {"master_key": MASTER_KEY, **({"database_url": database_url} if database_url else {})},
    }


def _ask_for_key(port: int, number: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    asked = {"max_budget": BUDGET_DOLLARS, "key_alias": f"bench-{number}", "models": ["bench"]}
    headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
    connection.request("POST", "/key/generate", json.dumps(asked), headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"LiteLLM gave no key: {answer.status} {body[:300]!r}")
    return str(json.loads(body)["key"])


def _install_portkey(folder: Path) -> None:
    (folder / "package.json").write_text(json.dumps(PORTKEY))
    npm = shutil.which("npm") or "npm"
    _run([npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts"], folder)


def _install_litellm(folder: Path) -> None:
    python = folder / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(folder)], folder)
    _run([str(python), "-m", "pip", "install", "--quiet", *LITELLM], folder)
    schema = next(folder.glob("lib/python3.*/site-packages/litellm/proxy/schema.prisma"))
    shutil.rmtree(_engine(folder).parent, ignore_errors=True)
    command = [str(folder / "bin" / "prisma"), "generate", "--schema", str(schema)]
    try:
        _run(command, folder, _prisma_environment(folder))
    except subprocess.CalledProcessError:  # the native engine cannot be fetched
        _install_engine(_engine(folder))
        _run(command, folder, _prisma_environment(folder))


def _engine(folder: Path) -> Path:
    """Where the stand-in for Prisma's native engine is, when it was needed."""
    return folder / "engine" / "query-engine"


def _install_engine(engine: Path) -> None:
    engine.parent.mkdir()
    (engine.parent / "package.json").write_text(json.dumps(ENGINE))
    npm = shutil.which("npm") or "npm"
    _run([npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"], engine.parent)
    shutil.copy(Path(__file__).with_name("prisma_engine.js"), engine)
    engine.chmod(0o755)


def _make_tables(packages: Path, url: str) -> None:
    """LiteLLM's own migrations, in their order; Prisma's command line needs its native engine for that."""
    with psycopg.connect(url, autocommit=True) as connection:
        for step in sorted(
            packages.glob("lib/python3.*/site-packages/litellm_proxy_extras/migrations/*/migration.sql")
        ):
            connection.execute(step.read_bytes())


def _prisma_environment(folder: Path) -> dict[str, str]:
    """Its command line on the path, and its Node programs and engines inside the folder."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    found = {"PATH": path, "PRISMA_HOME_DIR": str(folder / "prisma"), "XDG_CACHE_HOME": str(folder / "cache")}
    if _engine(folder).exists():
        found |= dict.fromkeys(("PRISMA_QUERY_ENGINE_BINARY", "PRISMA_SCHEMA_ENGINE_BINARY"), str(_engine(folder)))
    return found


def _environment() -> dict[str, str]:
    """This process's, without anything that looks like a secret."""
    return {name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_SECRET", "_TOKEN"))}


def _run(command: Sequence[str], folder: Path, extra: Mapping[str, str] | None = None) -> None:
    env = {**_environment(), **(extra or {})}
    subprocess.run(command, check=True, cwd=folder, env=env, capture_output=True, timeout=INSTALL_SECONDS)
