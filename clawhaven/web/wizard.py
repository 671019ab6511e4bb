"""From the assistant's name to the order, a page for each step. What was chosen waits in the account's open draft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.errors import AppError, AtCapacity, Conflict, Invalid, PaymentRequired, RateLimited, Unavailable
from clawhaven.instances import drafts, workspace
from clawhaven.instances.models import OpenDraft
from clawhaven.metering.models import PlanMode
from clawhaven.web import deps, examples, words
from clawhaven.web.deps import AnyForm, Ctx, OwnForm, RowId, SignedIn
from clawhaven.web.render import page
from clawhaven.web.signup import check_draft_fields, full_house
from clawhaven.workflows import checkout, onboarding, skills

router = APIRouter(prefix="/configure")

WORDS = ("assistant_name", "persona", "custom_instructions")
Refusal = (Invalid, Conflict, PaymentRequired, RateLimited, Unavailable)


@router.get("/assistant")
def show_assistant(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """Who it is: name, persona, instructions, and what it will read about itself."""
    row = _open(ctx, owner)
    return _assistant(request, ctx, row) if row is not None else elsewhere(ctx, owner)


@router.post("/assistant")
def keep_assistant(request: Request, ctx: Ctx, owner: SignedIn, form: AnyForm) -> Response:
    """Check and keep the words, and go on; or stay for an example or a preview."""
    row = _open(ctx, owner)
    if row is None:
        return elsewhere(ctx, owner)
    values = {name: form.get(name) for name in WORDS}
    if not form.is_genuine:
        return _assistant(request, ctx, row, values, {"form": deps.STALE}, 403)
    if "example" in form.values:
        values["custom_instructions"] = examples.add(values["custom_instructions"], form.get("example"))
        return _assistant(request, ctx, row, values)
    errors = check_draft_fields(values, workspace.list_personas(ctx.settings.templates_dir))
    if errors:
        return _assistant(request, ctx, row, values, errors, 400)
    stays = "preview" in form.values
    _keep_words(ctx, owner, values, "assistant" if stays else "model")
    return RedirectResponse("/configure/assistant#preview" if stays else "/configure/model", 303)


@router.post("/assistant/preview")
def preview(ctx: Ctx, owner: SignedIn, form: OwnForm) -> Response:
    """What the assistant will read about itself, while one types. What is fine is kept: a reload loses nothing.

    `seen` tells which state of the draft the page knows; what comes late, after another change, is only shown.
    """
    values = {name: form.get(name) for name in WORDS}
    row = _open(ctx, owner)
    if row is None or check_draft_fields(values, workspace.list_personas(ctx.settings.templates_dir)):
        return JSONResponse({"soul": None, "user": None, "seen": _stamp(row)})
    if form.get("seen") == _stamp(row):
        row = _keep_words(ctx, owner, values, "assistant", form.get("seen"))
    return JSONResponse({**_preview(ctx, values), "seen": _stamp(row)})


@router.get("/model")
def show_model(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """The models there are, with what they cost; on an own-key plan the key first."""
    row = named(ctx, owner)
    return _model(request, ctx, row) if row is not None else elsewhere(ctx, owner)


@router.post("/model")
def keep_model(request: Request, ctx: Ctx, owner: SignedIn, form: AnyForm) -> Response:
    """Keep the choice, or none, and go on."""
    row = named(ctx, owner)
    if row is None:
        return elsewhere(ctx, owner)
    if not form.is_genuine:
        return _model(request, ctx, row, {"form": deps.STALE}, 403)
    try:
        with ctx.db.tx() as db:
            mine = onboarding.open_draft(db, owner.account.id)
            onboarding.choose_model(db, ctx, mine, form.get("model").strip())
            drafts.move_on(db, mine, "channel", ctx.clock.now())
    except Invalid as error:
        return _model(request, ctx, row, {"model": error.message}, error.status)
    return RedirectResponse("/configure/channel", 303)


@router.post("/model/key")
def put_key(request: Request, ctx: Ctx, owner: SignedIn, form: AnyForm) -> Response:
    """Test the customer's key at its vendor, and keep it sealed once it is accepted."""
    row = named(ctx, owner)
    if row is None:
        return elsewhere(ctx, owner)
    if not form.is_genuine:
        return _model(request, ctx, row, {"form": deps.STALE}, 403)
    try:
        onboarding.put_key(ctx, owner, form.get("api_key"), form.get("vendor"))
    except Refusal as error:
        return _model(request, ctx, row, _errors(error, ("api_key", "vendor")), error.status)
    return RedirectResponse("/configure/model?done=draft-key-kept", 303)


