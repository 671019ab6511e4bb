"""One run of a client command: which server, with which key, printing how."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import typer

from clawhaven.cli import config
from clawhaven.cli.client import Api, normalise_url, operation_of
from clawhaven.cli.config import Config
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Column, Output

DONE_WORDS = {
    "provision": "The assistant is ready.",
    "restart": "The assistant has been restarted.",
    "resume": "The assistant runs.",
    "suspend": "The assistant is stopped; its data is kept.",
    "configure": "The changes are in force.",
    "delete": "The assistant and its data are deleted.",
    "replace_key": "The assistant has a new key, or has it once it is started.",
}


@dataclass
class Session:
    """What every client command works with. `given_key` came with this call, not from the configuration."""

    output: Output
    config: Config
    url: str
    given_key: str | None = None

    @property
    def key(self) -> str | None:
        """The API key for this server: the given one, else the stored one."""
        stored = self.config.keys.get(self.url)
        return self.given_key or (stored.key if stored else None)

    def api(self, *, is_open: bool = False) -> Api:
        """The server. Raises Failure when a key is needed and there is none (`is_open`: none is needed)."""
        key = self.key
        if key is None and not is_open:
            raise Failure(
                "You are not signed in.",
                ExitCode.AUTH,
                code="unauthorized",
                hint="Run `clawhaven auth login`, or give an API key in CLAWHAVEN_API_KEY.",
            )
        if key is not None and is_exposed(self.url):
            self.output.warn(f"Warning: {self.url} is not encrypted; the API key can be read on the way.")
        return Api(self.url, key, self.output.detail if self.output.is_verbose else None)

    def finish(self, api: Api, instance_id: str, answer: Any, *, waits: bool, timeout: int, said: str) -> None:
        """Show what an action answered; with `waits`, watch its operation to the end first."""
        operation = operation_of(answer)
        if operation is None or not waits:
            self.output.text(answer, said)
            if operation is not None:
                self.output.note("It is under way; --wait shows its steps.")
            return
        last = self._watch(api, instance_id, operation, timeout)
        self.output.text({**answer, "operation": last}, DONE_WORDS.get(str(last.get("kind")), "Done."))

    def page(self, path: str, columns: Sequence[Column], cursor: str | None, is_whole: bool, empty: str) -> None:
        """Show one page of a list, or all of it, and say how to go on."""
        api = self.api()
        answer = api.pages(path) if is_whole else api.get(path, cursor=cursor)
        self.output.rows(answer, columns, empty)
        following = answer.get("next_cursor") if isinstance(answer, dict) else None
        if following:
            self.output.note(f"There is more: --cursor {following}, or --all.")

    def _watch(self, api: Api, instance_id: str, operation: Mapping[str, Any], timeout: int) -> dict[str, Any]:
        told: set[tuple[str, str]] = set()
        last: dict[str, Any] = dict(operation)
        for last in api.wait(instance_id, operation, timeout):
            for step in last.get("steps") or []:
                word = (str(step.get("name")), str(step.get("state")))
                if word[1] != "waiting" and word not in told:
                    told.add(word)
                    self.output.note(f"  {word[0].replace('_', ' ')}: {word[1]}")
        return last


@dataclass(frozen=True, slots=True)
class Options:
    """The global options as they were given."""

    output: Output
    api_url: str | None
    api_key: str | None


def current(ctx: typer.Context) -> Session:
    """The session for this call's options; `-` as API key is read from stdin."""
    options = ctx.find_object(Options)
    assert options is not None
    stored = config.load()
    url = normalise_url(options.api_url or stored.api_url or config.DEFAULT_API_URL)
    key = read_secret("API key", "-") if options.api_key == "-" else options.api_key
    return Session(options.output, stored, url, (key or "").strip() or None)


def read_secret(label: str, given: str | None) -> str:
    """A secret that was given, or a line of stdin (`-`, or when nobody sits at a terminal), or a hidden prompt."""
    if given not in (None, "", "-"):
        return str(given).strip()
    if given == "-" or not sys.stdin.isatty():
        secret = sys.stdin.readline().strip()
    else:
        secret = str(typer.prompt(label, hide_input=True, err=True)).strip()
    if not secret:
        raise Failure(f"{label}: nothing was given.", ExitCode.USAGE, code="usage", hint="Pipe it in, or type it.")
    return secret


def read_text(text: str | None, place: str | None) -> str | None:
    """Text from an option, or from a file (`-`: stdin). Raises Failure (usage) for both or an unreadable file."""
    if place is None:
        return text
    if text is not None:
        raise Failure("Give the text or the file, not both.", ExitCode.USAGE, code="usage")
    if place == "-":
        return sys.stdin.read()
    try:
        with open(place, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{place} cannot be read: {error}.", ExitCode.USAGE, code="usage") from None


def confirm(question: str, is_sure: bool) -> None:
    """Ask before something that cannot be undone. Raises Failure when the answer is no, or nobody can be asked."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise Failure(f"{question} Nobody can be asked here.", ExitCode.USAGE, code="usage", hint="Add --yes.")
    if not typer.confirm(question, err=True):
        raise Failure("Nothing was done.", code="cancelled")


def is_exposed(url: str) -> bool:
    """True for plain http to anything but this machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost")
