"""Where the sandbox's verbs, pages and rehearsals meet: its file, its clock, its address."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from clawhaven.core.clock import Clock
from clawhaven.providers.payments.sandbox_invoices import Desk
from clawhaven.providers.payments.sandbox_store import Store
from clawhaven.providers.payments.sandbox_trouble import ahead, refuse_when_down


class Office:
    """Opens transactions on the vendor's file. Several threads and processes may do so at once."""

    def __init__(self, store: Store, clock: Clock, base_url: str) -> None:
        self._store, self._clock, self._base_url = store, clock, base_url

    def now(self) -> datetime:
        """The time on the vendor's calendar."""
        with self._store.read() as db:
            return self._clock.now() + ahead(db)

    @contextmanager
    def _serving(self) -> Iterator[Desk]:
        """A transaction for those outside. ProviderError, worth a retry, while the vendor is switched off."""
        with self._inside() as desk:
            refuse_when_down(desk.db)
            yield desk

    @contextmanager
    def _inside(self) -> Iterator[Desk]:
        """A transaction of the vendor's own, switched off or not."""
        with self._store.tx() as db:
            now = self._clock.now()
            yield Desk(db, now + ahead(db), now)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A snapshot for those outside. ProviderError, worth a retry, while the vendor is switched off."""
        with self._store.read() as db:
            refuse_when_down(db)
            yield db

    def _page(self, kind: str, reference: str) -> str:
        return f"{self._base_url}/sandbox/{kind}/{reference}"
