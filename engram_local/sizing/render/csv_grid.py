"""The what-if grid as CSV: all combinations, bytes as integers, speeds as floats."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO

from engram_local.figures import Interval
from engram_local.sizing.grid import Cell
from engram_local.sizing.report import Report
from engram_local.units import escape_control

HEAD = (
    "model",
    "gpu",
    "weights",
    "n_ctx",
    "tier",
    "fits",
    "place",
    "vram_bytes",
    "ram_bytes",
    "longest_ctx",
    "decode_per_s_low",
    "decode_per_s",
    "decode_per_s_high",
    "decode_source",
    "prompt_per_s_low",
    "prompt_per_s",
    "prompt_per_s_high",
    "prompt_source",
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render_csv(report: Report) -> str:
    """Return a line for each combination of each model, below a head.

    Empty: not known, or no such thing. Text that a spreadsheet would take for a formula
    has an apostrophe in front.
    """
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEAD)
    for model in report.models:
        writer.writerows(_row(model.spec.name, cell) for cell in model.grid)
    return out.getvalue()


def _row(model: str, cell: Cell) -> list[str | int | float]:
    return [
        _text(model),
        _text(cell.gpu),
        _text(cell.weights),
        cell.n_ctx,
        cell.tier or "",
        "yes" if cell.fits else "no",
        cell.place.name.lower(),
        cell.vram_bytes,
        cell.ram_bytes,
        cell.longest_ctx,
        *_interval(cell.decode_per_s),
        *_interval(cell.prompt_per_s),
    ]


def _text(text: str) -> str:
    plain = escape_control(" ".join(text.split()))
    return f"'{plain}" if plain.startswith(_FORMULA) else plain


def _interval(interval: Interval | None) -> Iterator[float | str]:
    if interval is None:
        yield from ("", "", "", "unknown")
        return
    for rate in (interval.low, interval.value, interval.high):
        yield round(rate, 6)
    yield interval.source
