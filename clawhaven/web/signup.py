"""From an email address to a payment page; the waitlist when every place is taken."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts.signup import normalise_email
from clawhaven.billing import waitlist
from clawhaven.context import Context
from clawhaven.core.errors import AppError, AtCapacity, Conflict, Invalid, PaymentRequired, RateLimited, Unavailable
from clawhaven.instances import connections, drafts, workspace
from clawhaven.web import deps, words
from clawhaven.web.deps import AnyForm, Anyone, Ctx, OwnForm, Visitor
from clawhaven.web.pages import offers
from clawhaven.web.render import page
from clawhaven.workflows import checkout
from clawhaven.workflows.checkout import Form

router = APIRouter()

KEPT = ("email", "assistant_name", "custom_instructions", "persona", "plan", "coupon")


@router.get("/configure")
def show_form(request: Request, ctx: Ctx, visitor: Anyone, email: str = "", plan: str = "") -> Response:
    """The form; with every place taken, the waitlist."""
    try:
        with ctx.db.read() as db:
            checkout.refuse_when_full(db, ctx, visitor.owner.account.id if visitor.owner else None)
    except AtCapacity as full:
        return page(request, "waitlist.html", message=full.message, email=email[:320], error="", position=0)
    return _form(request, ctx, {"email": email[:320], "plan": plan}, {})


@router.post("/configure")
def submit_form(request: Request, ctx: Ctx, visitor: Anyone, form: AnyForm) -> Response:
    """Check everything, make account, draft and checkout, and lead to the payment page."""
    values = {name: form.get(name) for name in KEPT}
    values["email"] = values["email"].strip()
    if "begin" in form.values:  # the landing page's email field: nothing is made yet
        return show_form(request, ctx, visitor, values["email"])
    if not form.is_genuine:
        return _form(request, ctx, values, {"form": deps.STALE}, 403)
    wanted = _wanted(ctx, form.values)
    errors = check(ctx, visitor, values, wanted)
    if errors:
        return _form(request, ctx, values, errors, 400)
    try:
        deps.limit(ctx, f"sign-up:{deps.client_address(request)}", ctx.settings.sign_up_per_minute)
        begun = (
            checkout.add_instance(ctx, visitor.owner, wanted)
            if visitor.owner
            else checkout.sign_up(ctx, values["email"], wanted, request.headers.get("user-agent", ""))
        )
    except AtCapacity as full:
        return page(
            request, "waitlist.html", full.status, message=full.message, email=values["email"], error="", position=0
        )
    except (Invalid, Conflict, PaymentRequired, RateLimited, Unavailable) as error:
        return _refused(request, ctx, values, error)
    response = RedirectResponse(begun.checkout_url, 303)
    if begun.session is not None:
        deps.keep_session(ctx, response, begun.session)
    return response


@router.get("/waitlist")
def show_waitlist(request: Request, _visitor: Anyone) -> Response:
    """Where to leave an address."""
    return page(request, "waitlist.html", message="", email="", error="", position=0)


@router.post("/waitlist")
def join_waitlist(request: Request, ctx: Ctx, form: OwnForm) -> Response:
    """Queue; the same address again keeps its place."""
    deps.limit(ctx, f"sign-up:{deps.client_address(request)}", ctx.settings.sign_up_per_minute)
    given = form.get("email").strip()[:320]
    try:
        email = normalise_email(given)
    except Invalid as error:
        return page(request, "waitlist.html", 400, message="", email=given, error=error.message, position=0)
    with ctx.db.tx() as db:
        position = waitlist.join(db, email, ctx.clock.now())
    return page(request, "waitlist.html", message="", email=email, error="", position=position)


def check(ctx: Context, visitor: Visitor, values: Mapping[str, str], wanted: Form) -> dict[str, str]:
    """Field -> what is wrong with it, for all fields at once. What only the outside knows comes later."""
    personas = workspace.list_personas(ctx.settings.templates_dir)
    errors: dict[str, str] = {}

    def note(field: str, error: AppError) -> None:
        errors.setdefault(str(error.details.get("field", field)), error.message)

    if visitor.owner is None:
        try:
            normalise_email(values["email"])
        except Invalid as error:
            note("email", error)
    errors |= check_draft_fields(values, personas)
    try:
        ctx.plans.offered(wanted.plan)
    except Invalid as error:
        note("plan", error)
    for channel, given in wanted.channels.items():
        try:
            connections.check_fields(ctx.channels[channel], given)
        except Invalid as error:
            note("form", error)
    return errors


def check_draft_fields(values: Mapping[str, str], personas: list[str]) -> dict[str, str]:
    """Field -> what is wrong with name, persona and instructions, each on its own."""
    errors = {}
    fine = {"assistant_name": "A", "persona": personas[0], "custom_instructions": ""}
    for field in fine:
        one = fine | {field: values[field]}
        try:
            drafts.check_draft(one["assistant_name"], one["persona"], one["custom_instructions"], personas)
        except Invalid as error:
            errors[field] = error.message
    return errors


def _wanted(ctx: Context, values: Mapping[str, str]) -> Form:
    given = {
        name: {field.name: values.get(field.name, "").strip() for field in channel.fields}
        for name, channel in ctx.channels.items()
    }
    return Form(
        assistant_name=values.get("assistant_name", ""),
        custom_instructions=values.get("custom_instructions", ""),
        plan=values.get("plan", ""),
        persona=values.get("persona", ""),
        channels={name: fields for name, fields in given.items() if any(fields.values())},
        coupon=values.get("coupon", "").strip()[:40],
    )


def _refused(request: Request, ctx: Context, values: dict[str, str], error: AppError) -> Response:
    errors = {str(error.details.get("field", "form")): error.message}
    answer = _form(request, ctx, values, errors, error.status, sign_in_url=error.details.get("sign_in_url"))
    if isinstance(error, RateLimited):
        answer.headers["Retry-After"] = str(error.details["retry_after"])
    return answer


def _form(
    request: Request,
    ctx: Context,
    values: Mapping[str, str],
    errors: Mapping[str, str],
    status: int = 200,
    sign_in_url: str | None = None,
) -> Response:
    offered = offers(ctx.plans)
    personas = [(name, *words.persona(name)) for name in workspace.list_personas(ctx.settings.templates_dir)]
    plan_ids = [plan.id for plan, _ in offered]
    kept = {name: values.get(name, "") for name in KEPT}
    if kept["plan"] not in plan_ids and "plan" not in errors:
        kept["plan"] = plan_ids[0] if plan_ids else ""
    if not kept["persona"]:
        kept["persona"] = personas[0][0]
    return page(
        request,
        "configure.html",
        status,
        offers=offered,
        personas=personas,
        channels=list(ctx.channels.values()),
        values=kept,
        errors=dict(errors),
        sign_in_url=sign_in_url,
        max_instructions=drafts.MAX_INSTRUCTIONS,
        max_name=drafts.MAX_NAME,
        minimum_micros=ctx.settings.micros("wallet_minimum"),
    )
