"""A proxy in a process of its own, for the test that kills it: serve_once.py PORT DATABASE_URL VENDOR_URL DATA_DIR."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from clawhaven.core.clock import Clock
from clawhaven.core.db import Database, make_engine
from clawhaven.core.secrets import KeyRing
from clawhaven.core.settings import Settings
from clawhaven.providers.upstreams.anthropic import Anthropic
from clawhaven.providers.upstreams.openai import OpenAI
from clawhaven.proxy import create_app
from tests.proxy.conftest import House, ScriptedVendor

if __name__ == "__main__":
    port, database_url, vendor_url, data_dir = sys.argv[1:]
    settings = Settings(data_dir=Path(data_dir), database_url=database_url, upstream_silence_seconds=60)
    options = Anthropic.Options(anthropic_api_key="k", anthropic_api_url=vendor_url)  # type: ignore[arg-type]
    openai = OpenAI.Options(openai_api_key="k", openai_api_url=vendor_url)  # type: ignore[arg-type]
    upstreams = {"anthropic": Anthropic(options, settings), "openai": OpenAI(openai, settings)}
    database = Database(make_engine(database_url))
    house = House(settings, database, Clock(), KeyRing([b"k" * 32]), upstreams, ScriptedVendor())  # type: ignore[arg-type]
    uvicorn.run(create_app(house), port=int(port), log_level="warning")
