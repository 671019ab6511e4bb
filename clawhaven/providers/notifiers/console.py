"""Mail that stays here: printed for the person at the terminal and kept in DATA_DIR/mail.log.

Mails hold sign-in links, which are secrets: they go to stdout and a 0600 file, never to the structured log.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import Final

from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.notifier import Message

_RULE: Final = "─" * 72


class Console:
    """Implements ports.notifier.Notifier without a network."""

    name = "console"
    is_for_production = False

    class Options(EnvSettings):
        """Nothing to set."""

    def __init__(self, options: Options, settings: Settings) -> None:
        self._path = settings.data_dir / "mail.log"
        self._sender = settings.mail_from

    def send(self, message: Message) -> None:
        """Append the mail to mail.log, one JSON object a line, and print it. ProviderError when the file fails."""
        entry = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "key": message.key,
            "from": self._sender,
            "to": message.to,
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
        }
        line = json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # One write in append mode: lines of several processes do not mix.
            file = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
            try:
                os.write(file, line)
            finally:
                os.close(file)
        except OSError as error:
            raise ProviderError(
                f"The mail cannot be kept at {self._path}: {error.strerror}", code="mail_log"
            ) from error
        self._print(message)

    def _print(self, message: Message) -> None:
        letter = f"{_RULE}\nTo:      {message.to}\nSubject: {message.subject}\n\n{message.text.rstrip()}\n{_RULE}"
        encoding = sys.stdout.encoding or "utf-8"
        print(_harmless(letter).encode(encoding, "replace").decode(encoding), flush=True)


def _harmless(text: str) -> str:
    """The text without control characters, which could steer the terminal of whoever reads it."""
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text)
