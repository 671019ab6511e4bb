"""Brave Search, which OpenClaw's `web_search` asks with the customer's key.

Sources: https://api-dashboard.search.brave.com/documentation/guides/authentication (the key is a header), and
`docs/tools/brave-search.md` of OpenClaw 2026.9.6 (its configuration, checked with its own validator and by searching).
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

DEFAULT_API_URL: Final = "https://api.search.brave.com"
SECRET_PATH: Final = "/skills/brave"  # noqa: S105 - where the gateway finds it, not the secret


class Brave:
    """Implements ports.skill.SkillVendor."""

    name = "brave"
    label = "Brave Search"
    field = Field(
        name="brave_api_key",
        label="API key",
        is_secret=True,
        pattern=r"[A-Za-z0-9_-]{16,100}",
        help=N_("Sign up for the Brave Search API, choose the plan Search, and make a key under API Keys."),
        help_url="https://brave.com/search/api/",
    )

    class Options(EnvSettings):
        """Brave's settings."""

        brave_api_url: str = Setting(
            DEFAULT_API_URL, description="Brave's Search API, for our test of a key and for the assistants' searches."
        )

        @field_validator("brave_api_url")
        @classmethod
        def _check(cls, value: str) -> str:
            return asking.check_address("BRAVE_API_URL", value)

    def __init__(self, options: Options, settings: Settings) -> None:
        self._url = options.brave_api_url

    def check_key(self, api_key: str) -> None:
        """Search for one word: there is no cheaper call. It counts as one search of the customer's plan."""
        url = f"{self._url}/res/v1/web/search?q=hello&count=1"
        status, body = asking.ask(self.label, url, {"X-Subscription-Token": api_key, "accept": "application/json"})
        if status == 200 and body:
            return
        error = body.get("error")
        code = str(error.get("code")) if isinstance(error, dict) else ""
        # A key it does not know is 422 SUBSCRIPTION_TOKEN_INVALID; a 422 for other reasons says nothing about the key.
        if status == 401 or code in ("SUBSCRIPTION_TOKEN_INVALID", "SUBSCRIPTION_TOKEN_MISSING"):
            raise asking.refused(self.label)
        if code in ("SUBSCRIPTION_NOT_FOUND", "RESOURCE_NOT_ALLOWED", "OPTION_NOT_IN_PLAN", "QUOTA_LIMITED"):
            raise asking.restricted(self.label)
        raise asking.unclear(self.label, status)

    def config(self, api_key: str, secrets_provider: str) -> SkillConfig:
        """`web_search` by Brave, the key by reference."""
        reference = {"source": "file", "provider": secrets_provider, "id": SECRET_PATH}
        search = {"apiKey": reference, **({"baseUrl": self._url} if self._url != DEFAULT_API_URL else {})}
        return SkillConfig(
            {
                "tools": {"web": {"search": {"enabled": True, "provider": "brave"}}},
                "plugins": {"entries": {"brave": {"enabled": True, "config": {"webSearch": search}}}},
            },
            {SECRET_PATH: api_key},
        )
