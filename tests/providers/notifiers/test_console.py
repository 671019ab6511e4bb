"""The console notifier: a person finds the link, a log collector does not."""

from __future__ import annotations

import json
import logging
import stat
import threading
from pathlib import Path

import pytest

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.notifier import Message
from clawhaven.providers.notifiers.console import Console

LINK = "http://127.0.0.1:8080/sign-in/secret-token"
MESSAGE = Message("mail_1", "user@example.com", "Your sign-in link", f"Open {LINK}\nSoon.", f"<a href='{LINK}'>in</a>")


def make(folder: Path) -> Console:
    """A console that keeps its mail under `folder`."""
    return Console(Console.Options(_env_file=None), Settings(_env_file=None, data_dir=folder / "var"))


def test_prints_it_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    make(tmp_path).send(MESSAGE)
    printed = capsys.readouterr().out
    assert "user@example.com" in printed
    assert "Your sign-in link" in printed
    assert LINK in printed
    assert caplog.records == []
    path = tmp_path / "var" / "mail.log"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (line,) = path.read_text().splitlines()
    kept = json.loads(line)
    assert (kept["key"], kept["to"], kept["subject"], kept["text"], kept["html"]) == (
        MESSAGE.key,
        MESSAGE.to,
        MESSAGE.subject,
        MESSAGE.text,
        MESSAGE.html,
    )


def test_mails_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    console = make(tmp_path)
    mails = [Message(f"mail_{i}", "user@example.com", "s", "x" * 20_000) for i in range(20)]
    threads = [threading.Thread(target=console.send, args=(mail,)) for mail in mails]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "var" / "mail.log").read_text().splitlines()
    assert {json.loads(line)["key"] for line in lines} == {mail.key for mail in mails}
    assert len(lines) == 20


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path).send(Message("mail_1", "user@example.com", "hi\x1b[2J", "a\x07b\r\nc\n"))
    printed = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\r"} & set(printed)
    assert "hi" in printed


def test_a_full_or_missing_disk_is_a_provider_error(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where a folder should be")
    with pytest.raises(ProviderError) as caught:
        make(tmp_path).send(MESSAGE)
    assert not caught.value.permanent
