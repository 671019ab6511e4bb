"""The way in: an email address and a plan on one screen; the waitlist when every place is taken."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts.signup import Owner, normalise_email
from clawhaven.billing import waitlist
from clawhaven.context import Context
from clawhaven.core.errors import AppError, AtCapacity, Conflict, Invalid, RateLimited
from clawhaven.instances import drafts
from clawhaven.web import deps
from clawhaven.web.deps import AnyForm, Anyone, Ctx, OwnForm, SignedIn, Visitor
from clawhaven.web.pricing import offers
from clawhaven.web.render import page
from clawhaven.workflows import checkout, onboarding

router = APIRouter()


@router.get("/configure")
def begin(request: Request, ctx: Ctx, visitor: Anyone, email: str = "", plan: str = "") -> Response:
    """The first screen; whoever has begun already goes on where they were. With every place taken, the waitlist."""
    values = {"email": email[:320], "plan": plan}
    if visitor.owner is None:
        return _screen(request, ctx, visitor, values)
    with ctx.db.read() as db:
        row = drafts.find_open(db, visitor.owner.account.id)
    if row is not None and not plan:
        return RedirectResponse(f"/configure/{row.step}", 303)
    return _screen(request, ctx, visitor, values)


@router.get("/configure/plan")
def show_plan(request: Request, ctx: Ctx, owner: SignedIn, visitor: Anyone) -> Response:
    """The plan once more, to be changed."""
    with ctx.db.read() as db:
        row = drafts.find_open(db, owner.account.id)
    return _screen(request, ctx, visitor, {"email": "", "plan": row.plan if row else ""})


@router.post("/configure")
def choose(request: Request, ctx: Ctx, visitor: Anyone, form: AnyForm) -> Response:
    """Open the account, signed in, or take the plan of somebody who has one; then on to the assistant."""
    values = {"email": form.get("email").strip()[:320], "plan": form.get("plan")}
    if "begin" in form.values:  # the landing page's email field: nothing is made yet
        return begin(request, ctx, visitor, values["email"])
    if not form.is_genuine:
        return _screen(request, ctx, visitor, values, {"form": deps.STALE}, 403)
    errors = _check(ctx, visitor.owner, values)
    if errors:
        return _screen(request, ctx, visitor, values, errors, 400)
    response = RedirectResponse("/configure/assistant", 303)
    try:
        if visitor.owner is None:
            deps.limit(ctx, f"sign-up:{deps.client_address(request)}", ctx.settings.sign_up_per_minute)
            agent = request.headers.get("user-agent", "")
            begun = onboarding.sign_up(ctx, values["email"], values["plan"], agent)
            deps.keep_session(ctx, response, begun.session)
        else:
            with ctx.db.tx() as db:
                onboarding.choose_plan(db, ctx, visitor.owner.account.id, values["plan"])
    except AtCapacity as full:
        return _waitlist(request, values["email"], full.message, full.status)
    except (Invalid, Conflict, RateLimited) as error:
        return _refused(request, ctx, visitor, values, error)
    return response


@router.get("/waitlist")
def show_waitlist(request: Request, _visitor: Anyone) -> Response:
    """Where to leave an address."""
    return _waitlist(request, "", "")


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


def full_house(request: Request, full: AtCapacity, email: str = "") -> Response:
    """The waitlist, for whoever came to order."""
    return _waitlist(request, email, full.message, full.status)


def _check(ctx: Context, owner: Owner | None, values: Mapping[str, str]) -> dict[str, str]:
    errors = {}
    if owner is None:
        try:
            normalise_email(values["email"])
        except Invalid as error:
            errors["email"] = error.message
    try:
        ctx.plans.offered(values["plan"])
    except Invalid as error:
        errors["plan"] = error.message
    return errors


def _refused(request: Request, ctx: Context, visitor: Visitor, values: Mapping[str, str], error: AppError) -> Response:
    field = str(error.details.get("field", "form"))
    is_known = field == "email" and isinstance(error, Conflict)
    answer = _screen(request, ctx, visitor, values, {field: error.message}, error.status, is_known=is_known)
    if isinstance(error, RateLimited):
        answer.headers["Retry-After"] = str(error.details["retry_after"])
    return answer


def _waitlist(request: Request, email: str, message: str, status: int = 200) -> Response:
    return page(request, "waitlist.html", status, message=message, email=email[:320], error="", position=0)


def _screen(
    request: Request,
    ctx: Context,
    visitor: Visitor,
    values: Mapping[str, str],
    errors: Mapping[str, str] | None = None,
    status: int = 200,
    *,
    is_known: bool = False,
) -> Response:
    account_id = visitor.owner.account.id if visitor.owner else None
    with ctx.db.read() as db:
        try:
            checkout.refuse_when_full(db, ctx, account_id)
        except AtCapacity as full:
            return _waitlist(request, values["email"], full.message)
        row = drafts.find_open(db, account_id) if account_id else None
        unpaid = onboarding.unpaid_order(db, account_id) if account_id else None
    offered = offers(ctx.plans)
    ids = [plan.id for plan, _ in offered]
    chosen = values["plan"] if values["plan"] in ids or (errors and "plan" in errors) else (ids[0] if ids else "")
    return page(
        request,
        "wizard_plan.html",
        status,
        offers=offered,
        values={**values, "plan": chosen},
        errors=dict(errors or {}),
        is_known=is_known,
        row=row,
        unpaid=unpaid,
        minimum_micros=ctx.settings.micros("wallet_minimum"),
    )
