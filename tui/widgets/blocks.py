"""Block characters: a part of 1 as one cell, as a bar, as columns. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

STEPS = "▁▂▃▄▅▆▇█"
NONE = "·"
UNKNOWN = "░"
_EIGHTHS = " ▏▎▍▌▋▊▉"


def cell(part: float | None) -> str:
    """Return one cell for a part, 0 to 1: a dot for nothing, hatched for unknown.

    What is more than nothing is never a dot, and only all of it is a full block.
    """
    if part is None:
        return UNKNOWN
    if part <= 0:
        return NONE
    return STEPS[-1] if part >= 1 else STEPS[int(part * (len(STEPS) - 1))]


def bar(part: float, width: int) -> str:
    """Return a horizontal bar of `width` cells, filled up to a part, 0 to 1.

    What is more than nothing shows at least an eighth of a cell.
    """
    eighths = round(min(max(part, 0.0), 1.0) * width * 8)
    if part > 0 and width > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def columns(parts: Sequence[float], height: int, width: int) -> list[str]:
    """Return the lines, top first, of columns of `width` cells with a gap of one.

    What is more than nothing shows at least an eighth of a cell.
    """
    eighths = [
        max(round(min(part, 1.0) * height * 8), 1) if part > 0 else 0 for part in parts
    ]
    return [
        "".join(_slice(count - 8 * row) * (width - 1) + " " for count in eighths)
        for row in reversed(range(height))
    ]


def _slice(eighths: int) -> str:
    return " " if eighths <= 0 else STEPS[min(eighths, 8) - 1]
