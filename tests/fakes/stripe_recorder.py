"""A server that writes down what Stripe would be asked and answers what it was told to; no state, no opinion.

`stripe_operations.json` and `stripe_objects.json` beside this file are shortened from what Stripe publishes (MIT; the
first line of each names its source), so that calls and answers can be held against something that is not ours.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from tests.fakes.stripe_server import parse

Json = dict[str, Any]
_HERE = Path(__file__).parent
OPERATIONS: Json = json.loads((_HERE / "stripe_operations.json").read_text())["operations"]
_OBJECTS: Json = json.loads((_HERE / "stripe_objects.json").read_text())["objects"]
_ANYTHING = "*"


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    verb: str
    path: str
    query: str
    body: str
    headers: Mapping[str, str]

    @property
    def asked(self) -> tuple[str, str, list[tuple[str, str]], list[tuple[str, str]]]:
        """What two clients must agree on, whatever order they write it in."""
        query, body = (sorted(parse_qsl(text, keep_blank_values=True)) for text in (self.query, self.body))
        return self.verb, self.path, query, body

    @property
    def params(self) -> Json:
        """Query and form as nested objects."""
        return parse(self.query) | parse(self.body)


class Recorder:
    """`answers`: "GET /v1/customers" -> an object, a list of objects (a page of them), (status, body),
    or a function of the request that returns one of these."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.requests: list[Request] = []
        self.answers = dict(answers)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Pen", (_Pen,), {"recorder": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self) -> list[Request]:
        """The requests so far; starts again."""
        found, self.requests = self.requests, []
        return found

    def answer(self, request: Request) -> tuple[int, Json]:
        """Status and body."""
        self.requests.append(request)
        found = self.answers.get(f"{request.verb} {request.path}")
        if callable(found):
            found = found(request)
        if found is None:
            return 404, {"error": {"type": "invalid_request_error", "message": f"no answer for {request.path}"}}
        if isinstance(found, tuple):
            return found
        if isinstance(found, list):
            return 200, {"object": "list", "data": found, "has_more": False, "url": request.path}
        return 200, found


def shaped(kind: str, **more: Any) -> Json:
    """Stripe's own example of an object with other values. KeyError for a field that Stripe's example has not."""
    found = json.loads(json.dumps(_OBJECTS[kind]))
    for name, value in more.items():
        if name not in found and name not in _NOT_IN_EXAMPLES.get(kind, ()):
            raise KeyError(f"Stripe's {kind} has no {name}")
        found[name] = value
    return dict(found)


_NOT_IN_EXAMPLES = {"invoice": ("payments",), "webhook_endpoint": ("secret",), "price": ("unit_amount",)}
"""Fields that are there only when asked for, or once; their types are in the official library."""


def strangers(verb: str, path: str, params: Json) -> list[str]:
    """What is wrong with a request by Stripe's published description: its operation or parameters, unknown there."""
    for name, known in OPERATIONS.items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", name)
        if re.fullmatch(pattern, f"{verb} {path}"):
            return _strangers(params, known, name)
    return [f"{verb} {path}"]


def _strangers(given: Any, known: Any, where: str) -> list[str]:
    if known == _ANYTHING or given == "":  # an empty value clears any field
        return []
    if isinstance(known, dict) and isinstance(given, dict):
        unknown = [f"{where}: {name}" for name in given if name not in known]
        return unknown + [
            one for name in given if name in known for one in _strangers(given[name], known[name], f"{where} {name}")
        ]
    if isinstance(known, list) and isinstance(given, list):
        return [one for part in given for one in _strangers(part, known[0], where)]
    return [] if known is None and isinstance(given, str) else [where]


class _Pen(BaseHTTPRequestHandler):
    recorder: Recorder
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer = self.recorder.answer(Request(self.command, parts.path, parts.query, body, headers))
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _serve

    def log_message(self, *_: object) -> None:
        """Quiet."""
