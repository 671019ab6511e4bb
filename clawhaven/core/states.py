"""State machines: one table of allowed moves, one guarded UPDATE, no other writer."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from clawhaven.core.errors import IllegalMove

S = TypeVar("S", bound=StrEnum)


class Machine(Generic[S]):
    """Allowed moves of one kind of row. `moves[source]` is the set of states reachable from it."""

    def __init__(self, name: str, model: Any, column: str, moves: Mapping[S, frozenset[S]]) -> None:
        self.name, self.model, self.column, self.moves = name, model, column, moves

    def sources(self, to: S) -> list[S]:
        """States from which `to` may be reached."""
        return [state for state, targets in self.moves.items() if to in targets]

    def move(self, db: Session, row_id: str, to: S, **values: Any) -> bool:
        """Move the row to `to` and set `values` with it.

        True: moved. False: it was there already (a replay). IllegalMove: neither.
        The decision is one UPDATE, so of many concurrent callers exactly one gets True.
        """
        state = getattr(self.model, self.column)
        moved = db.execute(
            update(self.model)
            .where(self.model.id == row_id, state.in_(self.sources(to)))
            .values({self.column: to, **values})
            .returning(self.model.id)
            .execution_options(synchronize_session="fetch")
        ).first()
        if moved:
            return True
        current = db.execute(state_of(self.model, state, row_id)).scalar_one_or_none()
        if current == to:
            return False
        raise IllegalMove(
            f"This {self.name} is {current or 'gone'} and cannot become {to}.", state=current, wanted=str(to)
        )

    def mermaid(self) -> str:
        """The diagram of this machine for the documentation."""
        lines = ["stateDiagram-v2"]
        for source, targets in self.moves.items():
            lines += [f"    {source} --> {target}" for target in sorted(targets)]
        return "\n".join(lines)


def state_of(model: Any, column: Any, row_id: str) -> Any:
    """The SELECT for one row's state."""
    return select(column).where(model.id == row_id)
