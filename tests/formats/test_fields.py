"""Named values of untrusted files: every kind is checked, and errors name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from engram_local.errors import FileError, FormatError
from engram_local.formats.fields import MOST, Fields, read_limited

PATH = Path("some.json")


def fields(**values: object) -> Fields:
    return Fields(values, PATH)


def test_integers_within_bounds() -> None:
    values = fields(a=3, b=4.0, c=None)
    assert values.integer("a", 3, 3) == 3
    assert values.integer("b") == 4
    assert values.integer("c", default=7) == 7
    assert values.integer("missing", default=8) == 8


@pytest.mark.parametrize("value", [2, 4, True, 3.5, "3", [3], MOST + 1])
def test_other_integers_are_refused(value: object) -> None:
    with pytest.raises(FormatError, match=r"some\.json: a is .*an integer from 3 to 3"):
        fields(a=value).integer("a", 3, 3)


def test_numbers() -> None:
    assert fields(a=0.5).number("a") == 0.5
    for value in (-0.1, float("nan"), float("inf"), "1", True):
        with pytest.raises(FormatError, match="a is"):
            fields(a=value).number("a")


def test_texts_cannot_drive_a_terminal() -> None:
    assert fields(a="\x1b[2J").text("a") == "\\x1b[2J"
    assert fields(a=["\x1b"]).texts("a") == ("\\x1b",)


def test_sections_name_their_keys() -> None:
    values = fields(a={"b": [{"c": 1}, {"c": "x"}]})
    first, second = values.section("a").sections("b")
    assert first.integer("c") == 1
    with pytest.raises(FormatError, match=r"a\.b\[1\]\.c is 'x'"):
        second.integer("c")
    assert values.section("missing").names == ()
    assert values.sections("missing") == []


@pytest.mark.parametrize("value", [3, "x", [3], {"c": 1}])
def test_what_is_no_list_of_sections_is_refused(value: object) -> None:
    with pytest.raises(FormatError, match="a is"):
        fields(a=value).sections("a")


def test_keys_that_nobody_asked_for_are_refused() -> None:
    values = fields(a=1, b=2)
    values.integer("a")
    with pytest.raises(FormatError, match="b is not known"):
        values.refuse_unknown()
    assert "b" in values
    values.refuse_unknown()


def test_an_error_stays_short_whatever_the_value() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "x" * 10**6, list(range(10**5)), {"a" * 10**5: 1}):
        with pytest.raises(FormatError) as caught:
            fields(a=value).integer("a")
        assert len(caught.value.message) < 200
    while deep:  # freeing it all at once would be as deep
        deep = deep.pop()  # type: ignore[assignment]


def test_files_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    assert read_limited(path, 4) == b"1234"
    with pytest.raises(FormatError, match="larger than 3 bytes"):
        read_limited(path, 3)
    with pytest.raises(FileError, match="missing does not exist"):
        read_limited(tmp_path / "missing", 3)
