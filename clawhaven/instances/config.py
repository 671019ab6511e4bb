"""The configuration of one assistant's gateway: `openclaw.json`, `secrets.json`, and how a new wish joins the old file.

Pure functions. The keys are those of OpenClaw 2026.9.6, checked with its own `config validate` and by running it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from clawhaven.core.errors import Invalid
from clawhaven.ports.runtime import Layout

ModelApi = Literal["anthropic-messages", "openai-completions", "openai-responses"]
SessionScope = Literal["main", "per-peer", "per-channel-peer"]
Json = dict[str, Any]

CONFIG_PATH = "state/openclaw.json"
SECRETS_PATH = "secrets/secrets.json"
SECRETS_PROVIDER = "cell"
MODEL_PROVIDER = "house"

PERSONAL_TOOLS: Mapping[str, Any] = {
    # Chat, files of the workspace, web pages, reminders, memory; no shell. Measured: a greeting sends 24 KB to the
    # model, 48 KB with OpenClaw's own defaults.
    "profile": "messaging",
    "alsoAllow": ["read", "write", "edit", "web_fetch", "web_search", "automations", "memory_search", "memory_get"],
    "deny": ["gateway", "secrets", "theme", "apply_patch"],
    "toolSearch": True,
    "fs": {"workspaceOnly": True},
    "elevated": {"enabled": False},
}

BUNDLED_SKILLS: Sequence[str] = ("weather",)
"""Of OpenClaw's 22 skills, whose list costs 6 KB in every request, those that work without a shell."""

_REPLACED = (
    "channels",
    f"models.providers.{MODEL_PROVIDER}",
    f"secrets.providers.{SECRETS_PROVIDER}",
    "tools.web",
    "tts",
    "cron.enabled",
    "plugins.load",
    "plugins.slots.memory",
    "skills.load",
)
"""Subtrees that are ours as a whole: what OpenClaw may have added inside them does not survive a new configuration.
The last six are skills': one that is turned off leaves nothing behind."""


def secret_ref(pointer: str) -> Json:
    """A reference to `pointer` (`/telegram/botToken`) in the instance's secrets file."""
    return {"source": "file", "provider": SECRETS_PROVIDER, "id": pointer}


