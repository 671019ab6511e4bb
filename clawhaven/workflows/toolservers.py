"""Our tool servers among an assistant's files: for each integration that is attached to it."""

from __future__ import annotations

from clawhaven.context import Context
from clawhaven.instances import servers
from clawhaven.instances.models import Instance
from clawhaven.integrations import attachments
from clawhaven.integrations.models import IntegrationAttachment
from clawhaven.ports.runtime import File, Layout


def join(ctx: Context, instance: Instance, layout: Layout, config_text: str) -> str:
    """The configuration with the servers of this assistant."""
    return servers.add(config_text, layout.proxy_url, [one.vendor for one in _attached(ctx, instance)])


def render(ctx: Context, instance: Instance) -> list[File]:
    """What its gateway shows each server. They are written before the configuration that names them."""
    return [
        File(servers.path_of(one.vendor), servers.header_file(attachments.token_of(one, ctx.keys)))
        for one in _attached(ctx, instance)
    ]


def empty(ctx: Context, instance: Instance, current: str) -> list[File]:
    """The same for what was taken away since `current` was written, emptied. They are written after it."""
    attached = [one.vendor for one in _attached(ctx, instance)]
    left = servers.left_behind(current, list(ctx.integrations), attached)
    return [File(servers.path_of(vendor), servers.NOTHING) for vendor in left]


def _attached(ctx: Context, instance: Instance) -> list[IntegrationAttachment]:
    with ctx.db.read() as db:
        return [one for one in attachments.list_of(db, instance.id) if one.vendor in ctx.integrations]
