"""Lines of an assistant's log, as OpenClaw writes them and as somebody who means harm might."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from clawhaven.instances.logbook import LONGEST_LINE, Entry, pick, read_lines

AT = datetime(2026, 11, 21, 15, 5, 27, 612000, tzinfo=UTC)
WRITTEN = json.dumps(
    {
        "0": '{"subsystem":"gateway"}',
        "1": "active-work drain settled",
        "_meta": {"logLevelId": 3, "logLevelName": "INFO", "date": "2026-11-21T15:05:27.612Z"},
        "time": "2026-11-21T15:05:27.612+00:00",
        "message": "active-work drain settled",
    }
)


def entry_of(line: str) -> Entry:
    (entry,) = read_lines([line])
    return entry


def test_what_openclaw_writes_and_prints() -> None:
    wanted = Entry(AT, "info", "gateway", "active-work drain settled")
    assert entry_of(WRITTEN) == wanted
    assert entry_of("2026-11-21T15:05:27.612+00:00 [gateway] active-work drain settled") == wanted
    assert wanted.as_line() == "2026-11-21T15:05:27.612+00:00 INFO  [gateway] active-work drain settled"
    for word, level in (("FATAL", "error"), ("ERROR", "error"), ("WARN", "warn"), ("TRACE", "debug")):
        assert entry_of(WRITTEN.replace('"INFO"', f'"{word}"')).level == level


def test_a_line_without_a_time_belongs_to_the_one_before() -> None:
    first, second = read_lines([WRITTEN, "    at Object.<anonymous> (file.js:1)", "  "])
    assert (second.at, second.text) == (first.at, "at Object.<anonymous> (file.js:1)")


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"time": 12, "0": 7, "_meta": "x"}',
        '{"time": "9999-99-99", "0": "{", "_meta": {"logLevelName": {}}}',
        '{"time": "0001-01-01T00:00:00+14:00"}',
        "null",
        "\x1b[31mred\x00",
    ],
)
def test_nonsense_is_a_line_like_any_other(line: str) -> None:
    entry = entry_of(line)
    assert entry.at is None
    assert len(entry.text) <= LONGEST_LINE + 1
    assert "\x1b" not in entry.text


def test_secrets_are_masked() -> None:
    token = "123456789:" + "A" * 35
    assert entry_of(f"polling with {token}").text == "polling with [redacted]"
    assert entry_of(json.dumps({"message": f"polling with {token}"})).text == "polling with [redacted]"


def test_lines_are_picked_by_gravity_words_and_time() -> None:
    entries = [
        Entry(AT, "error", "telegram", "Token refused"),
        Entry(AT, "warn", "gateway", "slow"),
        Entry(None, "debug", "", "chatter"),
    ]
    assert pick(entries) == entries
    assert pick(entries, "nonsense") == entries
    assert pick(entries, "error") == entries[:1]
    assert pick(entries, "warn") == entries[:2]
    assert pick(entries, words="TOKEN telegram") == entries[:1]
    assert pick(entries, words="token gateway") == []
    assert pick(entries, since=datetime(2026, 11, 22, tzinfo=UTC)) == entries[2:]
