"""Deriving the hash constants of a recipe, once, when a memory is made.

Run time never calls this: numpy does not promise that a generator's stream stays the
same, so a memory file stores the integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_SEED_STEP = 10007  # between the layers of one memory


def derive_multipliers(
    *, seed: int, layer_id: int, n_canonical: int, max_ngram: int
) -> tuple[int, ...]:
    """Return one odd multiplier per n-gram position (DeepSeek's rule).

    For every canonical id below `n_canonical` the product stays below 2^63.
    Source: deepseek-ai/Engram, engram_demo_v1.py, commit 11a020e5.
    """
    half = max(1, (2**63 - 1) // n_canonical // 2)
    generator = np.random.default_rng(seed + _SEED_STEP * layer_id)
    drawn = generator.integers(0, half, size=max_ngram, dtype=np.int64)
    return tuple(2 * int(number) + 1 for number in drawn)


def derive_sizes(
    starts: Sequence[int], *, n_layers: int, n_heads: int
) -> tuple[tuple[int, ...], ...]:
    """Return the rows of every slot, a tuple per layer: primes, no two alike.

    starts: per n-gram order, the least number of rows of its first head.
    Source: as `derive_multipliers`; engram-peft starts at rows // heads instead.
    """
    used: set[int] = set()
    layers = []
    for _ in range(n_layers):
        sizes: list[int] = []
        for start in starts:
            sizes += _unused_primes(start, n_heads, used)
        layers.append(tuple(sizes))
    return tuple(layers)


def offsets_of(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the first row of every slot: the running sum of `sizes`."""
    return tuple(sum(sizes[:slot]) for slot in range(len(sizes)))


def _unused_primes(start: int, count: int, used: set[int]) -> list[int]:
    found: list[int] = []
    for prime in _primes_from(start):
        if prime not in used:
            used.add(prime)
            found.append(prime)
        if len(found) == count:
            return found
    raise AssertionError("there is always another prime")


def _primes_from(start: int) -> Iterator[int]:
    number = max(start, 2)
    while True:
        if _is_prime(number):
            yield number
        number += 1


def _is_prime(number: int) -> bool:
    if number % 2 == 0:
        return number == 2
    divisors = range(3, int(number**0.5) + 2, 2)
    return number > 1 and all(number % d or number == d for d in divisors)
