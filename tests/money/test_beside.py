"""People act at once on the same customers while a worker is killed -9: when it is calm, every truth holds.

To play more of it: `make bench-money ARGS="--beside 20"`, or `python -m bench money --beside 1 --seed SEED`.
"""

from __future__ import annotations

from pathlib import Path

from tests.money.beside import PEOPLE, tell_beside

KILLS = 1
DEEDS = 30


def test_every_truth_holds_though_all_act_at_once(tmp_path: Path, database_url: str) -> None:
    tale = tell_beside(tmp_path, database_url, 1, kills=KILLS, deeds=DEEDS)
    assert not tale.lies, "\n".join([*tale.told, "", *tale.lies])
    assert tale.deeds >= PEOPLE * DEEDS
    assert tale.deaths.total() > KILLS
    assert tale.done["visit_page"] > 2
