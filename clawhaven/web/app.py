"""The web site as one application. The process that serves it mounts it at `/`, beside the API and the proxy."""

from __future__ import annotations

from fastapi import FastAPI

from clawhaven.context import Context
from clawhaven.web import (
    admin,
    appearance,
    auth,
    billing,
    brand,
    channels,
    chat,
    checkout,
    dashboard,
    deploying,
    errors,
    instances,
    languages,
    ledger,
    legal,
    logs,
    metrics,
    ownkey,
    pages,
    signup,
    spending,
    style,
    topup,
    usage,
)
from clawhaven.web.guards import Guard, headers_for
from clawhaven.web.render import HERE, LastingFiles

ROUTERS = (
    pages.router,
    appearance.router,
    signup.router,
    checkout.router,
    deploying.router,
    auth.router,
    dashboard.router,
    usage.router,
    spending.router,
    ledger.router,
    billing.router,
    topup.router,
    instances.router,
    ownkey.router,
    chat.router,
    channels.router,
    logs.router,
    admin.router,
    style.router,
    legal.router,
    metrics.router,
)


def create_app(ctx: Context) -> FastAPI:
    """The site of this installation."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.ctx = ctx
    app.state.brand = brand.load(ctx.settings)
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", LastingFiles(directory=HERE / "static"))
    app.add_middleware(languages.InLanguage)
    app.add_middleware(Guard, headers=headers_for(ctx))
    errors.install(app)
    return app
