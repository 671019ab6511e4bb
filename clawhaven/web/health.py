"""The status page: what works, seen from here and now. Machines ask /api/health."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from clawhaven.web.deps import Ctx
from clawhaven.web.languages import N_, Texts
from clawhaven.web.render import page
from clawhaven.workflows import condition
from clawhaven.workflows.condition import Word

router = APIRouter()

NAMES = Texts(
    {
        "web": N_("Website"),
        "database": N_("Database"),
        "work": N_("Building, pausing and other work"),
        "model": N_("Way to the models"),
        "assistants": N_("Assistants"),
        "letters": N_("Mails"),
        "payments": N_("Payments"),
    }
)
WORDS = Texts({Word.FINE: N_("Works"), Word.DISTURBED: N_("Disturbed"), Word.DOWN: N_("Down")})
TONES = {Word.FINE: "live", Word.DISTURBED: "warn", Word.DOWN: "bad"}
EFFECTS = Texts(
    {
        "database": N_("Pages of customers cannot be shown. Assistants go on with what they are doing."),
        "work": N_("New assistants, starts and stops wait, and go on by themselves as soon as this works again."),
        "model": N_("Assistants get no answers from their models at the moment."),
        "assistants": N_(
            "Some do not answer. Those that have stopped are started again by themselves; of the others we are told."
        ),
        "letters": N_("Mails arrive late. Nothing is lost."),
        "payments": N_("Payments are noticed late. Nothing is lost, and nothing is charged twice."),
    }
)
HEADLINES = Texts(
    {
        Word.FINE: N_("Everything works"),
        Word.DISTURBED: N_("Something is disturbed"),
        Word.DOWN: N_("Something does not work"),
    }
)


@router.get("/status")
def show_status(request: Request, ctx: Ctx) -> Response:
    """Every part in a word, and since when. Works without a database, so it asks for nobody's sign-in."""
    parts = condition.look(ctx, request.app.state.started_at)
    all_in_all = condition.worst(parts)
    return page(
        request,
        "status.html",
        parts=parts,
        all_in_all=all_in_all,
        headline=HEADLINES[all_in_all],
        names=NAMES,
        words_of=WORDS,
        tones=TONES,
        effects=EFFECTS,
        now=ctx.clock.now(),
    )
