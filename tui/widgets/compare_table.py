"""Two answers in numbers, and a sentence that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text
from textual.widgets import Static

from engram_local.events import Compared, ComparedArm
from engram_local.units import format_count

_NO_DIFFERENCE = 0.005
"""Nats per token; less shows as 0.00."""

_NAME_CELLS = 24
_CELLS = 20


def table_lines(arms: Sequence[ComparedArm]) -> Iterator[str]:
    """Yield a table with a column per answer."""
    yield _line(
        "answer written",
        ["with memory" if arm.memory_on else "without" for arm in arms],
    )
    yield _line("NLL with memory", [_nll(arm.nll_on) for arm in arms])
    yield _line("NLL without memory", [_nll(arm.nll_off) for arm in arms])
    yield _line("tokens, per second", [_tokens(arm) for arm in arms])


def _line(name: str, values: Sequence[str]) -> str:
    cells = "".join(value.rjust(_CELLS) for value in values)
    return f"{name:<{_NAME_CELLS}}{cells}"


def _nll(nll: float | None) -> str:
    return "-" if nll is None else f"{nll:.3f} nats/token"


def _tokens(arm: ComparedArm) -> str:
    count = format_count(len(arm.finished.token_ids))
    speed = arm.finished.tokens_per_s
    return f"{count}, -" if speed is None else f"{count}, {speed:.1f}"


def sentences(arms: Sequence[ComparedArm]) -> str:
    """Return what the numbers say, in words."""
    if any(arm.finished.finish_reason == "cancelled" for arm in arms):
        return "It was stopped, so nothing was scored."
    if len({arm.finished.text for arm in arms}) < len(arms):
        same = "Both answers are the same, word for word."
    else:
        same = ""
    parts = (same, *(_sentence(arm) for arm in arms[: 1 if same else None]))
    return " ".join(part for part in parts if part)


def _sentence(arm: ComparedArm) -> str:
    """Return how likely an answer is under both settings."""
    if arm.nll_on is None or arm.nll_off is None:
        return ""
    written = "with memory" if arm.memory_on else "without memory"
    answer = f"The answer written {written} is"
    likelier = arm.nll_off - arm.nll_on
    if abs(likelier) < _NO_DIFFERENCE:
        return f"{answer} as likely with memory as without it."
    more, less = ("with", "without") if likelier > 0 else ("without", "with")
    by = f"{abs(likelier):.2f} nats per token"
    return f"{answer} {by} likelier {more} memory than {less} it."


class CompareTable(Static):
    """The table and the sentences; empty before there are numbers."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)

    def show(self, compared: Compared | None) -> None:
        """Show the numbers of two answers; None = none."""
        if compared is None:
            self.update("")
            return
        lines = [*table_lines(compared.arms), "", sentences(compared.arms)]
        self.update(Text("\n".join(lines)))
