"""What an archive says elsewhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from clawhaven.instances import portable

CURRENT = {
    "gateway": {"auth": {"token": {"source": "file", "provider": "cell", "id": "/gateway/token"}}, "port": 18789},
    "agents": {
        "defaults": {"workspace": "/somewhere/of/ours", "model": {"primary": "house/sandbox-1"}},
        "entries": {"main": {"identity": {"name": "Ada"}, "model": "house/x"}, "bare": {"model": "house/x"}},
    },
    "models": {"providers": {"house": {"baseUrl": "http://127.0.0.1:8080/proxy/ins_1"}}},
    "secrets": {"providers": {"cell": {"path": "/somewhere/secrets.json"}}},
    "channels": {"telegram": {"botToken": {"source": "file"}}},
    "session": {"dmScope": "per-channel-peer"},
    "tools": {"profile": "messaging"},
}


def test_it_is_the_same_person_without_us() -> None:
    tree = json.loads(portable.portable_config(json.dumps(CURRENT)))
    assert tree == {
        "session": {"dmScope": "per-channel-peer"},
        "tools": {"profile": "messaging"},
        "agents": {"defaults": {"skipBootstrap": True}, "entries": {"main": {"identity": {"name": "Ada"}}}},
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"agents": 3, "tools": "x"}', '{"agents": {"entries": []}}'])
def test_whatever_the_assistant_made_of_its_file(text: str) -> None:
    assert json.loads(portable.portable_config(text)) == {"agents": {"defaults": {"skipBootstrap": True}}}


def test_the_note_says_what_is_left_out() -> None:
    note = portable.write_note("Ada", "Hearth", "2026.9.6", datetime(2026, 11, 21, 3, 4, tzinfo=UTC))
    assert "Ada, as it was on 2026-11-21 at 03:04 UTC, saved by Hearth." in note
    assert "Left out: the keys of Hearth" in note


@pytest.mark.parametrize(
    ("name", "file"), [("Ada", "ada"), ("Grace & Co", "grace-co"), ("../../etc", "etc"), ("猫", "assistant")]
)
def test_a_name_every_file_system_takes(name: str, file: str) -> None:
    assert portable.file_name(name) == file
