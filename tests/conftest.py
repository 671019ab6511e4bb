"""Fixtures for everybody: settings in a temporary folder, a database of each kind, a clock that can be moved."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpcore2
import hypothesis
import psycopg
import pytest
import sqlalchemy.event
import structlog
from fastapi import routing
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache
from starlette.routing import BaseRoute

from clawhaven.core.clock import Clock
from clawhaven.core.db import Database, make_engine
from clawhaven.core.settings import Settings
from clawhaven.wiring import migrate
from clawhaven.workflows import attempts

# No deadlines on shared machines. In CI the examples are always the same: what lands does not hang on luck.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "shared")

# What costs tests most and shows them nothing: loading the system's authorities for every request (70 ms), and drawing
# tracebacks with coloured source and every variable (1 s).
httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

_build_route = routing._IncludedRouter._build_effective_context
_routes: dict[tuple[int, str], tuple[BaseRoute, Any]] = {}


def _built_once(included: routing._IncludedRouter, route: BaseRoute) -> Any:
    """What FastAPI works out about a route anew for every application (0.8 s for the API): ours change none of it."""
    key = id(route), included.include_context.prefix
    if key not in _routes:
        _routes[key] = route, _build_route(included, route)
    return _routes[key][1]


routing._IncludedRouter._build_effective_context = _built_once  # type: ignore[method-assign]

# One cache of compiled statements for every engine of this process: a fresh database needs no fresh SQL (a fifth of a
# test's CPU).
_statements: LRUCache[Any, Any] = LRUCache(10_000)
for _dialect in (SQLiteDialect_pysqlite, PGDialect_psycopg):
    _dialect.__eq__ = lambda one, other: type(one) is type(other)  # type: ignore[method-assign]
    _dialect.__hash__ = lambda one: hash(type(one))  # type: ignore[method-assign]


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "engine_connect")
def _share_statements(connection: sqlalchemy.Connection) -> None:
    connection.engine._compiled_cache = _statements


POSTGRES_LINE = "apt-get install postgresql"


def _in_memory(room: int = 2**30) -> str | None:
    """A folder in memory with `room` bytes to spare, if there is one: making and dropping databases is all disk."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or os.statvfs(memory).f_flag & os.ST_NOEXEC:
        return None
    return str(memory) if shutil.disk_usage(memory).free > room else None


# `tmp_path` lies in memory where there is room: every commit of a test's SQLite waits for its disk.
if roomy := _in_memory(4 * 2**30):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", roomy)


class _Told:
    """Names a failure when it happens: a run that is ended before its summary still says what failed."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and reporter is not None:
            reporter.write_line("")
            reporter.write_line(f"FAILED {report.nodeid} ({report.when})\n{report.longreprtext.strip()[-3000:]}")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Told(config), "told")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix the files: slow ones neither wait for the end, when processes stand idle, nor run all at once."""
    items.sort(key=lambda item: zlib.crc32(item.nodeid.split("::")[0].encode()))


def skip_or_fail(reason: str, install: str) -> None:
    """Outside CI a missing server skips with the line that installs it; in CI it fails."""
    message = f"{reason}; install it with: {install}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine leaks into a test; `.env` is looked for in an empty folder."""
    for name in ("DATABASE_URL", "DATA_DIR", "ENVIRONMENT", "ENCRYPTION_KEY", "TELEGRAM_API_URL", "RUNTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _no_word_to_stop() -> None:
    """An engine that an earlier test of this process closed told the steps to stop; nobody has told this test's."""
    attempts.stopping.clear()


@pytest.fixture
def clock() -> Clock:
    """A clock that `advance` moves."""
    return Clock()


def _postgres_binaries() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A throw-away PostgreSQL server of this test run (one per test process)."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    binaries = _postgres_binaries()
    if binaries is None:
        skip_or_fail("PostgreSQL's server was not found", POSTGRES_LINE)
        return
    folder = Path(tempfile.mkdtemp(prefix="clawhaven-pg-", dir=_in_memory()))
    run_as: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        run_as = ["runuser", "-u", "postgres", "--"]
    port = free_port()
    data = folder / "data"
    subprocess.run(
        [*run_as, str(binaries / "initdb"), "-D", str(data), "-U", "clawhaven", "-A", "trust", "-E", "UTF8"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    options += " -c max_connections=300 -c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0"
    subprocess.run(
        [*run_as, str(binaries / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    try:
        yield f"postgresql://clawhaven@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(
            [*run_as, str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"],
            check=False,
            capture_output=True,
            cwd=folder,
        )
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """A migrated database that others are copied from in milliseconds."""
    name = f"template_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = postgres_url.rsplit("/", 1)[0] + f"/{name}"
    with tempfile.TemporaryDirectory() as folder:
        migrate(Settings(database_url=url, data_dir=Path(folder)))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that others are copied from."""
    folder = tmp_path_factory.mktemp("template")
    migrate(Settings(data_dir=folder, database_url=f"sqlite:///{folder}/template.sqlite3"))
    engine = make_engine(f"sqlite:///{folder}/template.sqlite3")
    with engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return folder / "template.sqlite3"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh migrated database, once of each kind."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        path = tmp_path / "clawhaven.sqlite3"
        shutil.copy(template, path)
        yield f"sqlite:///{path}"
        return
    server: str = request.getfixturevalue("postgres_url")
    template_name: str = request.getfixturevalue("postgres_template")
    name = f"test_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        # Logging a copy page by page, which is usual since version 15, costs twice as much as copying its files.
        strategy = "STRATEGY FILE_COPY" if connection.info.server_version >= 150_000 else ""
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template_name}" {strategy}')
    yield server.rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(server, autocommit=True) as connection:
        for attempt in range(10):
            try:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
                break
            except psycopg.errors.ObjectInUse:  # a session did not end within the server's five seconds
                if attempt == 9:
                    raise


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Settings of a fresh installation in a temporary folder, on a disk as full as it may be; the caches are shared."""
    cache = os.environ.get("CLAWHAVEN_TEST_CACHE")
    extra = {"cache_dir": Path(cache)} if cache else {}
    extra["disk_kept_free_mb"] = 0
    return Settings(data_dir=tmp_path / "data", database_url=database_url, **extra)  # type: ignore[arg-type]


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A migrated database, once SQLite and once PostgreSQL."""
    database = Database(make_engine(database_url))
    yield database
    database.close()
