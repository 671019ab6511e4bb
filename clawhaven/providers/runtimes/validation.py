"""What the pinned OpenClaw says about an `openclaw.json`, and a memory of what it said."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.runtimes.toolchain import Toolchain, run

TIMEOUT_SECONDS = 60
VERDICTS_KEPT = 500

_ASKING = tuple(threading.Lock() for _ in range(16))
"""Many who bring the same text at once wait for one answer; 16 locks serve all texts."""


def validate(tools: Toolchain, config: str, cache_dir: Path) -> list[str]:
    """Problems of `config`, `path: message` each; 1.5 to 3 seconds, or none for a text it has judged before.

    Raises ProviderError `validate_failed` when OpenClaw gives no verdict.
    """
    digest = hashlib.sha256(f"{tools.version}\n{config}".encode()).hexdigest()
    verdicts = cache_dir / "verdicts"
    with _ASKING[int(digest[0], 16)]:
        with contextlib.suppress(OSError, ValueError):
            return [str(problem) for problem in json.loads((verdicts / digest).read_text())]
        problems = _ask(tools, config, cache_dir)
        with contextlib.suppress(OSError):
            _remember(verdicts, digest, problems)
        return problems


def _ask(tools: Toolchain, config: str, cache_dir: Path) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="clawhaven-validate-") as name:
        work = Path(name)
        (work / "openclaw.json").write_text(config)
        env = {
            "PATH": f"{tools.node.parent}:{os.defpath}",
            "HOME": name,
            "OPENCLAW_STATE_DIR": name,
            "OPENCLAW_CONFIG_PATH": str(work / "openclaw.json"),
            "OPENCLAW_NO_RESPAWN": "1",
            "NODE_COMPILE_CACHE": str(cache_dir / "compile"),
            "OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED": "1",
        }
        argv = [str(tools.node), str(tools.entry), "config", "validate", "--json"]
        try:
            done = run(argv, env=env, cwd=work, timeout=TIMEOUT_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProviderError(
                f"OpenClaw could not check the configuration: {error}", code="validate_failed"
            ) from error
    verdict = _parse(done.stdout)
    if verdict is None:
        said = (done.stderr or done.stdout).strip()[-800:]
        raise ProviderError(f"OpenClaw gave no verdict (exit {done.returncode}): {said}", code="validate_failed")
    if verdict.get("valid") is True:
        return []
    issues = verdict.get("issues") or [{"message": verdict.get("error") or "not valid"}]
    return [": ".join(str(issue[key]) for key in ("path", "message") if issue.get(key)) for issue in issues]


def _parse(out: str) -> dict[str, Any] | None:
    for text in (out, out.strip().rpartition("\n")[2]):
        with contextlib.suppress(ValueError):
            verdict = json.loads(text)
            if isinstance(verdict, dict) and "valid" in verdict:
                return verdict
    return None


def _remember(verdicts: Path, digest: str, problems: list[str]) -> None:
    verdicts.mkdir(parents=True, exist_ok=True)
    known = sorted(verdicts.iterdir(), key=lambda path: path.stat().st_mtime)
    for old in known[: max(0, len(known) - VERDICTS_KEPT)]:
        old.unlink(missing_ok=True)
    handle, fresh = tempfile.mkstemp(dir=verdicts)
    with os.fdopen(handle, "w") as file:
        json.dump(problems, file)
    os.replace(fresh, verdicts / digest)
