"""Chatting with an assistant and watching its log from a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from difflib import unified_diff
from typing import Any

from clawhaven.cli.client import CHAT_TIMEOUT_SECONDS, Api
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Format, count, money
from clawhaven.cli.session import Session

FOLLOW_SECONDS = 2.0


def say(session: Session, path: str, message: str) -> None:
    """One message and its answer. Raises Failure (usage) for an empty one."""
    text = sys.stdin.read() if message == "-" else message
    if not text.strip():
        raise Failure("There is no message.", ExitCode.USAGE, code="usage")
    _turn(session, session.api(), path, text)


def converse(session: Session, path: str) -> None:
    """A message a line, until the input ends. A message that fails is told and the conversation goes on."""
    api = session.api()
    is_person = sys.stdin.isatty()
    while True:
        if is_person:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if not line.strip():
            continue
        try:
            _turn(session, api, path, line.strip())
        except Failure as failure:
            if not is_person or failure.exit_code != ExitCode.FAILED:
                raise
            session.output.failure(failure)


def follow(session: Session, path: str, lines: int, **asked: str | None) -> None:
    """Print log lines as they come, until Ctrl-C; JSON and YAML: one object a line. `asked`: filters of the API."""
    api = session.api()
    seen: list[str] = []
    try:
        while True:
            newest = lines_of(api.get(path, lines=lines, **asked))
            for line in fresh(seen, newest):
                session.output.line(line if session.output.format == Format.TABLE else json.dumps({"line": line}))
            seen = newest
            time.sleep(FOLLOW_SECONDS)
    except KeyboardInterrupt:
        return


def fresh(seen: Sequence[str], newest: Sequence[str]) -> list[str]:
    """The lines of `newest` that come after the part both windows of the log share."""
    for start in range(len(seen)):
        shared = len(seen) - start
        if list(newest[:shared]) == list(seen[start:]):
            return list(newest[shared:])
    return list(newest)


def lines_of(answer: Any) -> list[str]:
    """The lines of a log answer."""
    found = answer.get("lines") if isinstance(answer, dict) else None
    return [str(line) for line in found] if isinstance(found, list) else []


def differences(answer: Any) -> str:
    """A review of new settings as a unified diff; a sentence when there is nothing in it."""
    if not isinstance(answer, dict):
        return ""
    told: list[str] = []
    for one in [*answer.get("fields", ()), *answer.get("files", ())]:
        note = " (changed by somebody: stays as it is)" if one.get("is_own") else ""
        before, after = str(one.get("before", "")).splitlines(), str(one.get("after", "")).splitlines()
        told += unified_diff(before, after, f"{one['name']}{note}", str(one["name"]), lineterm="")
    return "\n".join(told) or "Nothing would change."


def _turn(session: Session, api: Api, path: str, text: str) -> None:
    answer = api.post(path, {"message": text}, timeout=CHAT_TIMEOUT_SECONDS)
    session.output.text(answer, str(answer.get("reply", "")) if isinstance(answer, dict) else "")
    used = answer.get("usage") if isinstance(answer, dict) else None
    if isinstance(used, dict):
        calls = used.get("calls", 0)
        session.output.note(
            f"({count(calls)} model call{'' if calls == 1 else 's'}, {count(used.get('input_tokens', 0))} tokens in, "
            f"{count(used.get('output_tokens', 0))} out, {money(used.get('price_micros', 0))})"
        )
