"""Build the Context from settings: the only importer of providers."""

from __future__ import annotations

import functools
import importlib
import inspect
import socket
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, cast

from alembic import command
from alembic.config import Config

from clawhaven import providers
from clawhaven.billing.plans import Catalogue, Plan
from clawhaven.context import Context
from clawhaven.core.clock import Clock
from clawhaven.core.db import Database, in_transaction, make_engine
from clawhaven.core.secrets import KeyRing
from clawhaven.core.settings import Settings
from clawhaven.instances.skills import SkillCatalogue
from clawhaven.metering.pricefile import read_own_prices
from clawhaven.metering.prices import PriceTable, builtin_prices
from clawhaven.ports.channel import Channel
from clawhaven.ports.gateway import Gateway
from clawhaven.ports.ingress import Ingress
from clawhaven.ports.integration import Integration
from clawhaven.ports.model import Model
from clawhaven.ports.notifier import Notifier
from clawhaven.ports.payments import Payments, Price
from clawhaven.ports.pricelist import PriceList
from clawhaven.ports.runtime import Runtime
from clawhaven.ports.skill import SkillVendor
from clawhaven.ports.upstream import Upstream
from clawhaven.ports.vault import Vault
from clawhaven.workflows import engine

SELECTED = (
    ("RUNTIME", "runtimes", 0),
    ("PAYMENTS", "payments", 0),
    ("NOTIFIER", "notifiers", 1),
    ("INGRESS", "ingress", 1),
)
"""Setting, the port whose providers it names, and how many it may name (0: any number but none)."""

PURE = frozenset(
    {"problems", "layout", "config", "parse_event", "request", "reader", "dialects", "answer", "url", "trace_id"}
    | {"consent_url", "tools"}
)
"""Verbs of providers that do no I/O and may be called anywhere."""


class ConfigurationError(Exception):
    """The installation cannot start as it is configured; `problems` says all that is wrong, a sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("Clawhaven cannot start:\n" + "\n".join(f"  - {problem}" for problem in problems))
        self.problems = problems


class Guarded:
    """A provider whose I/O refuses to run while a transaction is open: it would hold a lock over the network."""

    def __init__(self, provider: Any) -> None:
        self.__provider = provider

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__provider, name)
        if not callable(value) or name in PURE:
            return value
        return _refuse_in_transaction(value, name)


def _refuse_in_transaction(verb: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(verb)
    def call(*args: Any, **kwargs: Any) -> Any:
        if in_transaction():
            raise RuntimeError(f"{name} was called while a transaction is open")
        return verb(*args, **kwargs)

    return call


def migrate(settings: Settings) -> None:
    """Bring the database to the newest schema; a database that is there already is left as it is."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = Config()
    config.set_main_option("script_location", str(files("clawhaven") / "migrations"))
    config.set_main_option("sqlalchemy.url", settings.database_url.replace("%", "%%"))
    command.upgrade(config, "head")
    engine.migrate(settings.database_url)


def build(settings: Settings, clock: Clock | None = None) -> Context:
    """Check the settings and connect every provider. Raises ConfigurationError naming everything to fix."""
    problems = check(settings)
    if problems:
        raise ConfigurationError(problems)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.instances_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    clock = clock or Clock()
    return Context(
        settings=settings,
        db=Database(make_engine(settings.database_url)),
        clock=clock,
        keys=KeyRing.parse(settings.keys()),
        plans=Catalogue.load(_plans_text(settings)),
        payments={name: cast(Payments, _make("payments", name, settings, clock)) for name in _words(settings.payments)},
        runtimes={name: cast(Runtime, _make("runtimes", name, settings, clock)) for name in _words(settings.runtime)},
        channels={
            name: cast(Channel, _make("channels", name, settings, clock)) for name in providers.names("channels")
        },
        skills=_skills(settings),
        skill_vendors={
            name: cast(SkillVendor, _make("skills", name, settings, clock)) for name in providers.names("skills")
        },
        upstreams={
            name: cast(Upstream, _make("upstreams", name, settings, clock))
            for name in providers.names("upstreams")
            if not (settings.is_production and name == "sandbox")
        },
        integrations={
            name: cast(Integration, _make("integrations", name, settings, clock))
            for name in providers.names("integrations")
        },
        notifier=cast(Notifier, _make("notifiers", settings.notifier, settings, clock)),
        ingress=cast(Ingress, _make("ingress", settings.ingress, settings, clock)),
        gateway=cast(Gateway, _make("gateways", "openclaw", settings, clock)),
        model=cast(Model, _make("models", "proxy", settings, clock)),
        prices=_price_table(settings),
        price_list=price_list(settings),
        vault=cast(Vault, _make("vaults", "folder", settings, clock)),
        host=settings.host_name or socket.gethostname(),
    )


