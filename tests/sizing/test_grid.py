"""The grid: all combinations, and each as a plan of its own says it."""

from __future__ import annotations

from dataclasses import replace

from engram_local.sizing.choice import Place
from engram_local.sizing.grid import CONTEXTS, Cell, make_grid
from engram_local.sizing.plan import make_plan
from engram_local.sizing.request import Request, Tier, choose_weights
from engram_local.sizing.verdict import with_vram
from engram_local.units import GIB
from tests.sizing.samples import DENSE, DESKTOP, LAPTOP, MOE, SMALL

MACHINES = (("", DESKTOP), ("small", with_vram(DESKTOP, 8 * GIB)))


def test_there_is_a_cell_for_each_combination() -> None:
    cells = make_grid(MOE, Request(), MACHINES)
    found = [(cell.gpu, cell.weights, cell.n_ctx, cell.tier) for cell in cells]
    assert found == [
        (gpu, weights, n_ctx, tier)
        for gpu in ("", "small")
        for weights in ("Q2_0", "Q4_K")
        for n_ctx in CONTEXTS
        for tier in (Tier.RAM, Tier.MMAP)  # llama.cpp has no direct reads
    ]


def test_a_memory_of_ours_has_three_tiers_and_a_plain_model_none() -> None:
    small = make_grid(SMALL, Request(), [("", DESKTOP)], [4096])
    assert [cell.tier for cell in small] == [Tier.RAM, Tier.MMAP, Tier.DIRECT]
    dense = make_grid(DENSE, Request(), [("", DESKTOP)], [4096])
    assert [cell.tier for cell in dense] == [None]


def test_contexts_end_where_training_did() -> None:
    def contexts(trained: int) -> list[int]:
        spec = replace(DENSE, context_length=trained)
        return [cell.n_ctx for cell in make_grid(spec, Request(), [("", DESKTOP)])]

    assert contexts(131_072) == list(CONTEXTS)
    assert contexts(40_960) == [4096, 8192, 32768]
    assert contexts(4096) == [4096]
    assert contexts(2048) == [2048]


def test_a_cell_is_what_its_plan_says() -> None:
    request = Request(n_ctx=1000, cache_type_k="q8_0", n_ubatch=128)
    cells = make_grid(MOE, request, MACHINES)
    for cell in cells:
        hardware = dict(MACHINES)[cell.gpu]
        asked = replace(request, n_ctx=cell.n_ctx, tier=cell.tier)
        weights = choose_weights(MOE, cell.weights)
        plan = make_plan(MOE, weights, asked, hardware)
        assert cell.fits == plan.fits
        assert (cell.vram_bytes, cell.ram_bytes) == (plan.vram_bytes, plan.ram_bytes)
        assert cell.decode_per_s == plan.decode_per_s
        assert cell.prompt_per_s == plan.prompt_per_s
        assert (cell.place is Place.NOWHERE) == (not plan.fits)


def ordered(cells: tuple[Cell, ...], gpu: str) -> list[int]:
    return [cell.vram_bytes for cell in cells if cell.gpu == gpu]


def test_the_gpu_of_a_machine_counts() -> None:
    cells = make_grid(DENSE, Request(), MACHINES)
    assert all(
        small <= large
        for small, large in zip(
            ordered(cells, "small"), ordered(cells, ""), strict=True
        )
    )
    assert ordered(cells, "small") != ordered(cells, "")


def test_the_longest_context_is_one_per_weights_and_machine() -> None:
    cells = make_grid(MOE, Request(), MACHINES)
    longest = {(cell.gpu, cell.weights, cell.longest_ctx) for cell in cells}
    assert len(longest) == 4
    assert all(n_ctx % 256 == 0 for _, _, n_ctx in longest)


def test_what_does_not_fit_is_in_the_grid_too() -> None:
    cells = make_grid(MOE, Request(), [("", LAPTOP)], [4096])
    assert [cell.fits for cell in cells] == [False] * len(cells)
    assert {cell.longest_ctx for cell in cells} == {0}
