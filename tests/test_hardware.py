"""What a step takes, from rates."""

from __future__ import annotations

from engram_local.figures import Figure, Source
from engram_local.hardware import Compute, TypeRate, Work

WORK = Work(n_layers=10, weight_bytes=1000, token_flops=600.0, attention_flops=8.0)


def measured(value: float) -> Figure:
    return Figure(value, Source.MEASURED)


FULL = Compute(
    weight_bytes_per_s=measured(500.0),
    flops_per_s=measured(300.0),
    layer_s=measured(0.1),
    attention_flops_per_s=measured(16.0),
    prompt_attention_flops_per_s=Figure(4.0, Source.ESTIMATED),
)


def test_a_step_is_weights_layers_and_attention() -> None:
    assert FULL.decode_s(WORK, 0) == measured(2.0 + 1.0)
    assert FULL.decode_s(WORK, 6) == measured(2.0 + 1.0 + 3.0)


def test_a_prompt_is_products_and_attention_to_half_of_it() -> None:
    assert FULL.prompt_s(WORK, 4) == Figure(8.0 + 16.0, Source.ESTIMATED)


def test_what_is_not_known_is_left_out_or_none() -> None:
    partly = Compute(
        weight_bytes_per_s=measured(500.0), flops_per_s=Figure(300.0, Source.DATASHEET)
    )
    assert partly.decode_s(WORK, 6) == measured(2.0)
    assert partly.prompt_s(WORK, 4) == Figure(8.0, Source.DATASHEET)
    assert Compute(layer_s=measured(0.1)).decode_s(WORK, 0) is None
    assert Compute().prompt_s(WORK, 4) is None


def test_a_type_has_its_own_rates() -> None:
    rate = TypeRate(
        name="Q4_K", weight_bytes_per_s=measured(100.0), flops_per_s=measured(60.0)
    )
    compute = Compute(
        weight_bytes_per_s=measured(500.0),
        flops_per_s=measured(300.0),
        layer_s=measured(0.1),
        types=(rate,),
    )
    for name in ("Q4_K", "Q4_K_M", "q4_k_s"):
        own = compute.for_type(name)
        assert own.decode_s(WORK, 0) == measured(10.0 + 1.0)
        assert own.prompt_s(WORK, 1) == measured(10.0)
    assert compute.for_type("Q4_0") == compute
