"""A vendor's server that sends exactly the bytes a script tells it to, well-formed or not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Seen:
    """One request as it came. `connection` numbers the connections, from 0."""

    connection: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """One connection while its request is answered."""

    def __init__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        self.seen, self._writer = seen, writer

    async def send(self, data: bytes) -> None:
        """Send these bytes now. Raises OSError when the other side is gone."""
        self._writer.write(data)
        await self._writer.drain()

    async def drip(self, data: bytes, size: int = 1, pause: float = 0) -> None:
        """Send in pieces of `size` bytes, each in a packet of its own."""
        for start in range(0, len(data), size):
            await self.send(data[start : start + size])
            await asyncio.sleep(pause)

    async def finish(self) -> None:
        """Close in order, after everything that was sent."""
        self._writer.close()

    async def abort(self) -> None:
        """Cut the connection after what was sent has had a moment to arrive."""
        await asyncio.sleep(0.005)
        self._writer.transport.abort()

    @property
    def is_closed(self) -> bool:
        """True after `finish` and `abort`."""
        return self._writer.is_closing()


Answering = Callable[[Wire], Awaitable[None]]


class RawVendor:
    """Answers every request by `script`; keeps the connection open unless the script closed it."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.script: Answering = _refuse
        self.port = 0
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Listen on a free loopback port."""
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        """End the server and whatever it is in the middle of."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def call(self, what: Callable[[], object]) -> None:
        """Do this in the server's own thread."""
        self._loop.call_soon_threadsafe(what)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        opening = asyncio.start_server(self._connect, "127.0.0.1", 0, limit=1024**2, backlog=2048)
        server = self._loop.run_until_complete(opening)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        waiting = asyncio.all_tasks(self._loop)
        for task in waiting:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
        server.close()
        self._loop.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._connections = self._connections, self._connections + 1
        try:
            while not writer.is_closing():
                seen = await _read(reader, number)
                self.requests.append(seen)
                await self.script(Wire(seen, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader, connection: int) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = bytearray()
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = bytearray(await reader.readexactly(int(headers.get("content-length", "0"))))
    method, path, _ = first.split(" ", 2)
    return Seen(connection, method, path, headers, bytes(body))


async def _refuse(wire: Wire) -> None:
    await wire.send(whole(b"no script", status="500 Internal Server Error", kind="text/plain"))


def whole(body: bytes, *extra: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """A complete answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *extra]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def stream_head(*extra: str, kind: str = "text/event-stream", version: str = "1.1", is_chunked: bool = True) -> bytes:
    """The head of a stream; not chunked, it ends with its connection."""
    ending = ["transfer-encoding: chunked"] if is_chunked else ["connection: close"]
    return "\r\n".join([f"HTTP/{version} 200 OK", f"content-type: {kind}", *ending, *extra]).encode() + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; of nothing, the body's end."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def chunked(*parts: bytes) -> bytes:
    """A complete chunked body."""
    return b"".join(chunk(part) for part in (*parts, b""))
