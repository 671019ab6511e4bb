"""Where the menus lead: the customer's and the operator's. A page that a menu should show gets its line here."""

from __future__ import annotations

from dataclasses import dataclass

from clawhaven.web.languages import N_, _


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a menu; `also` are beginnings of further addresses that belong to it."""

    url: str
    text: str
    icon: str
    also: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its name in the current language."""
        return _(self.text)

    def holds(self, path: str) -> bool:
        """True when this path is the place, or below it."""
        return any(path == start or path.startswith(f"{start}/") for start in (self.url, *self.also))


CUSTOMER = (
    Place("/dashboard", N_("Assistants"), "bot", ("/instances",)),
    Place("/usage", N_("Usage"), "chart-column"),
    Place("/billing", N_("Billing"), "wallet", ("/topup", "/ledger")),
    Place("/settings", N_("Settings"), "settings"),
)

ADMIN = (
    Place("/admin", N_("Overview"), "gauge"),
    Place("/admin/fleet", N_("Fleet"), "server"),
    Place("/admin/accounts", N_("Customers"), "users"),
    Place("/admin/margin", N_("Margin"), "trending-up"),
    Place("/admin/coupons", N_("Coupons"), "tag"),
    Place("/admin/reconcile", N_("Differences"), "scale"),
    Place("/admin/workflows", N_("Workflows"), "workflow"),
    Place("/admin/alerts", N_("Alerts"), "bell"),
    Place("/admin/audit", N_("Audit log"), "history"),
    Place("/admin/check", N_("Check"), "wrench"),
)


def current(places: tuple[Place, ...], path: str) -> Place | None:
    """The place this path belongs to: the one with the longest address."""
    found = [place for place in places if place.holds(path)]
    return max(found, key=lambda place: len(place.url), default=None)
