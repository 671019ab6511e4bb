"""The one thing handed to doors and workflows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clawhaven.billing.plans import Catalogue
from clawhaven.core.clock import Clock
from clawhaven.core.db import Database
from clawhaven.core.errors import Invalid
from clawhaven.core.secrets import KeyRing
from clawhaven.core.settings import Settings
from clawhaven.instances.skills import SkillCatalogue
from clawhaven.metering.prices import PriceTable
from clawhaven.ports.channel import Channel
from clawhaven.ports.gateway import Gateway
from clawhaven.ports.ingress import Ingress
from clawhaven.ports.integration import Integration
from clawhaven.ports.model import Model
from clawhaven.ports.notifier import Notifier
from clawhaven.ports.payments import Capability, Payments
from clawhaven.ports.pricelist import PriceList
from clawhaven.ports.runtime import Runtime
from clawhaven.ports.skill import SkillVendor
from clawhaven.ports.upstream import Upstream
from clawhaven.ports.vault import Vault


@dataclass(frozen=True)
class Context:
    """Settings, database, providers and clock of one installation."""

    settings: Settings
    db: Database
    clock: Clock
    keys: KeyRing
    plans: Catalogue
    payments: Mapping[str, Payments]
    runtimes: Mapping[str, Runtime]
    channels: Mapping[str, Channel]
    skills: SkillCatalogue
    skill_vendors: Mapping[str, SkillVendor]
    upstreams: Mapping[str, Upstream]
    integrations: Mapping[str, Integration]
    notifier: Notifier
    ingress: Ingress
    gateway: Gateway
    model: Model
    prices: PriceTable
    price_list: PriceList
    vault: Vault
    host: str

    def runtime(self, name: str) -> Runtime:
        """A runtime that is switched on here. Raises Invalid naming the ones that are."""
        if name not in self.runtimes:
            raise Invalid(f"The runtime {name} is not switched on; there is {', '.join(self.runtimes)}.")
        return self.runtimes[name]

    def payment(self, name: str) -> Payments:
        """A payment provider that is switched on here. Raises Invalid naming the ones that are."""
        if name not in self.payments:
            raise Invalid(f"The payment provider {name} is not switched on; there is {', '.join(self.payments)}.")
        return self.payments[name]

    def seller(self, capability: Capability) -> Payments:
        """Who sells subscriptions, or top-ups: the operator's choice, else the first provider that can.

        Raises Invalid when none of PAYMENTS can.
        """
        chosen = {
            Capability.SUBSCRIPTIONS: self.settings.subscriptions_by,
            Capability.TOPUPS: self.settings.topups_by,
        }.get(capability, "")
        if chosen:
            return self.payment(chosen)
        for provider in self.payments.values():
            if capability in provider.capabilities:
                return provider
        raise Invalid(f"No payment provider here offers {capability}; there is {', '.join(self.payments)}.")
