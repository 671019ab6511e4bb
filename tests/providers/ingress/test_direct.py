"""Direct publishes nothing."""

from __future__ import annotations

from clawhaven.core.settings import Settings
from clawhaven.ports.ingress import Ingress, Route
from clawhaven.providers.ingress.direct import Direct


def test_routes_are_kept_nowhere_and_people_come_through_this_site() -> None:
    settings = Settings(_env_file=None, base_url="https://haven.example.com/")
    ingress: Ingress = Direct(Direct.Options(_env_file=None), settings)
    ingress.put(Route("user.example.com", "127.0.0.1:30000"))
    assert ingress.list() == []
    assert ingress.url("user.example.com") == "https://haven.example.com"
    ingress.remove("user.example.com")
    ingress.remove("user.example.com")