@router.post("/model/key/remove")
def forget_key(ctx: Ctx, owner: SignedIn, _form: OwnForm) -> Response:
    """Without the key."""
    with ctx.db.tx() as db:
        row = drafts.find_open(db, owner.account.id)
        if row is not None:
            drafts.forget_key(db, row, ctx.clock.now())
    return RedirectResponse("/configure/model", 303)


@router.get("/channel")
def show_channel(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """Where else to talk to it, besides the browser."""
    row = named(ctx, owner)
    return _channel(request, ctx, row) if row is not None else elsewhere(ctx, owner)


@router.post("/channel")
def leave_channel(ctx: Ctx, owner: SignedIn, _form: OwnForm) -> Response:
    """On to the skills, with whatever is connected."""
    if named(ctx, owner) is None:
        return elsewhere(ctx, owner)
    with ctx.db.tx() as db:
        row = drafts.find_open(db, owner.account.id)
        if row is not None:
            drafts.move_on(db, row, "skills", ctx.clock.now())
    return RedirectResponse("/configure/skills", 303)


@router.post("/channel/{name}")
def connect(request: Request, ctx: Ctx, owner: SignedIn, form: AnyForm, name: RowId) -> Response:
    """Ask the network who the credentials are, then keep them sealed."""
    row = named(ctx, owner)
    if row is None:
        return elsewhere(ctx, owner)
    if not form.is_genuine:
        return _channel(request, ctx, row, {"form": deps.STALE}, 403)
    channel = ctx.channels.get(name)
    fields = tuple(field.name for field in channel.fields) if channel else ()
    try:
        onboarding.connect(ctx, owner, name, {field: form.get(field) for field in fields})
    except Refusal as error:
        return _channel(request, ctx, row, _errors(error, fields), error.status)
    return RedirectResponse("/configure/channel?done=bot-kept", 303)


@router.post("/channel/{name}/remove")
def forget_bot(ctx: Ctx, owner: SignedIn, _form: OwnForm, name: RowId) -> Response:
    """Without this channel."""
    with ctx.db.tx() as db:
        row = drafts.find_open(db, owner.account.id)
        if row is not None:
            drafts.forget_bot(db, row, name, ctx.clock.now())
    return RedirectResponse("/configure/channel", 303)


@router.get("/review")
def show_review(request: Request, ctx: Ctx, owner: SignedIn) -> Response:
    """Everything once more, before it is paid."""
    row = named(ctx, owner)
    if row is None:
        return elsewhere(ctx, owner)
    with ctx.db.tx() as db:
        drafts.move_on(db, onboarding.open_draft(db, owner.account.id), "review", ctx.clock.now())
    return _review(request, ctx, owner, row)


@router.post("/review")
def order(request: Request, ctx: Ctx, owner: SignedIn, form: AnyForm) -> Response:
    """Make it an order and lead to the payment page; sent twice, it is one order."""
    row = named(ctx, owner)
    if row is None:
        return elsewhere(ctx, owner)
    coupon = form.get("coupon")
    if not form.is_genuine:
        return _review(request, ctx, owner, row, {"form": deps.STALE}, 403, coupon)
    try:
        begun = onboarding.order(ctx, owner, coupon)
    except AtCapacity as full:
        return full_house(request, full, owner.user.email)
    except Refusal as error:
        if error.error_code == "draft_changed" and _open(ctx, owner) is None:
            return elsewhere(ctx, owner)
        return _review(request, ctx, owner, row, _errors(error, ("coupon",)), error.status, coupon, _mend_at(error))
    return RedirectResponse(begun.checkout_url, 303)


def _open(ctx: Context, owner: Owner) -> OpenDraft | None:
    with ctx.db.read() as db:
        return drafts.find_open(db, owner.account.id)


def named(ctx: Context, owner: Owner) -> OpenDraft | None:
    """The draft of somebody who has said what the assistant is called; the later steps need it."""
    row = _open(ctx, owner)
    return row if row is not None and row.name else None


def elsewhere(ctx: Context, owner: Owner) -> Response:
    """Where somebody belongs who is at a step they cannot be at: a back button pressed too often, mostly."""
    with ctx.db.read() as db:
        row = drafts.find_open(db, owner.account.id)
        unpaid = onboarding.unpaid_order(db, owner.account.id)
    if row is not None:
        return RedirectResponse("/configure/assistant", 303)
    return RedirectResponse(f"/deploying/{unpaid.instance_id}" if unpaid else "/configure", 303)


def _keep_words(
    ctx: Context, owner: Owner, values: Mapping[str, str], step: str, seen: str | None = None
) -> OpenDraft | None:
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        row = drafts.find_open(db, owner.account.id)
        if row is not None and seen in (None, _stamp(row)):
            onboarding.keep_words(
                db, ctx, row, values["assistant_name"], values["persona"], values["custom_instructions"]
            )
            drafts.move_on(db, row, step, now)
    return row


def _errors(error: AppError, fields: tuple[str, ...]) -> dict[str, str]:
    field = str(error.details.get("field"))
    return {field if field in fields else "form": error.message}


def _mend_at(error: AppError) -> str:
    """The step at which what was refused can be changed; empty where it is this one."""
    field = str(error.details.get("field", ""))
    if error.error_code == "plan_limit" or field == "plan":
        return "plan"
    if field in WORDS:
        return "assistant"
    if field == "model":
        return "model"
    if field in ("skill", "api_key"):
        return "skills"
    return "channel" if field and field != "coupon" else ""


def _stamp(row: OpenDraft | None) -> str:
    return row.updated_at.isoformat() if row is not None else ""


def _preview(ctx: Context, values: Mapping[str, str]) -> dict[str, str | None]:
    """The files made of words that are fine; nothing without a name."""
    personas = workspace.list_personas(ctx.settings.templates_dir)
    if check_draft_fields(values, personas):
        return {"soul": None, "user": None}
    draft = drafts.check_draft(values["assistant_name"], values["persona"], values["custom_instructions"], personas)
    files = workspace.render(draft.persona, draft.name, draft.instructions, ctx.settings.templates_dir)
    return {"soul": files["SOUL.md"].strip(), "user": files["USER.md"].strip()}


def show(
    request: Request, ctx: Context, step: str, row: OpenDraft, status: int, errors: Mapping[str, str], **values: Any
) -> Response:
    """The page of a step."""
    return page(
        request,
        f"wizard_{step}.html",
        status,
        step=step,
        row=row,
        plan=ctx.plans.get(row.plan),
        errors=dict(errors),
        **values,
    )


def _assistant(
    request: Request,
    ctx: Context,
    row: OpenDraft,
    values: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
    status: int = 200,
) -> Response:
    personas = [(name, *words.persona(name)) for name in workspace.list_personas(ctx.settings.templates_dir)]
    kept = {"assistant_name": row.name, "persona": row.persona, "custom_instructions": row.instructions}
    shown = {**kept, **(values or {})}
    shown["persona"] = shown["persona"] or personas[0][0]
    return show(
        request,
        ctx,
        "assistant",
        row,
        status,
        errors or {},
        values=shown,
        personas=personas,
        examples=examples.EXAMPLES,
        preview=_preview(ctx, shown),
        seen=_stamp(row),
        max_instructions=drafts.MAX_INSTRUCTIONS,
        max_name=drafts.MAX_NAME,
    )


def _model(
    request: Request, ctx: Context, row: OpenDraft, errors: Mapping[str, str] | None = None, status: int = 200
) -> Response:
    return show(
        request,
        ctx,
        "model",
        row,
        status,
        errors or {},
        models=onboarding.offers_for(ctx, row),
        takes_key=ctx.plans.get(row.plan).access == PlanMode.OWN_KEY,
        vendors=ctx.upstreams,
    )


def _channel(
    request: Request, ctx: Context, row: OpenDraft, errors: Mapping[str, str] | None = None, status: int = 200
) -> Response:
    channels = onboarding.channels_of(ctx, ctx.plans.get(row.plan))
    return show(request, ctx, "channel", row, status, errors or {}, channels=channels)


def _review(
    request: Request,
    ctx: Context,
    owner: Owner,
    row: OpenDraft,
    errors: Mapping[str, str] | None = None,
    status: int = 200,
    coupon: str = "",
    mend_at: str = "",
) -> Response:
    plan = ctx.plans.get(row.plan)
    with ctx.db.read() as db:
        free_days = checkout.trial_days(db, ctx, owner.account.id, plan)
        is_covered = onboarding.is_covered(db, owner.account.id, plan)
        entries = skills.of_draft(db, ctx, owner.account.id, plan.id)
    channels = onboarding.channels_of(ctx, plan)
    return show(
        request,
        ctx,
        "review",
        row,
        status,
        errors or {},
        persona=words.persona(row.persona)[0],
        model=next((one for one in onboarding.offers_for(ctx, row) if one.is_chosen), None),
        bots=[(channels[name].label, bot["username"]) for name, bot in row.bots.items() if name in channels],
        skills=[one.skill.label for one in entries if one.state == "on"],
        vendors=ctx.upstreams,
        free_days=free_days,
        is_covered=is_covered,
        coupon=coupon,
        mend_at=mend_at,
        minimum_micros=ctx.settings.micros("wallet_minimum"),
    )
