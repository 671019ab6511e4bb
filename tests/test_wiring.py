"""Building the Context: what is missing or weak is said before anything starts; vendors stay out of transactions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clawhaven import wiring
from clawhaven.core.db import Database, make_engine
from clawhaven.core.errors import Invalid
from clawhaven.core.settings import Settings
from clawhaven.wiring import ConfigurationError, Guarded, build, check
from tests.instances.test_skills import ARCHIVE, PINNED, RECIPES
from tests.workflows.scene import Scene, set_up

KEY = "ab" * 32
PRODUCTION = {
    "environment": "production",
    "encryption_key": KEY,
    "base_url": "https://haven.example",
    "notifier": "smtp",
    "payments": "",
    "runtime": "docker",
}


def settings(tmp_path: Path, **given: Any) -> Settings:
    return Settings(data_dir=tmp_path / "data", **given)


def test_the_defaults_have_no_problem(tmp_path: Path) -> None:
    assert check(settings(tmp_path)) == []
    assert (tmp_path / "data" / "encryption.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"runtime": "podman"}, ["RUNTIME=podman", "docker, process"]),
        ({"runtime": "process, podman"}, ["RUNTIME=podman"]),
        ({"payments": "paypal"}, ["PAYMENTS=paypal", "sandbox"]),
        ({"payments": "stripe"}, ["PAYMENTS=stripe: STRIPE_SECRET_KEY", "PAYMENTS=stripe: STRIPE_WEBHOOK_SECRET"]),
        ({"notifier": "pigeon"}, ["NOTIFIER=pigeon"]),
        ({"encryption_key": "short"}, ["ENCRYPTION_KEY must be 32 bytes"]),
        ({"encryption_key": f"{KEY},x"}, ["ENCRYPTION_KEY must be 32 bytes"]),
        ({**PRODUCTION, "encryption_key": ""}, ["ENCRYPTION_KEY is missing"]),
        ({**PRODUCTION, "payments": "sandbox"}, ["PAYMENTS=sandbox", "refuses production"]),
        ({**PRODUCTION, "notifier": "console"}, ["NOTIFIER=console", "refuses production"]),
        ({**PRODUCTION, "base_url": "http://haven.example"}, ["BASE_URL", "https://"]),
        ({**PRODUCTION, "base_url": ""}, ["BASE_URL", "https://"]),
        ({**PRODUCTION, "runtime": "process"}, ["RUNTIME=process", "ALLOW_WEAK_ISOLATION"]),
    ],
)
def test_every_problem_is_a_sentence_that_names_the_setting(
    tmp_path: Path, given: dict[str, Any], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_HOST", "mail.example")
    told = "\n".join(check(settings(tmp_path, **given)))
    for name in names:
        assert name in told
    with pytest.raises(ConfigurationError) as caught:
        build(settings(tmp_path, **given))
    assert str(caught.value).startswith("Clawhaven cannot start:\n  - ")
    assert KEY not in str(caught.value)


@pytest.fixture
def production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A production that takes money with Stripe; its keys are what the test puts into the environment."""
    monkeypatch.setenv("SMTP_HOST", "mail.example")
    for name in ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_API_URL", "STRIPE_PRICES"):
        monkeypatch.delenv(name, raising=False)
    given = {"payments": "stripe", "runtime": "process", "allow_weak_isolation": True}
    return settings(tmp_path, **(PRODUCTION | given))


def test_production_without_stripes_keys_names_each_one(production: Settings) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(production)
    first, second = caught.value.problems
    assert first.startswith("PAYMENTS=stripe: STRIPE_SECRET_KEY is missing")
    assert second.startswith("PAYMENTS=stripe: STRIPE_WEBHOOK_SECRET is missing")


