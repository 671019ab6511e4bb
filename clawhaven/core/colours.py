"""Colours as #rrggbb and the contrast between them, as WCAG 2 counts it."""

from __future__ import annotations

import re

_HEX = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")

WHITE = "#ffffff"
BLACK = "#000000"


def parse(text: str) -> str:
    """`#54C` or `#5142cf` as `#5544cc`, `#5142cf`; raises ValueError on anything else."""
    if not _HEX.fullmatch(text):
        raise ValueError(f"a colour is written as #rrggbb, not {text!r}")
    digits = text[1:].lower()
    return "#" + ("".join(digit * 2 for digit in digits) if len(digits) == 3 else digits)


def contrast(one: str, other: str) -> float:
    """1 (the same) to 21 (black on white). Text needs 4.5, what is not text 3.

    https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
    """
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def mix(one: str, other: str, share: float) -> str:
    """`share` (0 to 1) of the first colour in the second."""
    pairs = zip(_channels(one), _channels(other), strict=True)
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


def towards(colour: str, end: str, grounds: tuple[str, ...], ratio: float) -> str:
    """The colour, moved towards `end` just as far as it needs for that contrast with every ground."""
    for step in range(0, 101, 2):
        moved = mix(end, colour, step / 100)
        if all(contrast(moved, ground) >= ratio for ground in grounds):
            return moved
    return end


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    linear = [
        part / 12.92 if (part := value / 255) <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for value in _channels(colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
