"""The HTTP server of a front: takes all connections that wait, in every turn of the event loop, and parts with them."""

from __future__ import annotations

import asyncio
import errno
import socket
from email.utils import formatdate
from typing import Any

from clawhaven.core.logs import get_logger
from clawhaven.proxy.callers import Answers
from clawhaven.proxy.connections import Connection

STOP_SECONDS = 5.0
"""So long those who are being answered have when the server stops; then their tasks are told to end."""

CANCEL_SECONDS = 10.0
TICK_SECONDS = 1.0
MOST_ACCEPTED = 32
"""New connections in one turn of the event loop, which by itself takes one."""

log = get_logger(__name__)


class FrontServer:
    """Takes connections from a listening socket until it is told to stop."""

    def __init__(self, answers: Answers, listener: socket.socket, *, stop_seconds: float = STOP_SECONDS) -> None:
        self.answers, self._listener, self._stop_seconds = answers, listener, stop_seconds
        self.loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        """Tasks whose client has gone and whose answer is not settled yet."""

        self._is_told = asyncio.Event()
        self._taking: set[asyncio.Task[Any]] = set()
        self.date = _date()

    def stop(self) -> None:
        """Take no more connections; answer what has come."""
        self._is_told.set()

    async def serve(self) -> None:
        """Until `stop`; whoever is being answered then has a few seconds."""
        self._listener.setblocking(False)
        self.loop.add_reader(self._listener.fileno(), self._accept)
        try:
            while not self._is_told.is_set():
                await self._tick()
        finally:
            self.loop.remove_reader(self._listener.fileno())
            self._listener.close()
            await self._part()
            await self.answers.close()

    def enter(self, connection: Connection) -> None:
        """A connection is there."""
        self._connections.add(connection)

    def leave(self, connection: Connection) -> None:
        """It has gone; its task may still have something to settle."""
        self._connections.discard(connection)
        task = connection.task
        if task is not None and not task.done():
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _tick(self) -> None:
        try:
            async with asyncio.timeout(TICK_SECONDS):
                await self._is_told.wait()
        except TimeoutError:
            self.date, now = _date(), self.loop.time()
            for connection in list(self._connections):
                connection.look(now)

    async def _part(self) -> None:
        for connection in list(self._connections):
            connection.stop()
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=self._stop_seconds)
        for task in (late := self._tasks()):
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCEL_SECONDS)

    def _tasks(self) -> set[asyncio.Task[None]]:
        tasks = {one.task for one in self._connections if one.task is not None} | self._leaving
        return {task for task in tasks if not task.done()}

    def _accept(self) -> None:
        for _ in range(MOST_ACCEPTED):
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("cannot_accept", reason=str(error))
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.loop.remove_reader(self._listener.fileno())
                    self.loop.call_later(TICK_SECONDS, self._listen_again)
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self.loop.create_task(self._take(client))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)

    async def _take(self, client: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self), client)
        except OSError:
            client.close()

    def _listen_again(self) -> None:
        if not self._is_told.is_set():
            self.loop.add_reader(self._listener.fileno(), self._accept)


def _date() -> bytes:
    return b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
