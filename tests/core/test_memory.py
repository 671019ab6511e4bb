"""What is loaded at the start is left out of later collections; what comes after is still collected."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import gc, weakref
from clawhaven.core.memory import collect_rarely

class Thing: pass
early, late = Thing(), None
early.itself = early
before = len(gc.get_objects())
collect_rarely()
assert gc.get_freeze_count() > before / 2
assert len(gc.get_objects()) < before / 10
late = Thing()
late.itself = late
seen = weakref.ref(late)
del late
gc.collect()
assert seen() is None, "a cycle made after the start must go"
seen = weakref.ref(early)
del early
gc.collect()
assert seen() is not None, "what was there at the start is not looked at again"
print(gc.get_threshold())
"""


def test_what_was_there_at_the_start_is_not_looked_through_again() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(20000, 20, 50)"