def set_up_stripe(settings: Settings) -> list[str]:
    """Make at Stripe what it must have before it can sell: products, prices, the webhook. Any number of times.

    Returns lines for the operator. Raises ConfigurationError (no usable key), ProviderError.
    """
    try:
        cls = providers.load("payments", "stripe")
        options = cls.Options()
        setup = importlib.import_module("clawhaven.providers.payments.stripe_setup")
        plans = Catalogue.load(_plans_text(settings))
    except (ValueError, ImportError, OSError) as error:
        raise ConfigurationError([str(error)]) from error
    prices = [Price(plan.id, plan.name, plan.price_micros, plan.interval) for plan in plans if plan.is_offered]
    lines: list[str] = setup.prepare(options, prices, f"{settings.base_url}/api/webhooks/stripe")
    return lines


def price_list(settings: Settings) -> PriceList:
    """Somebody else's list of model prices, to compare ours with."""
    return cast(PriceList, _make("pricelists", "genai", settings, Clock()))


def check(settings: Settings) -> list[str]:
    """Everything that stops the start, each as one sentence naming the setting."""
    problems = _check_providers(settings) + _check_catalogue(settings) + _check_keys(settings)
    problems += _check_prices(settings) + _check_integrations(settings) + _check_skills(settings)
    if settings.is_production and "process" in _words(settings.runtime) and not settings.allow_weak_isolation:
        problems.append(
            "RUNTIME=process: assistants would run as our own user and could read our keys. Use docker,"
            " or accept it with ALLOW_WEAK_ISOLATION=true."
        )
    if settings.is_production and settings.base_url.startswith("http://"):
        problems.append("BASE_URL must be the public https:// address in production.")
    return problems


def _check_providers(settings: Settings) -> list[str]:
    problems = []
    for setting, port, most in SELECTED:
        names = _words(getattr(settings, setting.lower()))
        if not names or (most and len(names) > most):
            problems.append(f"{setting} names {'no provider' if not names else 'more than one provider'}.")
        for name in names:
            try:
                cls = providers.load(port, name)
                options = cls.Options()
            except (ValueError, ImportError) as error:
                problems.append(f"{setting}={name}: {error}")
                continue
            if settings.is_production and getattr(cls, "is_for_production", True) is False:
                problems.append(f"{setting}={name}: this provider is for trying things out and refuses production.")
            problems += [f"{setting}={name}: {problem}" for problem in _ask_provider(cls, options, settings)]
    return problems


def _check_integrations(settings: Settings) -> list[str]:
    problems = []
    for name in providers.names("integrations"):
        try:
            cls = providers.load("integrations", name)
            problems += _ask_provider(cls, cls.Options(), settings)
        except (ValueError, ImportError) as error:
            problems.append(f"The integration {name}: {error}")
    return problems


def _check_catalogue(settings: Settings) -> list[str]:
    problems = []
    try:
        plans = list(Catalogue.load(_plans_text(settings)))
    except (OSError, ValueError) as error:
        problems.append(f"PLANS_FILE={settings.plans_file}: {error}")
        plans = []
    runtimes, channels = _words(settings.runtime), providers.names("channels")
    for plan in plans:
        if plan.runtime and plan.runtime not in runtimes:
            problems.append(f"plan {plan.id}: runtime {plan.runtime} is not one that RUNTIME names.")
        for name in plan.channels:
            if name not in channels:
                problems.append(f"plan {plan.id}: channels has {name}; there is {', '.join(channels)}.")
    for setting in ("subscriptions_by", "topups_by"):
        chosen = getattr(settings, setting)
        if chosen and chosen not in _words(settings.payments):
            problems.append(f"{setting.upper()}={chosen}: PAYMENTS does not name it.")
    return problems + (_check_sale(settings, plans) if plans else [])


