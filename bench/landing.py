"""How soon the landing page shows its largest part, on a processor slowed down four times; its bytes and shifts."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Browser
from rich.console import Console
from rich.table import Table

from clawhaven import wiring
from clawhaven.cli.hosting import Doors
from clawhaven.core.settings import Settings
from tests.conftest import free_port
from tests.web.browser import open_chromium

TARGET_MS = 1000
SLOWER = 4
WATCH = """
window.seen = { largest: 0, shifted: 0 };
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.seen.largest = entry.startTime;
}).observe({ type: "largest-contentful-paint", buffered: true });
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.seen.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
LOOKS = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1280, "height": 800}}


def main(arguments: list[str]) -> int:
    """Measure and print; 1 where the median is above the target."""
    parser = argparse.ArgumentParser(prog="python -m bench landing")
    parser.add_argument("--runs", type=int, default=9, help="uncached loads of each page and size")
    parser.add_argument("--slower", type=int, default=SLOWER, help="how many times slower the processor is")
    parser.add_argument("paths", nargs="*", default=["/"], help="pages; default: /")
    given = parser.parse_args(arguments)
    table = Table("page", "look", "largest paint ms, median", "worst", "server ms", "kB", "shift")
    is_slow = False
    with serving() as base, open_chromium() as chromium:
        for path in given.paths:
            for look, size in LOOKS.items():
                runs = [load(chromium, base + path, size, given.slower) for _ in range(given.runs + 1)][1:]
                median = statistics.median(run["largest"] for run in runs)
                is_slow = is_slow or median >= TARGET_MS
                table.add_row(
                    path,
                    look,
                    f"{median:.0f}",
                    f"{max(run['largest'] for run in runs):.0f}",
                    f"{statistics.median(run['server'] for run in runs):.0f}",
                    f"{max(run['bytes'] for run in runs) / 1000:.1f}",
                    f"{max(run['shifted'] for run in runs):.3f}",
                )
    Console().print(table)
    return int(is_slow)


def load(chromium: Browser, url: str, size: dict[str, int], slower: int) -> dict[str, float]:
    """One load with nothing in the cache: milliseconds, bytes over the wire, and the sum of shifts."""
    context = chromium.new_context(viewport={"width": size["width"], "height": size["height"]})
    page = context.new_page()
    page.add_init_script(WATCH)
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    session.send("Emulation.setCPUThrottlingRate", {"rate": slower})
    sizes: list[int] = []
    session.on("Network.loadingFinished", lambda told: sizes.append(int(told["encodedDataLength"])))
    page.goto(url, wait_until="networkidle")
    page.wait_for_timeout(300)
    seen: dict[str, Any] = page.evaluate("window.seen")
    server = page.evaluate(
        "(() => { const [one] = performance.getEntriesByType('navigation');"
        " return one.responseStart - one.requestStart; })()"
    )
    context.close()
    return {"largest": seen["largest"], "shifted": seen["shifted"], "server": server, "bytes": sum(sizes)}


@contextmanager
def serving() -> Iterator[str]:
    """A new installation on SQLite, its web server alone; gives the address."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="landing-", ignore_cleanup_errors=True) as folder:
        settings = Settings(
            data_dir=Path(folder), platform_port=port, base_url=f"http://127.0.0.1:{port}", log_level="WARNING"
        )
        wiring.migrate(settings)
        ctx = wiring.build(settings)
        config = uvicorn.Config(Doors(ctx), host="127.0.0.1", port=port, log_config=None, lifespan="off")
        config.timeout_graceful_shutdown = 1
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            threading.Event().wait(0.05)
        try:
            yield settings.base_url
        finally:
            server.should_exit = True
            thread.join(30)
            ctx.db.close()
