"""What looks like a secret never leaves in a log line, ours or a library's."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from clawhaven.core.logs import MASK, configure, get_logger, redact

SECRETS = [
    "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1",
    "sk-ant-api03-abcdefghijklmnopqrst",
    "chk_abcdefghijklmnopqrstuvwxyz0123456789abcdefg",
    "chp_abcdefghijklmnopqrstuvwxyz0123456789abcdefg",
    "chi_abcdefghijklmnopqrstuvwxyz0123456789abcdefg",
    "ya29.a0AfH6SMBabcdefghijklmnopqrstuvwxyz",
    "1//0gabcdefghijklmnopqrstuvwxyz-ABC",
    "GOCSPX-abcdefghijklmnopqrstuvwx",
    "whsec_abcdefghijklmnopqrstuvwx",
    "xoxb-1234567890-abcdefghijkl",
]


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    handlers, level, structured = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**structured)


@pytest.mark.parametrize("secret", SECRETS)
def test_redacts_wherever_it_stands(secret: str) -> None:
    for text in (secret, f"GET /bot{secret}/getMe", f"key={secret}&x=1", f"({secret})"):
        if text.startswith("GET /bot") and not secret[0].isdigit():
            continue
        assert secret not in redact(text)
    assert "hunter2" not in redact("postgresql://admin:hunter2@db/x")
    assert "abcdefghijklmnopqrstu" not in redact("Authorization: Bearer abcdefghijklmnopqrstu")


def test_leaves_ordinary_text_alone() -> None:
    text = "ins_k3v7abcdefghijklmnop active at 2026-01-01T10:00:00 on 127.0.0.1:30000"
    assert redact(text) == text


@pytest.mark.parametrize("secret", SECRETS)
def test_no_line_carries_it_by_key_value_nesting_or_traceback(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("DEBUG", "json")
    log = get_logger("test")
    log.info("plain", text=f"saw {secret}", token=secret, nested={"api_key": secret, "list": [secret]})
    logging.getLogger("some.library").warning("calling with %s", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("broke")
    lines = capsys.readouterr().err
    assert secret not in lines
    first = json.loads(lines.splitlines()[0])
    assert first["token"] == first["nested"]["api_key"] == MASK
    assert len(lines.strip().splitlines()) == 3
