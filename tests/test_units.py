"""Numbers and names on their way to a screen."""

from __future__ import annotations

import pytest

from engram_local.units import (
    GIB,
    KIB,
    MIB,
    TIB,
    escape_control,
    format_bytes,
    format_count,
    parse_bytes,
)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (MIB - 1, "1024.0 KiB"),
        (MIB, "1.0 MiB"),
        (8 * MIB + 300 * KIB, "8.3 MiB"),
        (GIB, "1.0 GiB"),
        (202_758_032_400, "188.8 GiB"),
    ],
)
def test_bytes_are_shown_in_binary_units(n_bytes: int, text: str) -> None:
    assert format_bytes(n_bytes) == text


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("100K", 100 * KIB),
        ("512M", 512 * MIB),
        ("30G", 30 * GIB),
        ("1.5g", 3 * GIB // 2),
        ("2T", 2 * TIB),
        (" 8.5 MiB ", 17 * MIB // 2),
        ("64kb", 64 * KIB),
        ("7B", 7),
    ],
)
def test_sizes_are_parsed_in_binary_units(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize(
    "text", ["", "G", "-1G", "1e9", "30X", "1,5G", "30 GB s", "nan", "9" * 400]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size; sizes look like 512M"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (134_515_008, "134,515,008")]
)
def test_counts_have_separators(count: int, text: str) -> None:
    assert format_count(count) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x07\x00\x7f\x9b", r"\x07\x00\x7f\x9b"),
        ("\r", r"\x0d"),
        ("gpj.\u202eexe", r"gpj.\x202eexe"),
        ("👩\u200d🚀", "👩\u200d🚀"),  # joined with a format character
        ("a\n\tb", "a\n\tb"),
        ("Ġcafé 中文 😀", "Ġcafé 中文 😀"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert escape_control(text) == shown


def test_what_was_no_text_can_be_printed() -> None:
    """Strings of a file may hold lone surrogates; printing those would raise."""
    shown = escape_control("name \udcff")
    assert shown.encode("utf-8")
