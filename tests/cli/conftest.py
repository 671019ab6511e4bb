"""A contract server, and the command line run in this process against it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clawhaven.cli import main
from tests.cli.contract_server import KEY, ContractServer


@dataclass(frozen=True)
class Ran:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def server() -> Iterator[ContractServer]:
    """A fresh contract server."""
    running = ContractServer()
    yield running
    running.close()


@pytest.fixture
def config_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's configuration folder, empty; no setting of the machine leaks in."""
    home = tmp_path / "config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    for name in ("CLAWHAVEN_API_URL", "CLAWHAVEN_API_KEY", "CLAWHAVEN_TELEGRAM_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return home / "clawhaven"


@pytest.fixture
def bare(
    server: ContractServer, config_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command line against the server, signed in as nobody."""
    monkeypatch.setenv("CLAWHAVEN_API_URL", server.url)

    def run(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main.run(arguments)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def run(bare: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same with an API key in the environment."""
    monkeypatch.setenv("CLAWHAVEN_API_KEY", KEY)
    return bare
