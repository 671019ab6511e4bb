"""Draw the pictures that are shown elsewhere: the card beside a shared link, and the icon on a telephone's screen.

python -m assets.card        needs Chromium; what it draws is committed
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from assets.build import HERE, MODULES, WEB, install, is_installed

CHROMIUM = Path("/usr/bin/chromium")
FONT = MODULES / "@fontsource-variable" / "inter" / "files" / "inter-latin-wght-normal.woff2"
CARD = WEB / "static" / "card.png"
ICON = WEB / "static" / "icon.png"
ICON_SIZE = 512


def card_page() -> str:
    """The card as one HTML file with its font (Inter, OFL-1.1) inside."""
    font = base64.b64encode(FONT.read_bytes()).decode()
    return (HERE / "card.html").read_text().replace("FONT", f"data:font/woff2;base64,{font}")


def icon_page() -> str:
    """The icon without round corners: telephones cut their own."""
    drawing = (WEB / "static" / "favicon.svg").read_text().replace(' rx="9"', "")
    return f"<style>body{{margin:0}}svg{{display:block;width:{ICON_SIZE}px}}</style>{drawing}"


def draw(browser: Browser, html: str, width: int, height: int) -> bytes:
    """The page as a PNG of that size."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_content(html)
    page.evaluate("document.fonts.ready")
    picture = page.screenshot(animations="disabled")
    page.close()
    return picture


def main() -> int:
    """Write both."""
    if not is_installed():
        install()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        CARD.write_bytes(draw(browser, card_page(), 1200, 630))
        ICON.write_bytes(draw(browser, icon_page(), ICON_SIZE, ICON_SIZE))
        browser.close()
    for path in (CARD, ICON):
        print(f"wrote {path.relative_to(WEB.parent.parent)} ({path.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
