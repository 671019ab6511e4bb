"""A model on loopback that speaks Anthropic Messages as a stream, records what it is asked and does what it is told.

What it does follows from the newest message of a person: `hold …` stops after the first word until `release()`,
`tool …` first asks for the tool `read` (`tool read <path>`: of this file), `refuse …` answers 400; anything else is
answered `You said: …`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    size: int

    @property
    def said(self) -> str:
        """The newest words of a person in it."""
        for message in reversed(self.body["messages"]):
            if message["role"] == "user" and (text := _words(message["content"])):
                return text
        return ""

    @property
    def system(self) -> str:
        """The whole system prompt."""
        system = self.body.get("system", "")
        return system if isinstance(system, str) else "\n".join(part["text"] for part in system)


class ModelServer:
    """`with ModelServer() as model:` then point a gateway's provider at `model.url`."""

    def __init__(self, port: int = 0) -> None:
        self.asked: list[Asked] = []
        self.wanted: tuple[str, dict[str, Any]] | None = None
        """The tool that `tool …` asks for, and with what, where another one is wanted."""
        self._released = threading.Event()
        self._http = _Http(("127.0.0.1", port), _Door)
        self._http.model = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._http.shutdown()
        self._http.server_close()

    def hold(self) -> None:
        """From now on `hold …` waits."""
        self._released.clear()

    def release(self) -> None:
        """Let every waiting answer go on."""
        self._released.set()

    def wait_for_release(self) -> None:
        """Until `release`, two minutes at most."""
        self._released.wait(120)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    model: ModelServer


class _Door(BaseHTTPRequestHandler):
    server: _Http

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.path, headers, json.loads(raw), len(raw))
        self.server.model.asked.append(asked)
        said = asked.said
        if "refuse" in said:
            self._refuse()
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        usage = {"input_tokens": 10, "output_tokens": 1}
        start = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked.body["model"], "content": []}
        self._event("message_start", message={**start, "stop_reason": None, "stop_sequence": None, "usage": usage})
        if "tool" in said and not _has_result(asked.body):
            self._text(0, ["Let me look. "])
            self._tool(1, self.server.model.wanted or _offer(asked.body, said))
            self._end("tool_use")
            return
        words = ["You ", "said: ", said] if said else ["Nothing ", "was said."]
        self._text(0, words, is_held="hold" in said)
        self._end("end_turn")

    def _refuse(self) -> None:
        body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": "refused"}}).encode()
        self.send_response(400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _text(self, index: int, words: list[str], is_held: bool = False) -> None:
        self._event("content_block_start", index=index, content_block={"type": "text", "text": ""})
        for word in words:
            self._event("content_block_delta", index=index, delta={"type": "text_delta", "text": word})
            if is_held:
                self.server.model.wait_for_release()
        self._event("content_block_stop", index=index)

    def _tool(self, index: int, call: tuple[str, dict[str, Any]]) -> None:
        name, arguments = call
        block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
        self._event("content_block_start", index=index, content_block=block)
        delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
        self._event("content_block_delta", index=index, delta=delta)
        self._event("content_block_stop", index=index)

    def _end(self, reason: str) -> None:
        delta = {"stop_reason": reason, "stop_sequence": None}
        self._event("message_delta", delta=delta, usage={"output_tokens": 12})
        self._event("message_stop")
        self.close_connection = True

    def _event(self, kind: str, **fields: Any) -> None:
        self.wfile.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())
        self.wfile.flush()


def _words(content: Any) -> str:
    texts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    spoken = [text for text in texts if text and not text.startswith("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>")]
    return " ".join(spoken)


def _has_result(body: Mapping[str, Any]) -> bool:
    contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
    return any(part.get("type") == "tool_result" for content in contents for part in content)


def _offer(body: Mapping[str, Any], said: str) -> tuple[str, dict[str, Any]]:
    names = [tool["name"] for tool in body["tools"]]
    wanted = re.search(r"tool read (\S+)", said)
    return ("read", {"path": wanted.group(1) if wanted else "IDENTITY.md"}) if "read" in names else (names[0], {})


if __name__ == "__main__":
    import sys

    with ModelServer(int(sys.argv[1])) as server:
        server.release()
        threading.Event().wait()
