"""Numbers for Prometheus: counted in one process, read by another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from clawhaven.core.metrics import FOLDER, Counts, Series, Sharing, page, shared

HITS = Series("test_hits", "Hits.", "counter", ("what",))
LEVEL = Series("test_level", "Level.", "gauge")
TOOK = Series("test_took", "Took.", "histogram", ("what",), (0.1, 1.0))
ALL = (HITS, LEVEL, TOOK)


def counted() -> Counts:
    counts = Counts(ALL)
    counts.add(HITS, ("a",))
    counts.add(HITS, ("a",), 2)
    counts.add(LEVEL, (), 5)
    counts.add(LEVEL, (), -1)
    for value in (0.05, 0.1, 0.5, 7):
        counts.observe(TOOK, ("a",), value)
    return counts


def samples(text: bytes) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_a_page_is_what_prometheus_reads() -> None:
    assert samples(page([("", counted().snapshot())])) == {
        "test_hits_total{what=a}": 3,
        "test_level{}": 4,
        "test_took_bucket{le=0.1,what=a}": 2,
        "test_took_bucket{le=1.0,what=a}": 3,
        "test_took_bucket{le=+Inf,what=a}": 4,
        "test_took_count{what=a}": 4,
        "test_took_sum{what=a}": 7.65,
    }


def test_processes_keep_their_own_counters() -> None:
    one = json.loads(json.dumps(counted().snapshot()))
    found = samples(page([("p-1", one), ("p-2", one), ("", Counts((LEVEL,)).snapshot())]))
    assert found["test_hits_total{process=p-1,what=a}"] == found["test_hits_total{process=p-2,what=a}"] == 3


def test_another_versions_series_is_left_out() -> None:
    other = Counts((Series("test_hits", "Hits.", "counter", ("who", "what")),)).snapshot()
    other["values"] = [["test_hits", ["x", "y"], 9]]
    assert samples(page([("", counted().snapshot()), ("p-9", other)]))["test_hits_total{what=a}"] == 3


def test_counts_are_shared_and_leave_with_their_process(tmp_path: Path) -> None:
    sharing = Sharing(tmp_path, "proxy", counted())
    sharing.write()
    ((name, snapshot),) = shared(tmp_path)
    assert name == f"proxy-{os.getpid()}"
    assert snapshot == json.loads(json.dumps(counted().snapshot()))
    sharing.close()
    assert list(shared(tmp_path)) == []


def test_files_of_the_dead_and_of_nobody_are_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / f"proxy-{dead.pid}.json").write_text("{}")
    (folder / "stray.json").write_text("{}")
    (folder / f"torn-{os.getpid()}.json").write_text("{")
    assert list(shared(tmp_path)) == []
    assert [path.name for path in folder.iterdir()] == [f"torn-{os.getpid()}.json"]


def test_a_disk_that_refuses_costs_only_the_numbers(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    sharing = Sharing(tmp_path, "proxy", counted())
    sharing.write()
    sharing._is_over.set()
