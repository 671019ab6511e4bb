"""An assistant's settings: changed in a form, looked at as differences, then taken over."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from clawhaven.accounts.ownership import owned
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.errors import AppError, Conflict, Forbidden, Invalid, RateLimited, Unavailable
from clawhaven.instances import drafts, versions, workspace
from clawhaven.instances.drafts import Draft
from clawhaven.instances.models import Instance
from clawhaven.metering import ownkeys
from clawhaven.metering.models import PlanMode
from clawhaven.web import deps, diffs, errors, words
from clawhaven.web.deps import AnyForm, Ctx, RowId, SignedIn, Submission
from clawhaven.web.render import page
from clawhaven.web.signup import check_draft_fields
from clawhaven.workflows import configuration, model

router = APIRouter(prefix="/instances/{instance_id}/configuration")

FIELDS = ("assistant_name", "custom_instructions", "persona", "model")


@router.get("")
def show_configuration(request: Request, ctx: Ctx, owner: SignedIn, instance_id: RowId) -> Response:
    """Name, persona, instructions and model, to be changed."""
    return configuration_page(request, ctx, owner, instance_id)


@router.post("")
def review_configuration(request: Request, ctx: Ctx, owner: SignedIn, form: AnyForm, instance_id: RowId) -> Response:
    """What would change, to be looked at before it is. `action=edit` leads back to the form with the same words."""
    values = {name: form.get(name) for name in FIELDS}
    if form.get("action") == "edit":
        return configuration_page(request, ctx, owner, instance_id, values)
    try:
        _refuse(ctx, owner, form)
        draft = _draft(ctx, values)
        seen = configuration.review(ctx, instance_id, owner.account.id, draft, values["model"])
    except (_Wrong, Forbidden, Invalid, Unavailable, RateLimited) as error:
        return configuration_page(request, ctx, owner, instance_id, values, *_errors(error, values))
    if not seen.fields and all(file.is_own for file in seen.files):
        return RedirectResponse(f"/instances/{instance_id}/configuration?done=unchanged", 303)
    return _review_page(request, ctx, owner, instance_id, values, seen)


@router.post("/apply")
def apply_configuration(request: Request, ctx: Ctx, owner: SignedIn, form: AnyForm, instance_id: RowId) -> Response:
    """Take over what was looked at; when something is different by now, it is shown anew."""
    values = {name: form.get(name) for name in FIELDS}
    anew = _chosen_files(form)
    who = deps.actor(owner)
    try:
        _refuse(ctx, owner, form)
        draft = _draft(ctx, values)
        done = configuration.change(
            ctx, instance_id, owner.account.id, draft, who, chosen=values["model"], base=form.get("base"), anew=anew
        )
    except (_Wrong, Forbidden, Invalid, Unavailable, RateLimited) as error:
        return configuration_page(request, ctx, owner, instance_id, values, *_errors(error, values))
    except Conflict as error:
        if error.error_code != "settings_changed":
            raise
        seen = configuration.review(ctx, instance_id, owner.account.id, draft, values["model"])
        return _review_page(request, ctx, owner, instance_id, values, seen, error)
    word = "saved" if done.operation is not None or done.fields else "unchanged"
    return RedirectResponse(f"/instances/{instance_id}/configuration?done={word}", 303)


class _Wrong(Exception):
    """Fields that are wrong, with why."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__()
        self.errors = errors


def _refuse(ctx: Context, owner: Owner, form: Submission) -> None:
    """Raises RateLimited after too many comparisons, Forbidden for a stale form; both keep the words."""
    deps.limit_drawing(ctx, owner)
    if not form.is_genuine:
        raise Forbidden(deps.STALE, code="stale_form")


def _draft(ctx: Context, values: dict[str, str]) -> Draft:
    personas = workspace.list_personas(ctx.settings.templates_dir)
    wrong = check_draft_fields(values, personas)
    if wrong:
        raise _Wrong(wrong)
    return drafts.check_draft(values["assistant_name"], values["persona"], values["custom_instructions"], personas)


def _errors(error: _Wrong | AppError, values: dict[str, str]) -> tuple[dict[str, str], int]:
    if isinstance(error, _Wrong):
        return error.errors, 400
    field = str(error.details.get("field"))
    return {field if field in values else "form": errors.said(error)}, error.status


def _chosen_files(form: Submission) -> list[str]:
    return [name for name in workspace.FILES if form.get(f"anew_{name}")]


def _review_page(
    request: Request,
    ctx: Context,
    owner: Owner,
    instance_id: str,
    values: dict[str, str],
    seen: configuration.Review,
    error: AppError | None = None,
) -> Response:
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
    return page(
        request,
        "instance_review.html",
        error.status if error else 200,
        tab="configuration",
        instance=instance,
        values=values,
        seen=seen,
        fields=[
            (words.FIELDS[field.name], *(_shown(field.name, text) for text in (field.before, field.after)))
            for field in seen.fields
            if field.name != "instructions"
        ],
        instructions=next(
            (diffs.compare(field.before, field.after) for field in seen.fields if field.name == "instructions"), None
        ),
        files=[(file, diffs.compare(file.before[: versions.LONGEST], file.after)) for file in seen.files],
        problem=error.message if error else "",
    )


def _shown(name: str, text: str) -> str:
    return words.persona(text)[0] if name == "persona" else text


def configuration_page(
    request: Request,
    ctx: Context,
    owner: Owner,
    instance_id: str,
    values: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    """The configuration as it is, or as it was sent with what is wrong with it; and the model key, never its text."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, owner.account.id)
        own_key = ownkeys.find(db, instance_id)
        offered = model.list_offers(db, ctx, instance)
    plan = ctx.plans.get(instance.plan)
    kept = {
        "model": instance.model,
        "assistant_name": instance.name,
        "persona": instance.persona,
        "custom_instructions": instance.instructions,
    }
    return page(
        request,
        "instance_configuration.html",
        status,
        tab="configuration",
        instance=instance,
        values=values or kept,
        errors=errors or {},
        personas=[(name, *words.persona(name)) for name in workspace.list_personas(ctx.settings.templates_dir)],
        max_instructions=drafts.MAX_INSTRUCTIONS,
        max_name=drafts.MAX_NAME,
        takes_key=plan.access == PlanMode.OWN_KEY,
        plan=plan,
        models=offered,
        own_key=own_key,
        vendors=ctx.upstreams,
    )
