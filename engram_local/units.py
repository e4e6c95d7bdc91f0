"""Units: bytes are integers until they are printed. Imports nothing of ours."""

from __future__ import annotations

import re
import unicodedata

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB


def format_bytes(n_bytes: int) -> str:
    """Return a size for people, in binary units: `8.3 MiB`."""
    for unit_bytes, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if n_bytes >= unit_bytes:
            return f"{n_bytes / unit_bytes:.1f} {name}"
    return f"{n_bytes} B"


_SIZE = re.compile(r"(\d{1,18}(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_FACTORS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}


def parse_bytes(text: str) -> int:
    """Return the bytes of a size: `4096`, `512M`, `1.5 GiB`; units are binary.

    Raises ValueError for anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size; sizes look like 512M or 1.5G")
    number, unit = match.groups()
    return int(float(number) * _FACTORS[unit.upper()])


def format_count(count: int) -> str:
    """Return an integer with thousands separators: `134,515,008`."""
    return f"{count:,}"


_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def escape_control(text: str) -> str:
    r"""Return `text` with control characters as `\x1b`, for a terminal.

    Names, metadata and answers come from files that anybody may have written; an escape
    sequence in them could drive the terminal, a change of direction could show another
    name, and a lone surrogate cannot be printed. Newline and tab stay.
    """
    return "".join(
        f"\\x{ord(char):02x}" if _is_control(char) else char for char in text
    )


def _is_control(char: str) -> bool:
    if char in "\n\t":
        return False
    return unicodedata.category(char) in ("Cc", "Cs") or char in _DIRECTION
