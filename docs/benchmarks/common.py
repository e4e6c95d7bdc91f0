"""What the comparisons share: turns, ratios of pairs, Markdown tables."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

Measured = Mapping[str, Sequence[float]]
"""Per arm one value per repetition."""


def turns(arms: Sequence[str], n_repetitions: int) -> Iterator[str]:
    """Yield every arm once per repetition, shuffled so that no arm has a fixed
    neighbour; the same order in every run.
    """
    for repetition in range(n_repetitions):
        yield from random.Random(repetition).sample(arms, len(arms))


def ratios(measured: Measured, arm: str, reference: str) -> list[float]:
    """Return the arm's values over those of the reference, pair by pair."""
    pairs = zip(measured[arm], measured[reference], strict=True)
    return [own / other for own, other in pairs]


def spread(values: Sequence[float], digits: int) -> str:
    """Return `median (smallest-largest)`."""
    middle, low, high = (
        f"{value:,.{digits}f}" for value in (median(values), min(values), max(values))
    )
    return f"{middle} ({low}-{high})"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")