def test_production_with_stripes_keys_starts_and_with_a_test_key_does_not(
    production: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", "whsec_abc")
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_abc")
    with pytest.raises(ConfigurationError, match="STRIPE_SECRET_KEY is a test key"):
        build(production)
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_live_abc")
    context = build(production)
    assert context.payment("stripe").name == "stripe"
    context.db.close()


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    wrong = {"environment": "production", "payments": "sandbox", "notifier": "console", "runtime": "podman"}
    problems = check(settings(tmp_path, **wrong))
    assert len(problems) >= 5
    assert not (tmp_path / "data" / "clawhaven.sqlite3").exists()


class Provider:
    """Says where it was called."""

    name = "provider"

    def create(self) -> str:
        return "made"

    def config(self) -> str:
        return "pure"


def test_no_vendor_is_called_inside_a_transaction(tmp_path: Path) -> None:
    provider = Guarded(Provider())
    db = Database(make_engine(f"sqlite:///{tmp_path}/x.sqlite3"))
    assert (provider.name, provider.create(), provider.config()) == ("provider", "made", "pure")
    for opened in (db.tx, db.read):
        with opened():
            assert (provider.name, provider.config()) == ("provider", "pure")
            with pytest.raises(RuntimeError, match="create was called while a transaction is open"):
                provider.create()
    assert provider.create() == "made"
    with pytest.raises(AttributeError):
        _ = provider.missing
    db.close()


def test_a_context_names_what_there_is(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "x.sqlite3"
    path.write_bytes(sqlite_template.read_bytes())
    with set_up(settings(tmp_path, database_url=f"sqlite:///{path}", host_name="here")) as scene:
        assert isinstance(scene, Scene)
        assert scene.ctx.host == "here"
        assert scene.ctx.runtime("folder") is scene.ctx.runtimes["folder"]
        with pytest.raises(Invalid, match="there is folder"):
            scene.ctx.runtime("docker")
        with pytest.raises(Invalid, match="there is sandbox"):
            scene.ctx.payment("stripe")


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    mine = settings(tmp_path, database_url=f"sqlite:///{tmp_path}/100%.sqlite3")
    for _ in range(2):
        wiring.migrate(mine)
    db = Database(make_engine(mine.database_url))
    with db.read() as tx:
        tables = set(tx.connection().exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
    db.close()
    assert {"instance", "ledger_entry", "workflow_status", "alembic_version"} <= tables


PLAN = """
[one]
name = "One"
price = "29"
interval = "month"
access = "included"
summary = "x"
instances = 1
messages_per_hour = 0
tokens_per_day = 0
max_in_flight = 8
is_offered = true
"""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (PLAN + 'runtime = "docker"', ["plan one: runtime docker is not one that RUNTIME names"]),
        (PLAN + 'channels = ["telegram", "pigeon"]', ["plan one: channels has pigeon; there is telegram"]),
        (PLAN.replace('"29"', '"29.001"'), ["PLANS_FILE=", "plan one: price is in whole cents"]),
        ("", ["PLANS_FILE=", "no plan in it"]),
    ],
)
def test_a_wrong_catalogue_stops_the_start(tmp_path: Path, text: str, names: list[str]) -> None:
    path = tmp_path / "plans.toml"
    path.write_text(text)
    told = "\n".join(check(settings(tmp_path, plans_file=path)))
    assert all(name in told for name in names), told
    path.write_text(PLAN + 'runtime = "process"\nchannels = ["telegram"]')
    assert check(settings(tmp_path, plans_file=path)) == []
    assert check(settings(tmp_path, plans_file=tmp_path / "gone.toml"))[0].startswith("PLANS_FILE=")


def test_what_is_sold_at_a_vendor_is_compared_with_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plans.toml"
    two, free = (PLAN.replace("[one]", f"[{name}]") for name in ("two", "free"))
    gone = PLAN.replace("[one]", "[gone]").replace("is_offered = true", "is_offered = false")
    path.write_text(PLAN + two + free.replace('"29"', '"0"') + gone)
    given = {"creem_api_key": "creem_test_a", "creem_webhook_secret": "x", "creem_topup_product": "prod_1"}
    given |= {"creem_products": "one=prod_2, gone=prod_3, moon=prod_4"}
    given |= {"stripe_secret_key": "sk_test_a", "stripe_webhook_secret": "whsec_a", "stripe_prices": "sun=price_1"}
    for name, value in given.items():
        monkeypatch.setenv(name.upper(), value)
    stripe = "PAYMENTS=stripe: STRIPE_PRICES names the plan sun; there is one, two, free, gone."
    moon = "PAYMENTS=creem: CREEM_PRODUCTS names the plan moon; there is one, two, free, gone."
    second = "PAYMENTS=creem: CREEM_PRODUCTS names no product for the plan two, which is on offer."
    assert check(settings(tmp_path, plans_file=path, payments="creem,stripe")) == [second, moon, stripe]
    assert check(settings(tmp_path, plans_file=path, payments="sandbox,creem")) == [moon]
    monkeypatch.setenv("CREEM_PRODUCTS", "one=prod_2, two=prod_3")
    assert check(settings(tmp_path, plans_file=path, payments="creem")) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[cooking]", "skill cooking: label is missing"),
        ('[voice]\nplans = ["gold"]', "skill voice: plans has gold; there is personal, "),
        ('[voice]\nruntimes = ["moon"]', "skill voice: runtimes has moon; there is docker, "),
        (RECIPES.replace(PINNED, "0" * 64), f"its SHA-256 is {PINNED}, not "),
    ],
)
def test_a_wrong_offer_of_skills_stops_the_start(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "skills.toml"
    path.write_text(text)
    (tmp_path / "recipes.tar.gz").write_bytes(ARCHIVE)
    (problem,) = check(settings(tmp_path, skills_file=path))
    assert told in problem
    path.write_text(RECIPES)
    assert check(settings(tmp_path, skills_file=path)) == []
    assert check(settings(tmp_path, skills_file=tmp_path / "gone.toml"))[0].startswith("SKILLS_FILE=")


ROW = """
[[price]]
model = "house-1"
upstream = "openai"
effective_from = 2026-01-01
input = "1"
output = "2"
context_window = 128_000
max_output_tokens = 1_000
"""


def test_the_operators_prices_lie_over_ours(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(ROW)
    given = settings(tmp_path, model_prices_file=file, default_model="house-1")
    assert check(given) == []
    ctx = build(given)
    assert ctx.prices.find("house-1", ctx.clock.now()) is not None
    assert ctx.prices.find("claude-opus-5-5", ctx.clock.now()) is not None
    ctx.db.close()
    assert "DEFAULT_MODEL=house-1: this model has no price" in check(settings(tmp_path, default_model="house-1"))[0]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (ROW.replace('"1"', "1"), "price house-1 (2026-01-01): input is US dollars per million tokens in quotes"),
        (ROW.replace("openai", "pigeon"), "upstream is one of anthropic, openai, sandbox"),
        (ROW + 'aliases = ["gpt-5.6"]\n', "gpt-5.6-sol and house-1 are both called gpt-5.6"),
        (None, "No such file"),
    ],
)
def test_what_is_wrong_with_the_operators_prices_stops_the_start(tmp_path: Path, text: str | None, wrong: str) -> None:
    file = tmp_path / "prices.toml"
    if text is not None:
        file.write_text(text)
    (problem,) = check(settings(tmp_path, model_prices_file=file))
    assert problem.startswith(f"MODEL_PRICES_FILE={file}: ")
    assert wrong in problem
