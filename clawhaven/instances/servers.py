"""An assistant's tool servers in its gateway's configuration: ours, over MCP, one per attached integration.

Pure functions. Checked by running OpenClaw 2026.9.6: `mcp.servers.*.headers` takes strings and no secret reference, so
the header comes from a file of its own by `$include` (docs/gateway/configuration: Config includes), which `config.get`
and the logs do not show; a changed file is taken over within seconds. Tools are called `<vendor>__<tool>`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

FOLDER = "integrations"
CONNECT_MS, ANSWER_MS = 5_000, 60_000
NOTHING = "{}\n"
"""What is left in the file of an integration that is not attached any more."""


def path_of(vendor: str) -> str:
    """The file beside `openclaw.json` that holds a server's header."""
    return f"state/{FOLDER}/{vendor}.json"


def header_file(token: str) -> str:
    """Its text."""
    return json.dumps({"Authorization": f"Bearer {token}"}) + "\n"


def add(config_text: str, proxy_url: str, vendors: Sequence[str]) -> str:
    """The configuration with a server for each vendor, whose tools the assistant may call."""
    if not vendors:
        return config_text
    config: dict[str, Any] = json.loads(config_text)
    config.setdefault("mcp", {})["servers"] = {
        vendor: {
            "url": f"{proxy_url}/mcp/{vendor}",
            "transport": "streamable-http",
            "headers": {"$include": f"./{FOLDER}/{vendor}.json"},
            "connectionTimeoutMs": CONNECT_MS,
            "requestTimeoutMs": ANSWER_MS,
        }
        for vendor in vendors
    }
    tools = config.setdefault("tools", {})
    tools["alsoAllow"] = [*tools.get("alsoAllow", []), *(f"{vendor}__*" for vendor in vendors)]
    return _dump(config)


def remove(config_text: str) -> str:
    """A gateway's own file without its servers: which there are is ours to say. What is no JSON object stays."""
    config = _read(config_text)
    servers = config.get("mcp")
    if not isinstance(servers, dict) or servers.pop("servers", None) is None:
        return config_text
    return _dump(config)


def left_behind(config_text: str, vendors: Collection[str], wanted: Collection[str]) -> list[str]:
    """Those of `vendors` whose file the configuration names and which are not `wanted` any more."""
    mcp = _read(config_text).get("mcp")
    servers = mcp.get("servers") if isinstance(mcp, dict) else None
    named = servers if isinstance(servers, dict) else {}
    return [vendor for vendor in vendors if vendor in named and vendor not in wanted]


def without_headers(config: dict[str, Any]) -> None:
    """Take the headers out, in place: whoever checks a configuration has not the files."""
    for server in config.get("mcp", {}).get("servers", {}).values():
        server.pop("headers", None)


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _dump(tree: dict[str, Any]) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
