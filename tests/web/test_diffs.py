"""Two texts compared for people."""

from __future__ import annotations

from clawhaven.web.diffs import MOST_LINES, compare


def test_changed_lines_stand_among_those_around_them() -> None:
    before = "\n".join(str(number) for number in range(20))
    found = compare(before, before.replace("10", "ten"))
    assert [(line.kind, line.text) for line in found] == [
        ("gap", ""),
        *[("same", str(number)) for number in (7, 8, 9)],
        ("removed", "10"),
        ("added", "ten"),
        *[("same", str(number)) for number in (11, 12, 13)],
    ]
    assert compare("a\n", "a") == []
    assert [line.kind for line in compare("", "a")] == ["added"]


def test_a_change_of_many_lines_is_one_block_among_its_neighbours() -> None:
    old = [f"old {number}" for number in range(MOST_LINES + 1)]
    found = compare("\n".join(["a", "b", "c", "d", *old, "z"]), "\n".join(["a", "b", "c", "d", "new", "z"]))
    kinds = [line.kind for line in found]
    assert kinds == ["gap", "same", "same", "same", *["removed"] * len(old), "added", "same"]


def test_a_hostile_text_is_not_matched_line_by_line() -> None:
    for old, new in (
        ("first\n" + "a\nb\n" * 745, "other\n" + "b\na\na\n" * 497 + "last"),
        ("x\n" * 20_000, "y\n" * 20_000),
    ):
        assert {line.kind for line in compare(old, new)} == {"removed", "added"}
