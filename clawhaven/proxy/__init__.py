"""DOOR: the model proxy between instances and LLM vendors. `create_app(ctx)` is a raw ASGI application."""

from clawhaven.proxy.app import ProxyApp, create_app
from clawhaven.proxy.desk import ProxyContext

__all__ = ["ProxyApp", "ProxyContext", "create_app"]
