"""The hand-written PDF keeps to the format, whatever is on it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from clawhaven.providers.payments.sandbox_paper import write_pdf


@given(st.lists(st.text(max_size=40), max_size=8))
def test_every_offset_leads_to_its_object(lines: list[str]) -> None:
    made = write_pdf(lines)
    assert made.startswith(b"%PDF-1.4\n")
    begin = re.search(rb"startxref\n(\d+)\n%%EOF\n$", made)
    assert begin is not None
    table = int(begin[1])
    assert made[table:].startswith(b"xref\n0 6\n")
    rows = made[table:].split(b"\n")[3:8]
    for number, row in enumerate(rows, 1):
        assert len(row) == 19  # and the line's end: 20 bytes, as the format asks
        assert made[int(row[:10]) :].startswith(b"%d 0 obj" % number)
    stream = re.search(rb"/Length (\d+) >>\nstream\n", made)
    assert stream is not None
    assert made[stream.end() + int(stream[1]) :].startswith(b"\nendstream")


def test_the_text_is_there_and_brackets_do_not_end_it() -> None:
    made = write_pdf(["Invoice SANDBOX-00001", "For (50 % off) \\ Müller", "$29.00"])
    assert rb"(For \(50 % off\) \\ M" in made
    assert b"($29.00) Tj" in made
