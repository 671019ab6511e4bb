"""Coverage-guided fuzzing of what reads bytes in the proxy: usage readers, stream filters, requests (needs atheris).

`pip install atheris`, then `python -m bench fuzz --seconds 300 [--target readers|filters|requests]`. The invariants are
those of tests/proxy/test_fuzz.py: no exception, and the same result however the bytes are cut up.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
INSTRUMENTED = ["clawhaven.proxy", "clawhaven.providers.upstreams"]
MEMORY_MEGABYTES = 1024


def main(arguments: list[str]) -> int:
    """Fuzz each target for so long, from the recorded answers; 1 when something was found (it is printed)."""
    parser = argparse.ArgumentParser(prog="python -m bench fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--target", choices=("readers", "filters", "requests"), action="append")
    given = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install atheris")
        return 2
    is_well = True
    for target in given.target or ["readers", "filters", "requests"]:
        with tempfile.TemporaryDirectory(prefix="clawhaven-fuzz-") as folder:
            _plant(Path(folder), target)
            limits = [f"-max_total_time={given.seconds}", f"-rss_limit_mb={MEMORY_MEGABYTES}", "-max_len=20000"]
            command = [sys.executable, "-m", "bench.fuzz", target, *limits, f"-artifact_prefix={folder}/", folder]
            is_well = subprocess.run(command, cwd=ROOT, check=False).returncode == 0 and is_well
    return 0 if is_well else 1


def _plant(folder: Path, target: str) -> None:
    """What the fuzzer begins with: real answers and requests."""
    from tests.proxy.calls import js
    from tests.proxy.recorded import ALL

    for number, one in enumerate(ALL):
        (folder / str(number)).write_bytes(js(one.body) if target == "requests" else one.content)


def _targets() -> dict[str, Callable[[bytes], None]]:
    """Name -> what takes bytes and raises when something is wrong. Imports what is fuzzed."""
    from clawhaven.core.settings import Settings
    from clawhaven.metering import Opening
    from clawhaven.ports.upstream import Dialect
    from clawhaven.providers.upstreams.anthropic import Anthropic
    from clawhaven.providers.upstreams.openai import OpenAI
    from clawhaven.proxy.messages import read_jobs, write_jobs
    from clawhaven.proxy.request import BadBody, read_facts
    from clawhaven.proxy.streams import EndHolder, UsageChunkFilter

    vendors: list[Any] = [Anthropic(Anthropic.Options(), Settings()), OpenAI(OpenAI.Options(), Settings())]
    readable = [(vendor, dialect) for vendor in vendors for dialect in sorted(vendor.dialects())]

    def read_usage(data: bytes) -> None:
        for vendor, dialect in readable:
            for is_stream in (True, False):
                whole, parts = vendor.reader(dialect, is_stream), vendor.reader(dialect, is_stream)
                whole.feed(data)
                for piece in _pieces(data):
                    parts.feed(piece)
                _same((parts.usage(), parts.output_estimate()), (whole.usage(), whole.output_estimate()))

    def filter_stream(data: bytes) -> None:
        for make in (EndHolder, UsageChunkFilter):
            whole, parts = make(), make()
            at_once = whole.feed(data) + whole.rest()
            _same(b"".join(parts.feed(piece) for piece in _pieces(data)) + parts.rest(), at_once)
            _same(make is UsageChunkFilter or at_once.rstrip(b"\n") == data.rstrip(b"\n"), True)

    def read_request(data: bytes) -> None:
        for dialect in Dialect:
            if dialect is Dialect.MODELS:
                continue
            try:
                facts = read_facts(dialect, data)
            except BadBody:
                continue
            opening = Opening(facts.ask, "hash", ["anthropic"])
            _same(read_jobs(write_jobs([(1, opening)])[4:]), [(1, opening)])

    return {"readers": read_usage, "filters": filter_stream, "requests": read_request}


def _pieces(data: bytes) -> list[bytes]:
    """The bytes cut up in a way that hangs on nothing but themselves."""
    size = 1 + (data[0] if data else 0) % 37
    return [data[place : place + size] for place in range(0, len(data), size)]


def _same(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{found!r} is not {wanted!r}")


if __name__ == "__main__":
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        targets = _targets()
    atheris.Setup([sys.argv[0], *sys.argv[2:]], targets[sys.argv[1]])
    atheris.Fuzz()
