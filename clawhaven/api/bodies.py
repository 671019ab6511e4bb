"""Request bodies: strict types, bounded lengths, unknown fields refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from clawhaven.workflows.checkout import TELEGRAM, Form

NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f]*$"
Line = Annotated[str, StringConstraints(max_length=320)]
Token = Annotated[str, StringConstraints(max_length=200)]


class Body(BaseModel):
    """Strict: no coercion, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, str_strip_whitespace=True)


class AssistantBody(Body):
    """What an assistant should be."""

    assistant_name: Line
    custom_instructions: Annotated[str, StringConstraints(max_length=20_000)] = ""
    telegram_bot_token: Token | None = None
    plan: Line = "personal"
    persona: Line = "personal"
    coupon: Annotated[str, StringConstraints(max_length=40, pattern=NO_CONTROLS)] = ""

    def form(self) -> Form:
        """As the workflow takes it."""
        channels = {TELEGRAM: {"telegram_bot_token": self.telegram_bot_token}} if self.telegram_bot_token else {}
        return Form(self.assistant_name, self.custom_instructions, self.plan, self.persona, channels, self.coupon)


class SignUpBody(AssistantBody):
    """A new customer."""

    email: Line


class EmailBody(Body):
    """An address."""

    email: Line


class TokenBody(Body):
    """A one-time token."""

    token: Token


class KeyBody(Body):
    """A new API key. Scopes: read, write, keys (to make further keys); for operators also admin."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_CONTROLS)] = "key"
    scopes: Annotated[list[str], Field(max_length=8)] = ["read", "write"]


class ProgramKeyBody(Body):
    """A new key for the customer's own programs."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_CONTROLS)]


class ChangeBody(Body):
    """What to change; what is left out stays."""

    assistant_name: Line | None = None
    custom_instructions: Annotated[str, StringConstraints(max_length=20_000)] | None = None
    persona: Line | None = None
    model: Annotated[str, StringConstraints(min_length=1, max_length=320)] | None = None


class FileBody(Body):
    """A workspace file's new text. `base`: the digest of the text that was changed; left out: whatever is there."""

    content: Annotated[str, StringConstraints(max_length=60_000, strip_whitespace=False)]
    base: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None


class ChatBody(Body):
    """A message to the assistant. `idempotency_key`: the same key never makes a second turn."""

    message: Annotated[str, StringConstraints(min_length=1, max_length=16_000)]
    idempotency_key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")] | None = None


class TelegramBody(Body):
    """A bot's token from @BotFather."""

    telegram_bot_token: Token


class OwnKeyBody(Body):
    """The customer's own key at a model vendor."""

    api_key: Annotated[str, StringConstraints(max_length=400)]
    vendor: Line = ""


class AttachBody(Body):
    """Which integration: by its id, or by its vendor."""

    integration_id: Annotated[str, StringConstraints(max_length=40, pattern=NO_CONTROLS)] = ""
    vendor: Annotated[str, StringConstraints(max_length=40, pattern=NO_CONTROLS)] = ""


class CallbackBody(Body):
    """What a vendor's consent page gave to the browser."""

    state: Annotated[str, StringConstraints(max_length=300, pattern=NO_CONTROLS)]
    code: Annotated[str, StringConstraints(max_length=2000, pattern=NO_CONTROLS)] = ""
