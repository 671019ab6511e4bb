"""The configuration we write: what it says, what it must never say, how it joins a file OpenClaw has touched."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest

from clawhaven.core.errors import Invalid
from clawhaven.instances.config import ModelApi, build_config, build_secrets, merge_config, secret_ref
from clawhaven.ports.runtime import Layout

LAYOUT = Layout(
    state_dir="/i/state",
    secrets_file="/i/secrets/secrets.json",
    workspace_dir="/i/state/workspace",
    gateway_port=30001,
    proxy_url="http://127.0.0.1:8080/proxy",
    bind="loopback",
)


def config(**changes: Any) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "name": "Ada",
        "instance_id": "ins_1",
        "model": "claude-x",
        "model_api": "anthropic-messages",
        "max_output_tokens": 8192,
        "context_window": 200_000,
        "origins": ["https://ada.example.com"],
        "channels": {"telegram": {"enabled": True, "botToken": secret_ref("/telegram/botToken")}},
    }
    built: dict[str, Any] = json.loads(build_config(LAYOUT, **(wanted | changes)))
    return built


def test_nothing_spends_money_by_itself() -> None:
    built = config()
    assert built["agents"]["defaults"]["heartbeat"] == {"every": "0m"}
    assert built["plugins"]["entries"]["memory-core"]["config"]["dreaming"] == {"enabled": False}
    assert built["skills"]["workshop"]["autonomous"] == {"mode": "off"}
    assert built["update"] == {"checkOnStart": False, "auto": {"enabled": False}}
    assert built["models"]["catalogRefresh"] == {"enabled": False}


def test_every_secret_is_a_reference_into_the_secrets_file() -> None:
    built = config()
    secrets = json.loads(build_secrets("gateway-secret", "proxy-secret", {"/telegram/botToken": "bot-secret"}))
    references = re.findall(r'"id": "(/[^"]+)"', json.dumps(built))
    assert sorted(references) == ["/gateway/token", "/house/key", "/telegram/botToken"]
    for pointer in references:
        value: Any = secrets
        for step in pointer.split("/")[1:]:
            value = value[step]
        assert value.endswith("-secret")
        assert value not in json.dumps(built)
    assert built["secrets"]["providers"]["cell"]["path"] == LAYOUT.secrets_file


@pytest.mark.parametrize("api", get_args(ModelApi))
def test_the_model_is_reached_through_our_proxy(api: ModelApi) -> None:
    house = config(model_api=api)["models"]["providers"]["house"]
    suffix = "" if api == "anthropic-messages" else "/v1"
    assert house["baseUrl"] == LAYOUT.proxy_url + suffix
    assert (house["api"], house["models"][0]["maxTokens"]) == (api, 8192)


def test_an_owner_and_an_expert_setting_arrive() -> None:
    built = config(owners=["telegram:7"], extra={"tools": {"web": {"search": {"provider": "brave"}}}}, thinking="low")
    assert built["commands"]["ownerAllowFrom"] == ["telegram:7"]
    assert built["tools"]["web"] == {"search": {"provider": "brave"}}
    assert built["tools"]["profile"] == "messaging"
    assert built["models"]["providers"]["house"]["models"][0]["reasoning"] is True
    assert "ownerAllowFrom" not in config()["commands"]


@pytest.mark.parametrize("pointer", ["botToken", "", "/", "//x", "/gateway/token", "/gateway/token/more", "/gateway"])
def test_a_secret_cannot_take_a_place_that_is_not_its_own(pointer: str) -> None:
    with pytest.raises(Invalid):
        build_secrets("g", "p", {pointer: "x"})


def test_a_pointer_may_hold_escaped_slashes() -> None:
    assert json.loads(build_secrets("g", "p", {"/a~1b/c~0d": "x"}))["a/b"] == {"c~d": "x"}


def test_merging_keeps_what_openclaw_wrote_and_replaces_what_is_ours() -> None:
    current = config()
    current["meta"] = {"lastTouchedVersion": "2026.9.6"}
    current["plugins"]["entries"]["telegram"] = {"enabled": True}
    current["commands"]["ownerAllowFrom"] = ["telegram:1"]
    current["channels"]["telegram"]["groups"] = {"-5": {}}
    current["models"]["providers"]["house"]["old"] = True
    wanted = config(model="claude-y", channels={"discord": {"enabled": True}}, origins=["https://new.example.com"])
    merged = json.loads(merge_config(json.dumps(current), json.dumps(wanted)))
    assert merged["meta"] == {"lastTouchedVersion": "2026.9.6"}
    assert merged["plugins"]["entries"]["telegram"] == {"enabled": True}
    assert merged["commands"]["ownerAllowFrom"] == ["telegram:1"]
    assert merged["channels"] == {"discord": {"enabled": True}}
    assert merged["models"]["providers"]["house"] == wanted["models"]["providers"]["house"]
    assert merged["gateway"]["controlUi"]["allowedOrigins"] == ["https://new.example.com"]


def test_merging_what_is_there_already_changes_nothing() -> None:
    text = json.dumps(config())
    assert json.loads(merge_config(text, text)) == json.loads(text)
    assert merge_config(merge_config(text, text), text) == merge_config(text, text)


def test_a_key_that_we_no_longer_want_goes_and_theirs_stay() -> None:
    before = config(extra={"talk": {"auto": "on", "voice": "x"}, "tools": {"exec": {"mode": "deny"}}})
    current = json.loads(json.dumps(before))
    current["talk"]["theirs"] = 1
    merged = json.loads(merge_config(json.dumps(current), json.dumps(config()), json.dumps(before)))
    assert merged["talk"] == {"theirs": 1}
    assert "exec" not in merged["tools"]
    kept = json.loads(merge_config(json.dumps(current), json.dumps(config())))
    assert kept["tools"]["exec"] == {"mode": "deny"}


def test_a_skill_that_is_turned_off_leaves_nothing_behind() -> None:
    search = {"enabled": True, "config": {"webSearch": {"apiKey": secret_ref("/skills/brave")}}}
    before = config(
        extra={
            "tts": {
                "provider": "elevenlabs",
                "providers": {"elevenlabs": {"apiKey": secret_ref("/skills/elevenlabs")}},
            },
            "tools": {"web": {"search": {"provider": "brave"}}},
            "plugins": {"load": {"paths": ["/i/state/clawhaven/plugins/brave"]}, "entries": {"brave": search}},
            "skills": {"load": {"extraDirs": ["/i/state/clawhaven/skills/recipes"]}},
        }
    )
    off = {"cron": {"enabled": False}, "plugins": {"slots": {"memory": "none"}}}
    before["plugins"]["entries"]["telegram"] = {"enabled": True}  # OpenClaw's own doing
    merged = json.loads(merge_config(json.dumps(before), json.dumps(config(extra=off))))
    wanted = config(extra=off)
    wanted["plugins"]["entries"]["telegram"] = {"enabled": True}
    assert merged == wanted
    on_again = json.loads(merge_config(json.dumps(merged), json.dumps(config())))
    assert "slots" not in on_again["plugins"]
    assert "cron" not in on_again


@pytest.mark.parametrize("broken", ["", "{", "[]", "// not json"])
def test_a_broken_file_is_replaced(broken: str) -> None:
    assert json.loads(merge_config(broken, json.dumps(config()))) == config()
