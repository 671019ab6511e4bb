"""Numbers for Prometheus that cost next to nothing to count: plain integers in memory, shared through small files.

Each process writes what it has counted to a file once a second; whoever is asked reads the files of all that live. So a
call costs an addition, any process can answer for all of this host, and every series keeps one process's own counter
(label `process`), as Prometheus expects of counters that begin anew with their process.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from prometheus_client import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
SHARE_SECONDS = 1.0
FOLDER = "metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Series:
    """A metric: its name (counters without `_total`), what it says, and the names of its labels. `bounds` of a
    histogram are upper ends. Labels have few values each; never a customer's."""

    name: str
    help: str
    kind: Kind
    labels: Labels = ()
    bounds: tuple[float, ...] = ()


class Counts:
    """What one process has counted. Not locked: two threads that count the same series at once may lose one."""

    def __init__(self, known: Sequence[Series]) -> None:
        self._known = known
        self._values: dict[tuple[str, Labels], float] = {}
        self._spread: dict[tuple[str, Labels], list[float]] = {}

    def add(self, series: Series, labels: Labels = (), amount: float = 1) -> None:
        """Count up (or down, for a gauge)."""
        key = (series.name, labels)
        self._values[key] = self._values.get(key, 0) + amount

    def observe(self, series: Series, labels: Labels, value: float) -> None:
        """One more value of a histogram."""
        key = (series.name, labels)
        spread = self._spread.get(key)
        if spread is None:
            spread = self._spread[key] = [0.0] * (len(series.bounds) + 2)
        spread[bisect_left(series.bounds, value)] += 1
        spread[-1] += value

    def snapshot(self) -> dict[str, Any]:
        """As JSON: the `series`, their `values`, and the `spread` of histograms (per bound, the rest, the sum)."""
        return {
            "series": [asdict(series) for series in self._known],
            "values": [[name, list(labels), value] for (name, labels), value in list(self._values.items())],
            "spread": [[name, list(labels), list(counts)] for (name, labels), counts in list(self._spread.items())],
        }


class Sharing:
    """Writes a process's counts to its file every second, in a thread of its own, until `close`."""

    def __init__(self, data_dir: Path, name: str, counts: Counts) -> None:
        self._path = data_dir / FOLDER / f"{name}-{os.getpid()}.json"
        self._counts, self._is_over = counts, threading.Event()
        self._thread = threading.Thread(target=self._work, name="metrics", daemon=True)
        self._thread.start()

    def write(self) -> None:
        """Write now; a disk that refuses costs the numbers, not the work."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps(self._counts.snapshot()))
            fresh.replace(self._path)

    def close(self) -> None:
        """Stop, and take the file away: a process that has ended counts no more."""
        self._is_over.set()
        self._thread.join(timeout=2)
        self._path.unlink(missing_ok=True)

    def _work(self) -> None:
        while not self._is_over.wait(SHARE_SECONDS):
            self.write()


def shared(data_dir: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and counts of every living process of this host that shares them; files of dead ones are removed."""
    for path in sorted((data_dir / FOLDER).glob("*.json")):
        name, _, pid = path.stem.rpartition("-")
        if not pid.isdigit() or not _is_alive(int(pid)):
            path.unlink(missing_ok=True)
            continue
        with contextlib.suppress(OSError, ValueError):
            yield f"{name}-{pid}", json.loads(path.read_text())


def page(snapshots: Iterable[tuple[str, Mapping[str, Any]]]) -> bytes:
    """The text that Prometheus reads: every series of every process, by (process, snapshot); no process: no label."""
    of_series: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    known: dict[str, Series] = {}
    for process, snapshot in snapshots:
        for told in snapshot["series"]:
            series = Series(**{**told, "labels": tuple(told["labels"]), "bounds": tuple(told["bounds"])})
            known.setdefault(series.name, series)
            if known[series.name] == series:  # another version's process may count otherwise
                of_series.setdefault(series.name, []).append((process, snapshot))
    return bytes(generate_latest(_Page([_family(known[name], found) for name, found in of_series.items()])))


@dataclass(frozen=True, slots=True)
class _Page:
    families: list[Metric]

    def collect(self) -> Iterator[Metric]:
        yield from self.families


def _family(series: Series, snapshots: Sequence[tuple[str, Mapping[str, Any]]]) -> Metric:
    has_process = any(process for process, _ in snapshots)
    names = [*series.labels, *(["process"] if has_process else [])]
    family: Any = {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "histogram": HistogramMetricFamily,
    }[series.kind](series.name, series.help, labels=names)
    for process, snapshot in snapshots:
        own = [process] if has_process else []
        for name, labels, found in snapshot["spread" if series.kind == "histogram" else "values"]:
            if name != series.name:
                continue
            if series.kind == "histogram":
                family.add_metric([*labels, *own], _buckets(series, found), sum_value=found[-1])
            else:
                family.add_metric([*labels, *own], found)
    return family  # type: ignore[no-any-return]


def _buckets(series: Series, counts: Sequence[float]) -> list[tuple[str, float]]:
    whole, buckets = 0.0, []
    for bound, count in zip([*(str(bound) for bound in series.bounds), "+Inf"], counts[:-1], strict=True):
        whole += count
        buckets.append((bound, whole))
    return buckets


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
