"""Browsers by what a person calls them."""

from __future__ import annotations

import pytest

from clawhaven.accounts.devices import name_device

MOZILLA = "Mozilla/5.0 "


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (MOZILLA + "(X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        (
            MOZILLA + "(Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"
            " Edg/142.0",
            "Edge on Windows",
        ),
        (
            MOZILLA
            + "(iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Mobile Safari/604.1",
            "Safari on iPhone",
        ),
        (MOZILLA + "(Linux; Android 15) AppleWebKit/537.36 Chrome/142.0 Mobile Safari/537.36", "Chrome on Android"),
        (
            MOZILLA + "(Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18 Safari/605.1.15",
            "Safari on macOS",
        ),
        ("curl/8.5.0", "curl"),
        ("", ""),
        ("<script>alert(1)</script>", ""),
    ],
)
def test_names(user_agent: str, name: str) -> None:
    assert name_device(user_agent) == name
