"""The files of an instance: our content (rooms) laid out for its runtime, with its channels' sections."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from clawhaven.context import Context
from clawhaven.instances import config, connections, equipment, servers, skillset, workspace
from clawhaven.instances.drafts import GATEWAY_PURPOSE, PROXY_KEY_PURPOSE
from clawhaven.instances.equipment import Equipment
from clawhaven.instances.models import Connection, Instance
from clawhaven.instances.skills import Skill
from clawhaven.instances.skillset import Choice
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import GatewayAddress
from clawhaven.ports.runtime import File, Layout, Placement
from clawhaven.workflows import toolservers

CONFIG = "state/openclaw.json"
SECRETS = "secrets/secrets.json"
SECRETS_PROVIDER = "cell"

MAX_OUTPUT_TOKENS = 8192
"""What one answer may cost at most is reserved before each call; a chat needs no more than this."""

APIS: dict[str, config.ModelApi] = {"openai": "openai-completions"}
"""Upstream -> the gateway's word for the dialect; every other upstream speaks Anthropic Messages."""


SHAPE_ID, SHAPE_NAME, SHAPE_PORT = "ins_0", "Assistant", 18789
"""What stands for an assistant's id, name and port in a configuration that OpenClaw is asked about."""

LEARNED = frozenset({"USER.md", "IDENTITY.md"})


def load(ctx: Context, instance_id: str) -> tuple[Instance, list[Connection]]:
    """The instance and its channels as they are now."""
    with ctx.db.read() as db:
        return db.get_one(Instance, instance_id), connections.list_connections(db, instance_id)


def render_config(ctx: Context, instance: Instance, channels: Sequence[Connection], layout: Layout) -> str:
    """The wanted `openclaw.json`. A channel nobody has claimed yet is left out: the bot serves no one."""
    price = ctx.prices.find(instance.model, ctx.clock.now())
    if price is None:
        raise ProviderError(f"the model {instance.model} has no price", permanent=True, code="config_invalid")
    equipped = _equip(ctx, instance, layout.state_dir)
    text = config.build_config(
        layout,
        name=instance.name,
        instance_id=instance.id,
        model=instance.model,
        model_api=APIS.get(price.upstream, "anthropic-messages"),
        max_output_tokens=min(price.max_output_tokens, MAX_OUTPUT_TOKENS),
        context_window=price.context_window,
        origins=[ctx.settings.base_url],
        channels={channel.channel: _section(ctx, channel)[0] for channel in channels if channel.owner_external_id},
        owners=[f"{channel.channel}:{channel.owner_external_id}" for channel in channels if channel.owner_external_id],
        tools=equipped.tools,
        skills=equipped.bundled,
        extra=equipped.extra,
    )
    return toolservers.join(ctx, instance, layout, text)


def render_secrets(ctx: Context, instance: Instance, channels: Sequence[Connection]) -> str:
    """`secrets.json`: the gateway's token, its key for our proxy, its bots' tokens, and the keys of its skills."""
    channel_secrets = dict(_equip(ctx, instance).secrets)
    for channel in channels:
        channel_secrets.update(_section(ctx, channel)[1])
    return config.build_secrets(
        ctx.keys.open(instance.gateway_token, GATEWAY_PURPOSE),
        ctx.keys.open(instance.proxy_key, PROXY_KEY_PURPOSE),
        channel_secrets,
    )


def render_workspace(ctx: Context, instance: Instance) -> list[File]:
    """AGENTS, SOUL, USER and IDENTITY from persona and instructions. The assistant itself goes on writing in the last
    two (what it learns of its owner): once there, they are never written over."""
    rendered = workspace.render(instance.persona, instance.name, instance.instructions, ctx.settings.templates_dir)
    return [File(f"state/workspace/{name}", content, keep=name in LEARNED) for name, content in rendered.items()]


def render_all(ctx: Context, instance: Instance, channels: Sequence[Connection], layout: Layout) -> list[File]:
    """Everything a new instance starts with."""
    return [
        File(CONFIG, render_config(ctx, instance, channels, layout)),
        File(SECRETS, render_secrets(ctx, instance, channels)),
        *_render_skills(ctx, instance),
        *toolservers.render(ctx, instance),
        *render_workspace(ctx, instance),
    ]


def check_config(ctx: Context, instance: Instance, text: str) -> None:
    """Ask the pinned OpenClaw. Raises ProviderError(config_invalid) with what it said.

    Its answer takes seconds and is remembered by content, so what is asked about is the same for all assistants of
    one shape: the name, which we have checked ourselves, the id and the port are put in only afterwards.
    """
    tree = json.loads(text)
    tree["gateway"]["port"] = SHAPE_PORT
    tree["agents"]["entries"]["main"]["identity"]["name"] = SHAPE_NAME
    servers.without_headers(tree)
    problems = ctx.runtime(instance.runtime).validate(json.dumps(tree, indent=2).replace(instance.id, SHAPE_ID))
    if problems:
        raise ProviderError("; ".join(problems)[:500], permanent=True, code="config_invalid")


