"""How often a step is tried, and when it is not: the policy, without the engine that records the outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from clawhaven.core.errors import AppError
from clawhaven.core.logs import get_logger
from clawhaven.ports.errors import ProviderError

log = get_logger("clawhaven.workflows")

DATABASE_TRIES = 20
"""Tries of a step while the database refuses: about eight minutes."""

stopping = threading.Event()
"""Set once this process was asked to stop."""


class StepFailed(Exception):
    """A step gave up for an expected reason. The same on the first run and on every replay.

    `is_away`: nobody refused; a vendor or the database did not answer for as long as the step was tried.
    """

    def __init__(self, code: str, message: str, *, is_away: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.is_away = code, message, is_away


class Interrupted(BaseException):
    """This process stops in the middle of a step: nothing is recorded, and the step runs again at the next launch."""


def is_stopping() -> bool:
    """True once this process was asked to stop; long steps return early."""
    return stopping.is_set()


def pause(seconds: float) -> None:
    """Wait inside a step; wakes at once when the process stops."""
    stopping.wait(seconds)


def attempt(name: str, attempts: int, wait_seconds: float, work: Callable[[], Any]) -> dict[str, Any]:
    """`{"done": result}`, or `{"failed": {"code", "message", "is_away"}}` once refused for good, or tried often enough.

    A provider that says "not now" is asked `attempts` times; the database, whose refusal changed nothing, for minutes
    (were it raised, the engine would record it as the step's result, and the workflow would be over). Raises
    Interrupted between tries when this process stops: a deploy must not use up the tries.
    """
    refused, database_tries = 0, 0
    while True:
        try:
            return {"done": work()}
        except ProviderError as error:
            refused += 1
            log.warning("step refused", step=name, attempt=refused, code=error.code, error=error.message)
            if error.permanent or refused >= attempts:
                return _failed(error.code, error.message, is_away=not error.permanent)
        except AppError as error:
            return _failed(error.error_code, error.message)
        except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
            database_tries += 1
            log.warning("the database refused", step=name, tries=database_tries, error=type(error.orig).__name__)
            if database_tries >= DATABASE_TRIES:
                return _failed("internal_error", "The database does not answer.", is_away=True)
        except Exception:
            log.exception("step broke", step=name)
            return _failed("internal_error", "Something broke on our side.")
        pause(min(30.0, wait_seconds * 2 ** (refused + database_tries - 1)))
        if is_stopping():
            raise Interrupted


def _failed(code: str, message: str, *, is_away: bool = False) -> dict[str, Any]:
    return {"failed": {"code": code, "message": message, "is_away": is_away}}
