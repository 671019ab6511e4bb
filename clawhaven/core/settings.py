"""Settings from the environment, `.env`, and `NAME_FILE` for secrets. Defaults start everything with no account.

Every class of settings derives from EnvSettings: the product's own below, a vendor's beside that vendor's provider.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from clawhaven.core import colours

LOGO_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}
"""What a logo may be, and what it is sent as."""
CARD_TYPES = (".png", ".jpg")
"""What networks and messengers show beside a link: all of them know these. https://ogp.me/#types"""


def _readability(colour: str, *, is_text: bool) -> float:
    """The contrast of a brand's colour with a white page; as text also with its own tint."""
    grounds = (colours.WHITE, colours.mix(colour, colours.WHITE, 0.1)) if is_text else (colours.WHITE,)
    return min(colours.contrast(colour, ground) for ground in grounds)


class FileSecrets(PydanticBaseSettingsSource):
    """`STRIPE_SECRET_KEY_FILE=/run/secrets/stripe` gives STRIPE_SECRET_KEY the file's content, stripped.

    `written`: what stands in `.env`, names in lower case; the environment is asked before it.
    """

    def __init__(self, settings_cls: type[BaseSettings], written: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._written = written

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The content of the file named by NAME_FILE; raises ValueError when it cannot be read."""
        name = f"{field_name.upper()}_FILE"
        path = os.environ.get(name)
        if not path and not os.environ.get(field_name.upper()):
            path = self._written.get(name.lower())
        if not path:
            return None, field_name, False
        try:
            return Path(path).read_text().strip(), field_name, False
        except OSError as error:
            raise ValueError(f"{name}: cannot read {path}: {error.strerror}") from None

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                found[key] = value
        return found


def _lines_of(source: PydanticBaseSettingsSource) -> Mapping[str, str | None]:
    return source.env_vars if isinstance(source, DotEnvSettingsSource) else {}


class EnvSettings(BaseSettings):
    """Settings of one part: field `telegram_api_url` is the variable TELEGRAM_API_URL. Values are stripped."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", str_strip_whitespace=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, FileSecrets(settings_cls, _lines_of(dotenv_settings)), env_settings, dotenv_settings


class Settings(EnvSettings):
    """What the product itself needs to know. One variable per field, in capitals."""

    environment: Literal["development", "production"] = Field(
        "development", description="`production` refuses sandbox providers and missing secrets at the start."
    )
    data_dir: Path = Field(Path("./var"), description="Everything this installation keeps, unless said otherwise.")
    database_url: str = Field("", description="`postgresql://…` or `sqlite:///…`. Default: SQLite in DATA_DIR.")
    database_path: Path | None = Field(None, description="A SQLite file; the short form of DATABASE_URL.")
    customers_dir: Path | None = Field(None, description="Instances' files. Default: DATA_DIR/customers.")
    templates_dir: Path | None = Field(None, description="Own persona templates beside the built-in ones.")
    cache_dir: Path = Field(
        Path(platformdirs.user_cache_dir("clawhaven")), description="Node, OpenClaw and images, shared and rebuildable."
    )
    base_url: str = Field("", description="Public address of this site. Default: http://PLATFORM_HOST:PLATFORM_PORT.")
    base_domain: str = Field("localhost", description="Assistants live at <slug>.BASE_DOMAIN.")
    platform_host: str = Field("127.0.0.1", description="Address the web server listens on.")
    platform_port: int = Field(8080, ge=1, le=65535, description="Port the web server listens on.")
    proxy_bind: str = Field(
        "", description="`host:port` for a listener that serves only the model proxy (containers reach it there)."
    )
    proxy_url: str = Field("", description="The model proxy's address as an instance sees it, where not the default.")
    proxy_public_url: str = Field(
        "", description="The model proxy's address for customers' own programs. Default: BASE_URL/proxy."
    )
    port_range_start: int = Field(30000, ge=1024, le=65535, description="First loopback port for gateways.")
    port_range_end: int = Field(30999, ge=1024, le=65535, description="Last loopback port for gateways.")
    max_customers: int = Field(20, ge=0, description="Places; beyond it sign-up answers at_capacity.")
    encryption_key: SecretStr = Field(
        SecretStr(""), description="32 bytes as hex or base64; several, newest first, for rotation."
    )
    runtime: str = Field("process", description="Where new instances run: process or docker.")
    allow_weak_isolation: bool = Field(
        False, description="Let production use the process runtime, where assistants run as our own user."
    )
    host_name: str = Field("", description="Name of this host in the books. Default: the machine's host name.")
    payments: str = Field(
        "sandbox", description="Which providers take payments: sandbox, stripe, creem; several by comma."
    )
    subscriptions_by: str = Field("", description="Which of PAYMENTS sells subscriptions. Default: the first that can.")
    topups_by: str = Field("", description="Which of PAYMENTS sells top-ups. Default: the first that can.")
    plans_file: Path | None = Field(None, description="Your own plan catalogue (TOML) instead of the built-in one.")
    skills_file: Path | None = Field(
        None, description="What you offer of the skills, and skills of your own (TOML); see docs/howto/offer-skills.md."
    )
    wallet_minimum: Decimal = Field(
        Decimal(10), ge=0, le=100_000, description="US dollars a metered wallet never goes below; 0 is allowed."
    )
    topup_minimum: Decimal = Field(Decimal(10), ge=1, le=100_000, description="Smallest top-up in US dollars.")
    topup_maximum: Decimal = Field(Decimal(1000), ge=1, le=100_000, description="Largest top-up in US dollars.")
    low_balance_margin: Decimal = Field(
        Decimal(5), ge=0, le=100_000, description="US dollars above WALLET_MINIMUM below which the customer is warned."
    )
    depleted_grace_minutes: int = Field(
        60,
        ge=0,
        description="So long a gateway without credit stays up to say so in its channels; then it is suspended.",
    )
    grace_days: int = Field(
        14, ge=0, le=365, description="Days after a failed payment before the assistant is suspended."
    )
    deletion_days: int = Field(7, ge=1, le=365, description="Days after that before it is deleted; announced by mail.")
    suspend_on_refund: bool = Field(True, description="Suspend when the current period's payment was refunded in full.")
    suspend_on_dispute: bool = Field(
        True, description="Suspend while a payment is disputed, and when it is lost; set disputed top-ups aside."
    )
    instance_cost: Decimal = Field(
        Decimal(0),
        ge=0,
        le=100_000,
        description="What an assistant's server costs you a month, US dollars; for the margin.",
    )
    admin_emails: str = Field("", description="Operators: who signs in by mail with one of these may use /admin.")
    notifier: str = Field("console", description="How mail leaves: console or smtp.")
    ingress: str = Field("direct", description="How instances are reached from outside: direct.")
    mail_from: str = Field("Clawhaven <noreply@localhost>", description="Sender of every mail.")
    support_address: str = Field("support@localhost", description="Shown to customers who need a person.")
    brand_name: str = Field("Clawhaven", min_length=1, max_length=60, description="The name customers see.")
    brand_logo: Path | None = Field(None, description="Your logo (SVG, PNG, WebP or JPEG), shown 28 pixels high.")
    brand_card: Path | None = Field(
        None, description="Your picture beside shared links (PNG or JPEG, 1200 by 630). Default: ours, without a name."
    )
    brand_primary: str = Field(
        "", description="Your colour, `#rrggbb`, for links and buttons; dark enough to read on white. Default: ours."
    )
    brand_accent: str = Field(
        "", description="The colour of the one button that matters on a page, `#rrggbb`. Default: our orange."
    )
    terms_file: Path | None = Field(None, description="Your terms (Markdown), shown at /terms.")
    privacy_file: Path | None = Field(None, description="Your privacy notice (Markdown), shown at /privacy.")
    imprint_file: Path | None = Field(None, description="Who runs this site (Markdown), shown at /imprint.")
    default_model: str = Field("", description="Model of new instances. Default: the best one there is a key for.")
    model_markup_percent: int = Field(150, ge=100, le=10_000, description="Customer price as per cent of list price.")
    model_prices_file: Path | None = Field(
        None, description="Your own prices of models (TOML): other prices than ours, further models, models not sold."
    )
    trial_model: str = Field(
        "",
        max_length=100,
        description="The model strangers talk to on the landing page, at your cost. Default: the sandbox, or none.",
    )
    trial_budget_per_day: Decimal = Field(
        Decimal(1),
        ge=0,
        le=100_000,
        description="US dollars a day (UTC) that these talks may cost you, at list price; 0 closes the trial chat.",
    )
    openclaw_version: str = Field("2026.9.6", description="The pinned OpenClaw version.")
    instance_memory_mb: int = Field(2048, ge=1280, description="Memory limit per instance; below 1280 MB it dies.")
    instance_cpus: float = Field(2.0, gt=0, description="CPU limit per instance.")
    max_parallel_boots: int = Field(2, ge=1, description="Gateways that may start at the same time on this host.")
    start_timeout_seconds: int = Field(180, ge=10, description="A gateway not ready by then has failed.")
    drain_seconds: int = Field(60, ge=0, description="Time for a turn in flight before a gateway is stopped.")
    proxy_waits_for_disk: bool = Field(
        False,
        description="Let each model call wait until the disk has it. Off: PostgreSQL waits for settlements only;"
        " SQLite's reach the disk within 0.05 s: a power failure in between can lose one, no end of a process can.",
    )
    upstream_silence_seconds: int = Field(75, ge=5, description="A model vendor that says nothing so long is cut.")
    spend_spike_minimum: Decimal = Field(
        Decimal(10), ge=0, le=100_000, description="US dollars an account spends in an hour before it can be a spike."
    )
    invoice_tolerance_percent: Decimal = Field(
        Decimal(2), ge=0, le=100, description="How far a vendor's figures may be from ours, per cent, unnoticed."
    )
    metrics_token: SecretStr = Field(
        SecretStr(""),
        description="What Prometheus sends to read /metrics. Empty: only this machine may, in production nobody.",
    )
    backups_dir: Path | None = Field(
        None, description="Sealed copies of assistants; best on another disk. Default: DATA_DIR/backups."
    )
    backup_hour: int = Field(3, ge=0, le=23, description="The hour (UTC) from which the daily backups are made.")
    backups_kept: int = Field(7, ge=1, le=365, description="Daily backups that are kept of each assistant.")
    backups_at_once: int = Field(2, ge=1, le=64, description="Daily backups that are made at the same time.")
    backup_max_mb: int = Field(
        20_000, ge=1, description="An assistant that keeps more than this is not backed up; you are told."
    )
    disk_kept_free_mb: int | None = Field(
        None,
        ge=0,
        description="Megabytes of a disk that backups and restores leave free."
        " Default: 1000, or 5 % of the disk where that is more.",
    )
    session_days: int = Field(7, ge=1, description="Life of a sign-in.")
    trusted_proxy_count: int = Field(0, ge=0, description="Reverse proxies in front, whose X-Forwarded-For counts.")
    sign_in_per_minute: int = Field(5, ge=1, description="Sign-in tries per address and minute.")
    sign_up_per_minute: int = Field(5, ge=1, description="Sign-ups per address and minute.")
    webhooks_per_minute: int = Field(100, ge=1, description="Webhook deliveries per address and minute.")
    api_per_minute: int = Field(100, ge=1, description="API calls per address or key and minute.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="How much is logged.")
    log_format: Literal["json", "text"] = Field("json", description="Log lines for machines or for eyes.")

    @field_validator("brand_primary", "brand_accent")
    @classmethod
    def _check_colour(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            return value
        colour = colours.parse(value)
        needed = 4.5 if info.field_name == "brand_primary" else 3.0
        found = _readability(colour, is_text=needed == 4.5)
        if found < needed:
            shades = (colours.mix(colours.BLACK, colour, share / 50) for share in range(51))
            near = next(shade for shade in shades if _readability(shade, is_text=needed == 4.5) >= needed)
            raise ValueError(
                f"{colour} stands out from a light page with a contrast of {found:.1f}, and people need {needed}; "
                f"{near} is the nearest that works"
            )
        return colour

    @field_validator("brand_logo", "brand_card", "terms_file", "privacy_file", "imprint_file")
    @classmethod
    def _check_file(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return None
        path = value.expanduser().absolute()
        if not path.is_file() or not os.access(path, os.R_OK):
            raise ValueError(f"{path} is not a file that can be read")
        if info.field_name == "brand_logo" and path.suffix.lower() not in LOGO_TYPES:
            raise ValueError(f"a logo ends in {', '.join(LOGO_TYPES)}")
        if info.field_name == "brand_card" and path.suffix.lower() not in CARD_TYPES:
            raise ValueError(f"a picture for links ends in {', '.join(CARD_TYPES)}")
        return path

    @model_validator(mode="after")
    def _fill_in(self) -> Settings:
        if self.port_range_end < self.port_range_start:
            raise ValueError("PORT_RANGE_END must not be below PORT_RANGE_START")
        if self.topup_maximum < self.topup_minimum:
            raise ValueError("TOPUP_MAXIMUM must not be below TOPUP_MINIMUM")
        self.data_dir = self.data_dir.expanduser().absolute()
        self.cache_dir = self.cache_dir.expanduser().absolute()
        self.customers_dir = (self.customers_dir or self.data_dir / "customers").expanduser().absolute()
        if not self.database_url:
            path = (self.database_path or self.data_dir / "clawhaven.sqlite3").expanduser().absolute()
            self.database_url = f"sqlite:///{path}"
        self.base_url = (self.base_url or f"http://{self.platform_host}:{self.platform_port}").rstrip("/")
        self.proxy_url = self.proxy_url.rstrip("/")
        self.proxy_public_url = self.proxy_public_url.rstrip("/")
        return self

    def micros(self, name: str) -> int:
        """A setting in US dollars as micro-dollars: `micros("wallet_minimum")`."""
        return int(getattr(self, name) * 1_000_000)

    @property
    def operators(self) -> frozenset[str]:
        """The addresses of ADMIN_EMAILS, lower case."""
        return frozenset(word.strip().lower() for word in self.admin_emails.split(",") if word.strip())

    @property
    def kept_free_bytes(self) -> int | None:
        """DISK_KEPT_FREE_MB in bytes."""
        return None if self.disk_kept_free_mb is None else self.disk_kept_free_mb * 1_000_000

    @property
    def is_production(self) -> bool:
        """True where weak or missing secrets and sandbox providers stop the start."""
        return self.environment == "production"

    @property
    def vault_dir(self) -> Path:
        """Where backups are kept."""
        return (self.backups_dir or self.data_dir / "backups").expanduser().absolute()

    @property
    def instances_dir(self) -> Path:
        """Where instances keep their files."""
        assert self.customers_dir is not None
        return self.customers_dir

    def keys(self) -> str:
        """The key ring's text. Outside production a missing key is made once and kept at DATA_DIR/encryption.key."""
        given = self.encryption_key.get_secret_value()
        if given or self.is_production:
            return given
        path = self.data_dir / "encryption.key"
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            # Linked into place whole: another process sees either no file or all of it.
            with tempfile.NamedTemporaryFile("w", dir=self.data_dir, prefix=".key-") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):
                    os.link(file.name, path)
        return path.read_text().strip()
