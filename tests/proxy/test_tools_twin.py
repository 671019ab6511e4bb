"""The protocol's official client finds and uses our tools, with the newest handshake it knows and with the older."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from clawhaven.proxy.app import create_app
from tests.conftest import free_port
from tests.fakes.google_server import GoogleServer
from tests.workflows.scene import Scene

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def url(scene: Scene) -> Iterator[str]:
    """Our door, over a real connection."""
    port = free_port()
    config = uvicorn.Config(create_app(scene.ctx), host="127.0.0.1", port=port, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        Event().wait(0.02)
    yield f"http://127.0.0.1:{port}/mcp/google"
    server.should_exit = True
    thread.join(30)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_official_client_reads_mail(url: str, token: str, google: GoogleServer, mode: Any) -> None:
    google.add_message("18a1", "Lunch", "Shall we eat?")

    async def read() -> None:
        headers = {"authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == ["mail_search", "mail_read", "calendar_events"]
            assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
            found = await client.call_tool("mail_read", {"id": "18a1"})
            assert not found.is_error
            assert "Shall we eat?" in str(found.content[0])
            wrong = await client.call_tool("mail_read", {"id": "18ff"})
            assert wrong.is_error

    asyncio.run(read())
