"""Progress for anybody who holds the unguessable id, health for monitors, personas for forms."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from clawhaven import __version__
from clawhaven.accounts import sessions
from clawhaven.api.bodies import TelegramBody
from clawhaven.api.deps import Ctx, limit, session_token
from clawhaven.billing import subscriptions
from clawhaven.core.errors import NotFound
from clawhaven.instances import connections, operations, states, workspace
from clawhaven.instances.models import Instance
from clawhaven.workflows import checkout

router = APIRouter(tags=["status"])


@router.get("/status/{instance_id}")
def status(instance_id: str, request: Request, ctx: Ctx) -> dict[str, Any]:
    """Where an assistant is on its way. Without a sign-in: progress only, no names, links or addresses."""
    limit(ctx, request, "status", ctx.settings.api_per_minute * 10)
    token = session_token(request, ctx)
    with ctx.db.read() as db:
        instance = db.get(Instance, instance_id)
        if instance is None:
            raise NotFound("There is no such assistant.")
        shown = operations.under_way(db, instance_id) or operations.latest(db, instance_id)
        steps = operations.as_json(db, shown)["steps"] if shown else []
        answer: dict[str, Any] = {
            "instance_id": instance.id,
            "status": instance.state,
            "suspended_for": [str(reason) for reason in states.reasons(instance)],
            "operation": shown.kind if shown else None,
            "steps": steps,
            "error": instance.failure_code,
            "message": instance.failure_message,
        }
        owner = sessions.find_session(db, token, ctx.clock.now()) if token else None
        if owner is None or owner.account.id != instance.account_id:
            return answer
        subscription = subscriptions.of_instance(db, instance_id)
        bots = connections.list_connections(db, instance_id)
        telegram = next((bot for bot in bots if bot.channel == "telegram"), None)
        return answer | {
            "customer_id": owner.account.id,
            "email": owner.user.email,
            "assistant_name": instance.name,
            "url": f"{ctx.settings.base_url}/instances/{instance.id}",
            "telegram_bot_username": f"@{telegram.bot_username}" if telegram else None,
            "telegram_url": connections.claim_url(telegram, ctx.keys) or telegram.bot_url if telegram else None,
            "created_at": instance.created_at.isoformat(),
            "paid_at": instance.paid_at.isoformat() if instance.paid_at else None,
            "subscription_status": subscription.state if subscription else None,
            "current_period_end": subscription.period_end_at.isoformat() if subscription else None,
        }


@router.post("/config/validate")
def validate(body: TelegramBody, request: Request, ctx: Ctx) -> dict[str, Any]:
    """Ask Telegram whose bot this token is, before anything is saved. The token is not stored."""
    limit(ctx, request, "sign-up", ctx.settings.sign_up_per_minute)
    _, bot = checkout.probe_channel(ctx, checkout.TELEGRAM, {"telegram_bot_token": body.telegram_bot_token})
    return {"valid": True, "bot_username": bot.username, "bot_url": bot.url}


@router.get("/personas")
def personas(ctx: Ctx) -> dict[str, Any]:
    """Personas an assistant can start with."""
    return {"items": workspace.list_personas(ctx.settings.templates_dir)}


@router.get("/health/live")
def live() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok", "version": __version__}


@router.get("/health")
@router.get("/health/ready")
def ready(ctx: Ctx) -> JSONResponse:
    """This process can serve: the database answers. 503 otherwise."""
    try:
        with ctx.db.read() as db:
            db.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return JSONResponse({"status": "down", "version": __version__, "checks": {"database": "down"}}, status_code=503)
    return JSONResponse({"status": "ok", "version": __version__, "checks": {"database": "ok"}})