def _check_sale(settings: Settings, plans: Sequence[Plan]) -> list[str]:
    """What payment providers find wrong with how they are to sell the catalogue, where they look at all."""
    known = [plan.id for plan in plans]
    sold = [plan.id for plan in plans if plan.is_offered and plan.price_micros > 0]
    problems = []
    for name in _words(settings.payments):
        try:
            cls = providers.load("payments", name)
            find = getattr(cls, "plan_problems", None)
            found = find(cls.Options(), settings, sold=sold, known=known) if find else []
        except (ValueError, ImportError):
            continue  # _check_providers names it
        problems += [f"PAYMENTS={name}: {problem}" for problem in found]
    return problems


def _check_prices(settings: Settings) -> list[str]:
    try:
        table = _price_table(settings)
    except (OSError, ValueError) as error:
        return [f"MODEL_PRICES_FILE={settings.model_prices_file}: {error}"]
    return [
        f"{setting.upper()}={model}: this model has no price, so it would be refused."
        for setting in ("default_model", "trial_model")
        if (model := getattr(settings, setting)) and table.find(model, Clock().now()) is None
    ]


def _check_skills(settings: Settings) -> list[str]:
    problems = []
    for name in providers.names("skills"):
        try:
            providers.load("skills", name).Options()
        except (ValueError, ImportError) as error:
            problems.append(f"skills of {name}: {error}")
    try:
        skills = list(_skills(settings))
        plans = [plan.id for plan in Catalogue.load(_plans_text(settings))]
    except (OSError, ValueError) as error:
        return [*problems, f"SKILLS_FILE={settings.skills_file}: {error}"]
    for skill in skills:
        for key, named, known in (
            ("plans", skill.plans, plans),
            ("runtimes", skill.runtimes, providers.names("runtimes")),
        ):
            problems += [
                f"skill {skill.id}: {key} has {one}; there is {', '.join(known)}." for one in named if one not in known
            ]
    return problems


def _skills(settings: Settings) -> SkillCatalogue:
    """The skills on offer; archives are read from beside the operator's file. Raises OSError, ValueError."""
    path = settings.skills_file
    if path is None:
        return SkillCatalogue.load()
    return SkillCatalogue.load(path.read_text(), lambda name: (path.parent / name).read_bytes())


def _check_keys(settings: Settings) -> list[str]:
    try:
        keys = settings.keys()
        if keys:
            KeyRing.parse(keys)
            return []
        return ["ENCRYPTION_KEY is missing (make one: openssl rand -hex 32)."]
    except (ValueError, OSError) as error:
        return [str(error)]


def _ask_provider(cls: Any, options: Any, settings: Settings) -> list[str]:
    """What a provider itself finds missing or wrong in its settings, a sentence each."""
    find = getattr(cls, "problems", None)
    return list(find(options, settings)) if find else []


def _price_table(settings: Settings) -> PriceTable:
    """The table we ship with the operator's file over it. Raises OSError, ValueError."""
    ours = builtin_prices()
    if not settings.model_prices_file:
        return ours
    known = {price.model: price for price in ours.every()}
    own = read_own_prices(settings.model_prices_file.read_text(), known, providers.names("upstreams"))
    return ours.with_overrides(own)


def _plans_text(settings: Settings) -> str | None:
    return settings.plans_file.read_text() if settings.plans_file else None


def _words(names: str) -> list[str]:
    return [word.strip() for word in names.split(",") if word.strip()]


def _make(port: str, name: str, settings: Settings, clock: Clock) -> Any:
    cls = providers.load(port, name)
    # Few providers tell the time; those that do tell ours, which tests and rehearsals move.
    timed = {"clock": clock} if "clock" in inspect.signature(cls).parameters else {}
    return Guarded(cls(cls.Options(), settings, **timed))
