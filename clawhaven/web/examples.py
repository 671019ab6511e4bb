"""Instructions to begin with, for whoever does not know yet what to ask of an assistant."""

from __future__ import annotations

from dataclasses import dataclass

from clawhaven.instances.drafts import MAX_INSTRUCTIONS
from clawhaven.web.languages import N_, _


@dataclass(frozen=True, slots=True)
class Example:
    """Some lines of instructions, and what they are for in a word or two."""

    id: str
    title: str
    words: str

    @property
    def label(self) -> str:
        """The title in the current language."""
        return _(self.title)

    @property
    def text(self) -> str:
        """The lines in the current language."""
        return _(self.words)


EXAMPLES = (
    Example(
        "week",
        N_("Plan my week"),
        N_(
            "Help me plan my week. Every Sunday evening ask what is coming up, and make a short plan from my answers."
            " Remind me the day before anything important. I work from home on Fridays."
        ),
    ),
    Example(
        "writing",
        N_("Write with me"),
        N_(
            "Write emails and texts with me. Ask who will read it before you begin. Keep it short and friendly, and"
            " show me two versions to choose from. Never send anything yourself."
        ),
    ),
    Example(
        "learning",
        N_("Teach me something"),
        N_(
            "Teach me Spanish, ten minutes a day. Begin with what one needs on a journey, correct my mistakes kindly,"
            " and ask again the next day what I got wrong."
        ),
    ),
    Example(
        "code",
        N_("Look over my code"),
        N_(
            "I send you code and error messages. Explain what goes wrong in plain words first, then propose the"
            " smallest change that mends it. I know Python well and JavaScript a little."
        ),
    ),
)


def add(instructions: str, example_id: str) -> str:
    """The instructions with an example below them; unchanged for one that there is not, or that does not fit."""
    found = next((one.text for one in EXAMPLES if one.id == example_id), "")
    joined = f"{instructions.rstrip()}\n\n{found}".strip() if found and found not in instructions else instructions
    return joined if len(joined) <= MAX_INSTRUCTIONS else instructions