def check_default_shape(ctx: Context, runtime: str, model: str) -> None:
    """Ask ahead what `check_config` will ask for the next new assistant on this runtime with this model."""
    layout = ctx.runtime(runtime).layout(SHAPE_ID, SHAPE_PORT)
    instance = _stand_in(runtime, model)
    check_config(ctx, instance, render_config(ctx, instance, [], layout))


def render_rehearsal(ctx: Context, runtime: str, model: str, layout: Layout) -> list[File]:
    """The files of a gateway that nobody owns, boots once and opens no door: its secrets are made up here."""
    made_up = config.build_secrets(secrets.token_hex(32), secrets.token_hex(32), {})
    return [File(CONFIG, render_config(ctx, _stand_in(runtime, model), [], layout)), File(SECRETS, made_up)]


def apply_config(ctx: Context, instance_id: str) -> None:
    """Bring a living instance's settings up to date, keeping what the gateway itself has added to its config."""
    instance, channels = load(ctx, instance_id)
    runtime = ctx.runtime(instance.runtime)
    placement = instance.placement
    if placement is None:
        raise ProviderError("the assistant has no place yet", permanent=True, code="not_placed")
    layout = runtime.layout(instance.id, port_of(placement))
    current = runtime.read(placement, CONFIG) or "{}"
    merged = config.merge_config(servers.remove(current), render_config(ctx, instance, channels, layout))
    check_config(ctx, instance, merged)
    secrets_file = File(SECRETS, render_secrets(ctx, instance, channels))
    # The configuration last: what it speaks of is there when the gateway reads it.
    before = [secrets_file, *_render_skills(ctx, instance), *toolservers.render(ctx, instance)]
    runtime.apply(placement, [*before, File(CONFIG, merged), *toolservers.empty(ctx, instance, current)])


def address_at(ctx: Context, instance: Instance, url: str) -> GatewayAddress:
    """The gateway at this URL, with the token that opens it."""
    return GatewayAddress(url, ctx.keys.open(instance.gateway_token, GATEWAY_PURPOSE))


def address(ctx: Context, instance: Instance) -> GatewayAddress | None:
    """Where this instance's gateway answers now, or None when it does not run."""
    if instance.placement is None or instance.runtime not in ctx.runtimes:
        return None
    seen = ctx.runtimes[instance.runtime].observe(instance.placement)
    if seen.status != "running" or seen.address is None:
        return None
    return address_at(ctx, instance, seen.address)


def port_of(placement: Placement) -> int:
    """The loopback port, which every runtime of ours keeps in its placement under `port`."""
    return int(placement["port"])


def _stand_in(runtime: str, model: str) -> Instance:
    return Instance(id=SHAPE_ID, name=SHAPE_NAME, model=model, runtime=runtime)


def skills_of(ctx: Context, instance: Instance) -> list[Skill]:
    """The skills that it really has: wanted, offered here, with their key, and with what they need."""
    with ctx.db.read() as db:
        choices = skillset.choices_of(db, instance.id)
    return _working(ctx, instance, choices)


def _working(ctx: Context, instance: Instance, choices: Mapping[str, Choice]) -> list[Skill]:
    return equipment.working(ctx.skills, choices, instance.plan, instance.runtime, ctx.skill_vendors)


def _equip(ctx: Context, instance: Instance, state_dir: str = "") -> Equipment:
    with ctx.db.read() as db:
        choices = skillset.choices_of(db, instance.id)
    on = _working(ctx, instance, choices)
    vendors = {
        skill.id: ctx.skill_vendors[skill.vendor].config(
            skillset.open_key(choices[skill.id], ctx.keys), SECRETS_PROVIDER
        )
        for skill in on
        if skill.vendor
    }
    return equipment.equip(ctx.skills, on, vendors, state_dir)


def _render_skills(ctx: Context, instance: Instance) -> list[File]:
    return [File(path, text) for path, text in _equip(ctx, instance).files.items()]


def _section(ctx: Context, connection: Connection) -> tuple[dict[str, Any], dict[str, str]]:
    channel = ctx.channels[connection.channel]
    owners = (connection.owner_external_id,) if connection.owner_external_id else ()
    built = channel.config(connections.credentials_of(connection, ctx.keys), "allowlist", owners, SECRETS_PROVIDER)
    return dict(built.config), dict(built.secrets)
