"""Two answers in numbers, and a sentence that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text
from textual.widgets import Static

from engram_local.units import format_count
from engram_local.worker.protocol import Compared, ComparedArm

_NO_DIFFERENCE = 0.005
"""Nats per token; less shows as 0.00."""

_NAME_CELLS = 24
_CELLS = 20


def table_lines(arms: Sequence[ComparedArm]) -> Iterator[str]:
    """Yield a table with a column per answer."""
    yield _line("", ["with memory" if arm.memory_on else "without" for arm in arms])
    yield _line("NLL with memory", [_nll(arm.nll_on) for arm in arms])
    yield _line("NLL without memory", [_nll(arm.nll_off) for arm in arms])
    yield _line("tokens", [format_count(len(arm.finished.token_ids)) for arm in arms])
    yield _line("tokens per second", [_speed(arm) for arm in arms])
    yield _line("ended", [arm.finished.finish_reason for arm in arms])


def _line(name: str, values: Sequence[str]) -> str:
    cells = "".join(value.rjust(_CELLS) for value in values)
    return f"{name:<{_NAME_CELLS}}{cells}"


def _nll(nll: float | None) -> str:
    return "-" if nll is None else f"{nll:.3f} nats/token"


def _speed(arm: ComparedArm) -> str:
    speed = arm.finished.tokens_per_s
    return "-" if speed is None else f"{speed:.1f}"


def sentences(arms: Sequence[ComparedArm]) -> str:
    """Return what the numbers say, in words."""
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
    answer = "With memory, the answer that was written "
    answer += "with it" if arm.memory_on else "without it"
    likelier = arm.nll_off - arm.nll_on
    if abs(likelier) < _NO_DIFFERENCE:
        return f"{answer} is as likely as without."
    word = "likelier" if likelier > 0 else "less likely"
    return f"{answer} is {abs(likelier):.2f} nats per token {word} than without."


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
