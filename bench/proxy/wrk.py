"""Closed loop load by wrk (https://github.com/wg/wrk): so many connections, each with a request always under way."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.proxy.questions import Question

INSTALL = "wrk; install it with: apt-get install wrk"

_SCRIPT = """
local number, requests, threads = 0, {}, {}
whole, broken, example = 0, 0, ""
setup = function(thread) table.insert(threads, thread) end
init = function()
%(requests)s
end
request = function()
  number = number %% #requests + 1
  return requests[number]
end
response = function(status, headers, body)
  if status == 200%(checks)s then
    whole = whole + 1
  else
    broken = broken + 1
    if example == "" then example = status .. " " .. body:sub(1, 200) end
  end
end
done = function(summary, latency, _)
  local whole, broken, example = 0, 0, ""
  for _, thread in ipairs(threads) do
    whole, broken = whole + thread:get("whole"), broken + thread:get("broken")
    if thread:get("example") ~= "" then example = thread:get("example") end
  end
  io.write(string.format("\\nWHOLE %%d BROKEN %%d SECONDS %%f P50 %%f P99 %%f MAX %%f ERRORS %%d\\nEXAMPLE %%s\\n",
    whole, broken, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    latency.max / 1000, summary.errors.connect + summary.errors.read + summary.errors.timeout,
    example:gsub("%%s+", " ")))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it. `whole` answers are counted one by one; `broken` ones were not 200, or not complete."""

    whole: int
    broken: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    example: str

    @property
    def per_second(self) -> float:
        """Whole answers in a second."""
        return self.whole / self.seconds


def find() -> str | None:
    """The program, or None."""
    return shutil.which("wrk")


def run(url: str, question: Question, headers: Sequence[Mapping[str, str]], connections: int, seconds: float) -> Load:
    """Ask with each of `headers` in turn. At its end up to `connections` requests are cut. Raises RuntimeError when
    wrk itself fails."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_script(question, headers))
        script.flush()
        command = [find() or "wrk", "-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s"]
        command += ["--timeout", "60s", "-s", script.name, url + question.path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    if done.returncode != 0 or "WHOLE" not in done.stdout:
        raise RuntimeError(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}")
    line, _, example = done.stdout[done.stdout.index("WHOLE") :].partition("\nEXAMPLE")
    words = line.split()
    found = {words[at]: float(words[at + 1]) for at in range(0, len(words), 2)}
    return Load(
        whole=int(found["WHOLE"]),
        broken=int(found["BROKEN"]),
        errors=int(found["ERRORS"]),
        seconds=found["SECONDS"],
        p50_ms=found["P50"],
        p99_ms=found["P99"],
        max_ms=found["MAX"],
        example=example.strip(),
    )


def _script(question: Question, headers: Sequence[Mapping[str, str]]) -> str:
    body = json.dumps(question.body.decode())
    lines = [f"  local body = {body}"]
    for one in headers:
        pairs = {"content-type": "application/json", **one}
        table = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in pairs.items())
        lines.append(f'  requests[#requests + 1] = wrk.format("POST", nil, {{{table}}}, body)')
    checks = "".join(f" and body:find({json.dumps(mark)}, 1, true)" for mark in question.marks)
    return _SCRIPT % {"requests": "\n".join(lines), "checks": checks}
