"""Structured logs. Whatever looks like a secret is masked before a line leaves the process."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET_KEYS = re.compile(r"(token|secret|password|api_?key|authorization|cookie|credential|signature|bearer)", re.I)
SECRET_VALUES = re.compile(
    r"""
    (?<!\d)\d{6,12}:[A-Za-z0-9_-]{30,64}   # Telegram bot token, also in `/bot<token>/`
    | \b(?:sk|rk|pk|whsec|re|xox[abprs]|chk|chp|chg|chi)[-_][A-Za-z0-9_-]{16,}   # vendors' and our own prefixed keys
    | (?:\b(?:ya29\.|GOCSPX-)|1//)[A-Za-z0-9_-]{16,}   # Google's tokens and client secrets
    | (?i:bearer)\s+[A-Za-z0-9._~+/=-]{16,}
    | (?<=://)[^/\s:@]+:[^/\s@]+(?=@)        # user:password in a URL
    | (?<=[?&]token=)[A-Za-z0-9_-]{16,}
    """,
    re.X,
)
MASK = "[redacted]"


def redact(text: str) -> str:
    """`text` with everything that looks like a secret replaced."""
    return SECRET_VALUES.sub(MASK, text)


def _redact_event(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in list(event.items()):
        event[key] = _redact_value(key, value)
    return event


def _redact_value(key: str, value: Any) -> Any:
    if SECRET_KEYS.search(key) and value not in (None, True, False) and not isinstance(value, int):
        return MASK
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {inner: _redact_value(str(inner), content) for inner, content in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_value(key, content) for content in value]
    return value


def configure(level: str = "INFO", style: str = "json") -> None:
    """Send every log line, ours and libraries', through redaction to stderr."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _redact_event, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("httpx2", "httpcore2", "docker", "urllib3", "dbos", "alembic.runtime.migration", "websockets"):
        logging.getLogger(noisy).setLevel("WARNING")
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; use `log.info("event", key=value)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
