"""ElevenLabs, which speaks for an assistant with the customer's key.

Sources: https://elevenlabs.io/docs/api-reference/user/get, https://elevenlabs.io/docs/api-reference/authentication, and
`docs/tools/tts/` of OpenClaw 2026.9.6 (its configuration, checked with its own validator and by speaking).
"""

from __future__ import annotations

from typing import Final

from pydantic import Field as Setting
from pydantic import field_validator

from clawhaven.core.languages import N_
from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.channel import Field
from clawhaven.ports.skill import SkillConfig
from clawhaven.providers.skills import asking

DEFAULT_API_URL: Final = "https://api.elevenlabs.io"
SECRET_PATH: Final = "/skills/elevenlabs"  # noqa: S105 - where the gateway finds it, not the secret


class ElevenLabs:
    """Implements ports.skill.SkillVendor."""

    name = "elevenlabs"
    label = "ElevenLabs"
    field = Field(
        name="elevenlabs_api_key",
        label="API key",
        is_secret=True,
        pattern=r"[A-Za-z0-9_-]{16,100}",
        help=N_("Make one under Developers, API Keys. If you restrict it, allow Text to Speech."),
        help_url="https://elevenlabs.io/app/developers/api-keys",
    )

    class Options(EnvSettings):
        """ElevenLabs' settings."""

        elevenlabs_api_url: str = Setting(
            DEFAULT_API_URL, description="ElevenLabs' API, for our test of a key and for the assistants' voices."
        )

        @field_validator("elevenlabs_api_url")
        @classmethod
        def _check(cls, value: str) -> str:
            return asking.check_address("ELEVENLABS_API_URL", value)

    def __init__(self, options: Options, settings: Settings) -> None:
        self._url = options.elevenlabs_api_url

    def check_key(self, api_key: str) -> None:
        """Ask whose key it is, which costs nothing.

        A restricted key may not say that (`user_read`) and may speak all the same: it is taken. ElevenLabs has no free
        call that tells whether it may.
        """
        status, body = asking.ask(self.label, f"{self._url}/v1/user", {"xi-api-key": api_key})
        if status == 200 and body:
            return
        detail = body.get("detail")
        told = detail if isinstance(detail, dict) else {}
        if told.get("status") == "missing_permissions":
            if "text_to_speech" in str(told.get("message")):
                raise asking.restricted(self.label)
            return
        if status == 401:
            raise asking.refused(self.label)
        raise asking.unclear(self.label, status)

    def config(self, api_key: str, secrets_provider: str) -> SkillConfig:
        """Speech by ElevenLabs when the assistant asks for it, the key by reference."""
        reference = {"source": "file", "provider": secrets_provider, "id": SECRET_PATH}
        vendor = {"apiKey": reference, **({"baseUrl": self._url} if self._url != DEFAULT_API_URL else {})}
        return SkillConfig(
            {"tts": {"auto": "off", "provider": "elevenlabs", "providers": {"elevenlabs": vendor}}},
            {SECRET_PATH: api_key},
        )
