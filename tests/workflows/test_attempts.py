"""How often a step is tried: "not now" a few times, the database for minutes, a refusal never again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from clawhaven.core.errors import Invalid
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import attempts

AWAY = ProviderError("no answer", code="away")
LOCKED = sa.exc.OperationalError("SELECT 1", {}, Exception("locked"))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The waits between tries, which take no time."""
    taken: list[float] = []
    monkeypatch.setattr(attempts, "pause", taken.append)
    attempts.stopping.clear()
    yield taken
    attempts.stopping.clear()


def work(*raised: Exception) -> Callable[[], str]:
    """Raises these, one a try; done then."""
    left = list(raised)

    def run() -> str:
        if left:
            raise left.pop(0)
        return "x"

    return run


@pytest.mark.parametrize(
    ("raised", "outcome", "tries"),
    [
        ([], "done", 1),
        ([AWAY, AWAY], "done", 3),
        ([AWAY] * 3, "away", 3),
        ([ProviderError("no", permanent=True, code="refused")], "refused", 1),
        ([AWAY, ProviderError("no", permanent=True, code="refused")], "refused", 2),
        ([Invalid("wrong")], "validation_failed", 1),
        ([LOCKED] * 19, "done", 20),
        ([LOCKED] * 20, "internal_error", 20),
        ([LOCKED] * 5 + [AWAY, AWAY], "done", 8),
        ([ZeroDivisionError("secret")], "internal_error", 1),
    ],
)
def test_the_policy(
    waits: list[float], monkeypatch: pytest.MonkeyPatch, raised: list[Exception], outcome: str, tries: int
) -> None:
    monkeypatch.setattr(attempts.log, "exception", lambda *_, **__: None)
    result = attempts.attempt("a step", 3, 1.0, work(*raised))
    assert result == {"done": "x"} if outcome == "done" else result["failed"]["code"] == outcome
    assert "secret" not in str(result)
    assert len(waits) == tries - 1
    assert waits == sorted(waits)
    assert all(0 < wait <= 30 for wait in waits)


def test_a_process_that_stops_records_nothing(waits: list[float]) -> None:
    def stop_and_fail() -> None:
        attempts.stopping.set()
        raise AWAY

    with pytest.raises(attempts.Interrupted):
        attempts.attempt("a step", 3, 1.0, stop_and_fail)