def build_config(
    layout: Layout,
    *,
    name: str,
    instance_id: str,
    model: str,
    model_api: ModelApi,
    max_output_tokens: int,
    context_window: int,
    origins: Sequence[str],
    channels: Mapping[str, Mapping[str, Any]],
    owners: Sequence[str] = (),
    emoji: str | None = None,
    thinking: str = "off",
    session_scope: SessionScope = "per-channel-peer",
    tools: Mapping[str, Any] = PERSONAL_TOOLS,
    skills: Sequence[str] = BUNDLED_SKILLS,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """The text of `openclaw.json`.

    `channels` holds each Channel provider's section; `owners` are `<channel>:<user id>`; `origins` are the addresses
    from which a browser may open the gateway's own page. `extra` is merged over everything (skills, expert settings).
    Nothing in it spends money by itself: heartbeat, dreaming, workshop and update checks are off.
    """
    config: Json = {
        "gateway": {
            "mode": "local",
            "bind": layout.bind,
            "port": layout.gateway_port,
            "auth": {
                "mode": "token",
                "token": secret_ref("/gateway/token"),
                "rateLimit": {"maxAttempts": 10, "windowMs": 60_000, "lockoutMs": 300_000},
            },
            "trustedProxies": list(layout.trusted_proxies),
            "controlUi": {"allowedOrigins": list(origins), "communityInvite": False},
            "terminal": {"enabled": False},
        },
        "agents": {
            "defaults": {
                "workspace": layout.workspace_dir,
                "skipBootstrap": True,
                "heartbeat": {"every": "0m"},
                "model": {"primary": f"{MODEL_PROVIDER}/{model}"},
                "thinkingDefault": thinking,
            },
            "entries": {"main": {"identity": {"name": name, **({"emoji": emoji} if emoji else {})}}},
        },
        "models": {
            "mode": "merge",
            "catalogRefresh": {"enabled": False},
            "providers": {
                MODEL_PROVIDER: _model_provider(
                    layout, instance_id, model, model_api, max_output_tokens, context_window, thinking != "off"
                )
            },
        },
        "secrets": {
            "providers": {SECRETS_PROVIDER: {"source": "file", "path": layout.secrets_file, "mode": "json"}},
        },
        "session": {"dmScope": session_scope},
        "tools": copy.deepcopy(dict(tools)),
        "skills": {"workshop": {"autonomous": {"mode": "off"}}, "allowBundled": list(skills)},
        "browser": {"enabled": False},
        "commands": {"config": False, "debug": False, "bash": False, "plugins": False, "mcp": False, "restart": False},
        "logging": {"file": f"{layout.state_dir}/logs/gateway.jsonl", "maxFileBytes": 10_000_000},
        "update": {"checkOnStart": False, "auto": {"enabled": False}},
        "discovery": {"mdns": {"mode": "off"}},
        "plugins": {
            "entries": {
                "admin-http-rpc": {"enabled": True},
                "browser": {"enabled": False},
                "canvas": {"enabled": False},
                "memory-core": {"config": {"dreaming": {"enabled": False}}},
            }
        },
        "channels": {channel: copy.deepcopy(dict(section)) for channel, section in channels.items()},
    }
    if owners:
        config["commands"]["ownerAllowFrom"] = list(owners)
    if extra:
        config = _overlay(config, extra)
    return _dump(config)


def _model_provider(
    layout: Layout,
    instance_id: str,
    model: str,
    api: ModelApi,
    max_output_tokens: int,
    context_window: int,
    is_reasoning: bool,
) -> Json:
    return {
        # The Anthropic client adds /v1 itself, the OpenAI clients expect it in the address.
        "baseUrl": layout.proxy_url if api == "anthropic-messages" else f"{layout.proxy_url}/v1",
        "api": api,
        "apiKey": secret_ref("/house/key"),
        "timeoutSeconds": 120,
        "headers": {"X-Instance-Id": instance_id},
        "models": [
            {
                "id": model,
                "name": model,
                "reasoning": is_reasoning,
                "input": ["text", "image"],
                "contextWindow": context_window,
                "maxTokens": max_output_tokens,
            }
        ],
    }


def build_secrets(gateway_token: str, proxy_key: str, channel_secrets: Mapping[str, str]) -> str:
    """The text of `secrets.json`. `channel_secrets` maps JSON pointers (`/telegram/botToken`) to values.

    Raises Invalid for a pointer that is malformed or would overwrite another value.
    """
    tree: Json = {"gateway": {"token": gateway_token}, "house": {"key": proxy_key}}
    for pointer, value in channel_secrets.items():
        parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")]
        if len(parts) < 2 or parts[0] or not all(parts[1:]):
            raise Invalid("A secret needs a JSON pointer such as /telegram/botToken.", field=pointer)
        node = tree
        for part in parts[1:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise Invalid("Two secrets claim the same place.", field=pointer)
        if parts[-1] in node:
            raise Invalid("Two secrets claim the same place.", field=pointer)
        node[parts[-1]] = value
    return _dump(tree)


def merge_config(current_text: str, wanted_text: str, previous_text: str | None = None) -> str:
    """The file to write when `wanted_text` replaces our part of what OpenClaw has made of it.

    OpenClaw keeps keys of its own in the file (`meta`, plugin entries, the first owner): those stay. Ours win; lists
    are replaced whole, and so are channels, our model provider and our secrets source. With `previous_text` (what we
    last wanted) a key that we no longer want is removed as well. A current file that is not JSON is replaced.
    """
    wanted = json.loads(wanted_text)
    try:
        current = json.loads(current_text)
    except ValueError:
        return _dump(wanted)
    if not isinstance(current, dict):
        return _dump(wanted)
    if previous_text is not None:
        current = _without(current, json.loads(previous_text), wanted)
    for plugin in _loaded_plugins(current):
        _cut(current, ["plugins", "entries", plugin])
    for path in _REPLACED:
        _cut(current, path.split("."))
    return _dump(_overlay(current, wanted))


def _loaded_plugins(current: Json) -> list[str]:
    """Ids of the plugins that we had it load from folders, each called like its plugin: their entries are ours too."""
    paths: Any = current
    for key in ("plugins", "load", "paths"):
        paths = paths.get(key) if isinstance(paths, dict) else None
    return [str(path).rpartition("/")[2] for path in paths] if isinstance(paths, list) else []


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> Json:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            merged[key] = _overlay(under, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _without(current: Json, previous: Mapping[str, Any], wanted: Mapping[str, Any]) -> Json:
    """`current` less the leaves that `previous` had and `wanted` has no more."""
    kept: Json = {}
    for key, value in current.items():
        if key not in previous:
            kept[key] = value
            continue
        before, after = previous[key], wanted.get(key)
        if isinstance(value, dict) and isinstance(before, Mapping):
            rest = _without(value, before, after if isinstance(after, Mapping) else {})
            if rest or key in wanted:
                kept[key] = rest
        elif key in wanted:
            kept[key] = value
    return kept


def _cut(tree: Json, path: Sequence[str]) -> None:
    """Take a subtree out, and what is empty without it."""
    first, *rest = path
    below = tree.get(first)
    if rest and isinstance(below, dict):
        _cut(below, rest)
    if not rest or below == {}:
        tree.pop(first, None)


def _dump(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
