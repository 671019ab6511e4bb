"""Tool servers in a gateway's configuration: joined, taken out, and no secret in it."""

from __future__ import annotations

import json

from clawhaven.instances import servers

CONFIG = json.dumps({"tools": {"alsoAllow": ["read"]}, "commands": {"mcp": False}})


def test_a_server_is_joined_with_its_tools_and_without_its_secret() -> None:
    found = json.loads(servers.add(CONFIG, "http://host:8081", ["google"]))
    server = found["mcp"]["servers"]["google"]
    assert (server["url"], server["transport"]) == ("http://host:8081/mcp/google", "streamable-http")
    assert server["headers"] == {"$include": "./integrations/google.json"}
    assert servers.path_of("google") == "state/integrations/google.json"
    assert found["tools"]["alsoAllow"] == ["read", "google__*"]
    assert json.loads(servers.header_file("chi_x")) == {"Authorization": "Bearer chi_x"}
    servers.without_headers(found)
    assert "$include" not in json.dumps(found)


def test_nothing_attached_changes_nothing() -> None:
    assert servers.add(CONFIG, "http://host", []) == CONFIG
    assert servers.remove(CONFIG) == CONFIG
    tree = json.loads(CONFIG)
    servers.without_headers(tree)
    assert tree == json.loads(CONFIG)


def test_what_is_taken_away_leaves_no_server_and_is_known() -> None:
    joined = servers.add(CONFIG, "http://host", ["google"])
    assert servers.left_behind(joined, ["google", "other"], []) == ["google"]
    assert servers.left_behind(joined, ["google"], ["google"]) == []
    assert "servers" not in servers.remove(joined)
    for odd in ("", "[1]", "{", '{"mcp": 1}', '{"mcp": {"servers": 2}}'):
        assert servers.left_behind(odd, ["google"], []) == []
        assert "google" not in servers.remove(odd)
