"""What a person recognises a browser by: `Firefox on Linux`. Coarse on purpose; it is told from the User-Agent line."""

from __future__ import annotations

import re

_PROGRAMS = (
    ("Edge", r"\bEdgA?/|\bEdgiOS/"),
    ("Opera", r"\bOPR/|\bOpera\b"),
    ("Samsung Internet", r"\bSamsungBrowser/"),
    ("Firefox", r"\bFirefox/|\bFxiOS/"),
    ("Chrome", r"\b(Headless)?Chrome/|\bCriOS/|\bChromium/"),
    ("Safari", r"\bSafari/"),
    ("curl", r"^curl/"),
    ("Clawhaven CLI", r"^clawhaven\b"),
)
"""The first that fits counts: most browsers name others beside themselves."""

_SYSTEMS = (
    ("iPhone", r"\biPhone\b"),
    ("iPad", r"\biPad\b"),
    ("Android", r"\bAndroid\b"),
    ("Windows", r"\bWindows\b"),
    ("ChromeOS", r"\bCrOS\b"),
    ("macOS", r"\bMac OS X\b|\bMacintosh\b"),
    ("Linux", r"\bLinux\b"),
)


def name_program(user_agent: str) -> str:
    """`Firefox`, or empty when it is none we know."""
    return _first(_PROGRAMS, user_agent)


def name_system(user_agent: str) -> str:
    """`Linux`, or empty when it is none we know."""
    return _first(_SYSTEMS, user_agent)


def name_device(user_agent: str) -> str:
    """`Firefox on Linux`; with one half where the other is not known, empty where neither is."""
    return " on ".join(filter(None, (name_program(user_agent), name_system(user_agent))))


def _first(known: tuple[tuple[str, str], ...], text: str) -> str:
    return next((name for name, pattern in known if re.search(pattern, text)), "")
