"""The web site as one application. The process that serves it mounts it at `/`, beside the API and the proxy."""

from __future__ import annotations

from fastapi import FastAPI

from clawhaven.context import Context
from clawhaven.web import (
    admin,
    appearance,
    auth,
    backups,
    billing,
    brand,
    channels,
    chat,
    checkout,
    configuration,
    dashboard,
    deploying,
    docs,
    errors,
    files,
    health,
    instances,
    integrations,
    languages,
    ledger,
    legal,
    logs,
    metrics,
    oversight,
    ownkey,
    pages,
    prepared,
    pricing,
    programs,
    settings,
    signup,
    skills,
    spending,
    style,
    topup,
    trial,
    usage,
    wizard,
    wizard_skills,
)
from clawhaven.web.guards import Guard, headers_for
from clawhaven.web.render import HERE, LastingFiles

ROUTERS = (
    pages.router,
    pricing.router,
    docs.router,
    health.router,
    trial.router,
    appearance.router,
    signup.router,
    wizard.router,
    wizard_skills.router,
    checkout.router,
    deploying.router,
    auth.router,
    dashboard.router,
    usage.router,
    spending.router,
    ledger.router,
    settings.router,
    prepared.router,
    integrations.router,
    billing.router,
    topup.router,
    instances.router,
    configuration.router,
    files.router,
    backups.router,
    ownkey.router,
    chat.router,
    channels.router,
    skills.router,
    logs.router,
    programs.router,
    admin.router,
    oversight.router,
    style.router,
    legal.router,
    metrics.router,
)


def create_app(ctx: Context) -> FastAPI:
    """The site of this installation."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.ctx = ctx
    app.state.brand = brand.load(ctx.settings)
    app.state.started_at = ctx.clock.now()
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", LastingFiles(directory=HERE / "static"))
    app.add_middleware(languages.InLanguage)
    app.add_middleware(Guard, headers=headers_for(ctx))
    errors.install(app)
    return app
