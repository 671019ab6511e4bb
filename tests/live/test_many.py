"""Many at once against the real gateway: all come up, few boot at the same time."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.live.demo import Demo

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]

HOW_MANY, BOOTS = 6, 2
NEEDED_BYTES = HOW_MANY * 1_100_000_000


@pytest.mark.skipif(psutil.virtual_memory().available < NEEDED_BYTES, reason="too little memory for six gateways")
def test_six_at_once(tmp_path: Path) -> None:
    with Demo(tmp_path, MAX_PARALLEL_BOOTS=str(BOOTS), START_TIMEOUT_SECONDS="600") as demo:
        demo.start()
        people = [demo.join(f"person{number}@example.com") for number in range(HOW_MANY)]
        for one in people:
            one.pay()
        most = 0

        def are_all_active() -> bool:
            nonlocal most
            most = max(most, demo.count("boot_slot"))
            assert demo.count("instance", "state = 'failed'") == 0, demo.rows("SELECT failure_message FROM instance")
            return demo.count("instance", "state = 'active'") == HOW_MANY

        demo.wait(are_all_active, "six assistants", 1200)
        assert 1 <= most <= BOOTS
        assert demo.count("boot_slot") == 0
        assert set(demo.gateways()) == {one.instance_id for one in people}
        assert demo.keepers() == HOW_MANY
        ports = {port for (port,) in demo.rows("SELECT port FROM port_allocation")}
        assert len(ports) == HOW_MANY
        for number, one in enumerate(people):
            assert f"I am number {number}" in one.chat(f"I am number {number}")["reply"]
        assert demo.count("receipt") == HOW_MANY
        assert demo.problems() == []
        assert demo.stop() == 0
        assert demo.relatives() == []
