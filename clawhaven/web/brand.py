"""The operator's brand: name, logo, colours, support address, legal texts. Colours become variables of the sheet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from clawhaven.core import colours
from clawhaven.core.settings import Settings

LIGHT_GROUND = "#ffffff"
DARK_GROUND = "#181726"
INK = "#17152b"
TEXT = 4.5
NOT_TEXT = 3.0


@dataclass(frozen=True, slots=True)
class Brand:
    """What pages show of the operator. `str()` is the name. Addresses change with what they lead to; empty: ours."""

    name: str
    support: str
    sheet: str
    sheet_url: str
    logo: Path | None
    logo_url: str
    card: Path | None
    card_url: str
    legal: dict[str, Path]

    def __str__(self) -> str:
        return self.name


def load(settings: Settings) -> Brand:
    """The brand of this installation; the settings were checked when they were read."""
    files = {"terms": settings.terms_file, "privacy": settings.privacy_file, "imprint": settings.imprint_file}
    sheet, logo = sheet_of(settings.brand_primary, settings.brand_accent), settings.brand_logo
    card = settings.brand_card
    return Brand(
        name=settings.brand_name,
        support=settings.support_address,
        sheet=sheet,
        sheet_url=f"/brand.css?v={_digest(sheet.encode())}" if sheet else "",
        logo=logo,
        logo_url=f"/brand/logo?v={_digest(logo.read_bytes())}" if logo else "",
        card=card,
        card_url=f"/brand/card?v={_digest(card.read_bytes())}" if card else "",
        legal={name: path for name, path in files.items() if path is not None},
    )


def sheet_of(primary: str, accent: str) -> str:
    """The style sheet that puts these colours in the place of ours, for both themes; empty colours stay ours.

    A dark theme needs lighter colours: they are moved towards white just as far as text in them needs.
    """
    light: dict[str, str] = {}
    dark: dict[str, str] = {}
    if primary:
        light |= _primary(primary, LIGHT_GROUND, colours.BLACK, 0.1)
        dark |= _primary(primary, DARK_GROUND, colours.WHITE, 0.25)
    if accent:
        light |= _accent(accent, LIGHT_GROUND, colours.BLACK)
        dark |= _accent(accent, DARK_GROUND, colours.WHITE)
    if not light:
        return ""
    return (
        f":root:root:root{{{_declared(light)}}}\n"
        f"@media (prefers-color-scheme:dark){{:root:root:root:root:not([data-theme=light]){{{_declared(dark)}}}}}\n"
        f":root:root:root:root[data-theme=dark]{{{_declared(dark)}}}\n"
    )


def readable_on(ground: str) -> str:
    """White, our dark ink or black: the first that text on this ground can be read in."""
    return next(colour for colour in (colours.WHITE, INK, colours.BLACK) if colours.contrast(colour, ground) >= TEXT)


def _primary(colour: str, ground: str, end: str, share: float) -> dict[str, str]:
    soft = colours.mix(colour, ground, share)
    shown = colours.towards(colour, end, (ground, soft), TEXT)
    return {
        "primary": shown,
        "primary-hover": _over(shown),
        "primary-foreground": readable_on(shown),
        "primary-soft": soft,
        "ring": shown,
    }


def _accent(colour: str, ground: str, end: str) -> dict[str, str]:
    shown = colours.towards(colour, end, (ground,), TEXT if end == colours.WHITE else NOT_TEXT)
    return {"call": shown, "call-hover": _over(shown), "call-foreground": readable_on(shown)}


def _over(colour: str) -> str:
    """The colour under the pointer: away from its text's, so that the text only becomes clearer."""
    end = colours.BLACK if readable_on(colour) == colours.WHITE else colours.WHITE
    return colours.mix(end, colour, 0.15)


def _declared(values: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in values.items())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
