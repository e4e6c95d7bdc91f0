"""Deriving multipliers and table sizes: the numbers that others published."""

from __future__ import annotations

import pytest

from engram_local.memory.constants import derive_multipliers, derive_sizes, offsets_of

V41_CANONICAL = 99_092


@pytest.mark.parametrize(
    ("layer_id", "multipliers"),
    [
        (1, (76632096046245, 4839876093313, 35959672319349, 73987337458391)),
        (14, (67716810739261, 51510806800915, 30921347202721, 82619226485591)),
    ],
)
def test_multipliers_of_deepseek_v41(
    layer_id: int, multipliers: tuple[int, ...]
) -> None:
    derived = derive_multipliers(
        seed=0, layer_id=layer_id, n_canonical=V41_CANONICAL, max_ngram=4
    )
    assert derived == multipliers


@pytest.mark.parametrize(
    ("layer_id", "multipliers"),
    [
        (1, (76632096046245, 4839876093313, 35959672319349)),
        (15, (28919099099511, 56020370062535, 53929037264533)),
    ],
)
def test_multipliers_of_the_demo(layer_id: int, multipliers: tuple[int, ...]) -> None:
    derived = derive_multipliers(
        seed=0, layer_id=layer_id, n_canonical=V41_CANONICAL, max_ngram=3
    )
    assert derived == multipliers


@pytest.mark.parametrize("n_canonical", [1, 2, 19, 99_092, 2**31])
def test_multipliers_are_odd_and_products_stay_below_2_to_63(n_canonical: int) -> None:
    derived = derive_multipliers(
        seed=7, layer_id=3, n_canonical=n_canonical, max_ngram=8
    )
    assert all(number % 2 == 1 for number in derived)
    assert max(derived) * (n_canonical - 1) < 2**63


def test_sizes_of_the_demo() -> None:
    first, second = derive_sizes((646_400, 646_400), n_layers=2, n_heads=8)
    assert first == (
        *(646403, 646411, 646421, 646423, 646433, 646453, 646519, 646523),
        *(646537, 646543, 646549, 646571, 646573, 646577, 646609, 646619),
    )
    assert second == (
        *(646631, 646637, 646643, 646669, 646687, 646721, 646757, 646771),
        *(646781, 646823, 646831, 646837, 646843, 646859, 646873, 646879),
    )


def test_sizes_of_deepseek_v41() -> None:
    first, second = derive_sizes((16_000_000,) * 3, n_layers=2, n_heads=8)
    assert (first[0], first[8], first[-1]) == (16000057, 16000189, 16000463)
    assert (second[0], second[8], second[-1]) == (16000477, 16000667, 16000889)
    assert (sum(first), sum(second)) == (384_006_168, 384_016_682)


def test_a_start_that_is_prime_is_used_itself() -> None:
    assert derive_sizes((23,), n_layers=2, n_heads=2) == ((23, 29), (31, 37))


@pytest.mark.parametrize("start", [-5, 0, 1, 2])
def test_small_starts_begin_with_two(start: int) -> None:
    assert derive_sizes((start,), n_layers=1, n_heads=6) == ((2, 3, 5, 7, 11, 13),)


def test_squares_of_primes_are_no_sizes() -> None:
    assert derive_sizes((24,), n_layers=1, n_heads=1) == ((29,),)
    assert derive_sizes((961,), n_layers=1, n_heads=1) == ((967,),)  # 31 * 31


def test_no_two_slots_have_the_same_size() -> None:
    layers = derive_sizes((50, 50, 52), n_layers=3, n_heads=4)
    sizes = [size for layer in layers for size in layer]
    assert len(set(sizes)) == len(sizes) == 36


def test_offsets_are_the_running_sum() -> None:
    assert offsets_of((3, 5, 7)) == (0, 3, 8)
    assert offsets_of(()) == ()
