"""Chatting and following a log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.cli import talk
from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer, Seen, problem

LOGS = f"/api/instances/{INSTANCE}/logs"


def test_one_message(run: Run) -> None:
    ran = run("instances", "chat", INSTANCE, "Hello")
    assert ran.out == "You said: Hello\n"
    assert ran.err == "(1 model call, 1,234 tokens in, 56 out, $0.0042)\n"


def test_a_message_from_stdin(run: Run) -> None:
    assert run("instances", "chat", INSTANCE, "-", stdin="two\nlines\n").out == "You said: two\nlines\n\n"


def test_a_message_that_looks_like_an_option(run: Run) -> None:
    assert run("instances", "chat", INSTANCE, "--", "--quiet").out == "You said: --quiet\n"


def test_no_message(run: Run) -> None:
    assert run("instances", "chat", INSTANCE, " ").code == 2


def test_a_conversation(run: Run, server: ContractServer) -> None:
    ran = run("instances", "chat", INSTANCE, "--quiet", stdin="one\n\ntwo\n")
    assert ran.out == "You said: one\nYou said: two\n"
    assert len(server.seen) == 2


def test_a_failed_turn(run: Run, server: ContractServer) -> None:
    server.answers["POST", f"/api/instances/{INSTANCE}/chat"] = (503, problem("unavailable", "The model is silent."))
    ran = run("instances", "chat", INSTANCE, "Hello")
    assert ran.code == 1
    assert "The model is silent." in ran.err


def test_log_lines(run: Run, server: ContractServer) -> None:
    assert run("instances", "logs", INSTANCE, "--lines", "50").out == "one\ntwo\n"
    assert server.seen[-1].query == {"lines": "50"}


def test_following_prints_each_line_once_until_interrupted(
    run: Run, server: ContractServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = iter([["a", "b"], ["a", "b"], ["b", "c"], ["c", "c", "\x1b[31md"]])

    def answer(_: Seen) -> tuple[int, dict[str, list[str]]]:
        return 200, {"lines": next(windows)}

    naps = iter([None, None, None, KeyboardInterrupt()])

    def nap(_: float) -> None:
        if (wakes := next(naps)) is not None:
            raise wakes

    server.answers["GET", LOGS] = answer
    monkeypatch.setattr("clawhaven.cli.talk.time.sleep", nap)
    ran = run("instances", "logs", INSTANCE, "--follow")
    assert ran.code == 0
    assert ran.out.split() == ["a", "b", "c", "c", "d"]


@given(
    log=st.lists(st.integers(), unique=True, max_size=30),
    first=st.integers(0, 30),
    second=st.integers(0, 30),
    window=st.integers(1, 20),
)
def test_windows_that_overlap_lose_and_repeat_nothing(log: list[int], first: int, second: int, window: int) -> None:
    lines = [str(line) for line in log]
    before, after = sorted((min(first, len(lines)), min(second, len(lines))))
    if after - before >= window:
        return  # more than a window was written in between: what scrolled past cannot be seen
    seen, newest = lines[:before][-window:], lines[:after][-window:]
    assert talk.fresh(seen, newest) == lines[before:after]
