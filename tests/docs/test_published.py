"""What other people measured, against the arithmetic it should follow.

Caches and states follow from shapes exactly, weights from what a file holds; the
compute buffer and the driver have bounds. The totals are those of the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from docs.accuracy.compare import (
    LLAMA,
    predicted_terms,
    print_loads,
    print_speeds,
    reached,
    total_error,
)
from docs.accuracy.published import (
    PublishedLoad,
    PublishedSpeed,
    load_published,
    load_speeds,
)
from engram_local.units import MIB

DOCUMENT = Path(__file__).parents[2] / "docs" / "accuracy.md"
LOADS = load_published()
CURRENT = [load for load in LOADS if not load.superseded]
"""Of llama.cpp as it is now; older ones took more for what it computes."""

SPEEDS = load_speeds()


def with_term(
    term: str, *, of: Sequence[PublishedLoad] = LOADS
) -> pytest.MarkDecorator:
    loads = [load for load in of if getattr(load, term) is not None]
    return pytest.mark.parametrize("load", loads, ids=[load.id for load in loads])


def test_there_are_enough() -> None:
    assert len(CURRENT) >= 30
    assert len(SPEEDS) >= 20


def test_every_number_has_a_source_and_a_name() -> None:
    entries: list[PublishedLoad | PublishedSpeed] = [*LOADS, *SPEEDS]
    assert all(entry.url.startswith("https://") and entry.date for entry in entries)
    assert len({entry.id for entry in entries}) == len(entries)


def test_every_speed_has_a_number() -> None:
    assert all(speed.decode_per_s or speed.prompt_per_s for speed in SPEEDS)


@with_term("total_bytes")
def test_terms_fit_into_the_total(load: PublishedLoad) -> None:
    terms = load.weights_bytes, load.kv_bytes, load.state_bytes, load.compute_bytes
    assert load.total_bytes is not None
    assert sum(term or 0 for term in terms) < load.total_bytes


@with_term("kv_bytes")
def test_caches_follow_from_shapes(load: PublishedLoad) -> None:
    expected = predicted_terms(load)["KV cache"]
    assert load.kv_bytes == pytest.approx(expected, abs=load.precision_bytes)


@with_term("state_bytes")
def test_states_follow_from_shapes(load: PublishedLoad) -> None:
    expected = predicted_terms(load)["recurrent state"]
    # 3 % more where the parts of a layer lie on four GPUs.
    tolerance = load.precision_bytes + (0.03 * expected if load.n_devices > 3 else 0)
    assert load.state_bytes == pytest.approx(expected, abs=tolerance)


@with_term("weights_bytes")
def test_weights_on_gpus_follow_from_the_file(load: PublishedLoad) -> None:
    expected = predicted_terms(load)["weights"]
    # The header is no weight; layers' experts differ by a percent in some files.
    unequal = 0.015 * expected if load.n_expert_layers_in_ram else 0
    tolerance = load.precision_bytes + 16 * MIB + unequal
    assert load.weights_bytes == pytest.approx(expected, abs=tolerance)


@with_term("compute_bytes", of=CURRENT)
def test_compute_buffer_has_a_bound(load: PublishedLoad) -> None:
    bound = predicted_terms(load)["compute buffers"]
    assert load.compute_bytes is not None
    assert bound >= load.compute_bytes - load.precision_bytes
    # The plan splits by layers, which takes four copies; how much of the experts is
    # copied at once differs from file to file.
    above = {"none": 256, "layer": 256, "tensor": 1024}[load.split]
    above = 1024 if load.n_expert_layers_in_ram else above
    assert bound <= load.compute_bytes + above * MIB * load.n_devices


@with_term("total_bytes", of=CURRENT)
def test_no_total_is_predicted_too_low(load: PublishedLoad) -> None:
    error = total_error(load)
    assert load.total_bytes is not None
    assert error >= 0
    assert error <= 0.10 or error * load.total_bytes <= 512 * MIB


def test_totals_are_five_percent_too_high_at_most_in_the_mean() -> None:
    errors = [total_error(load) for load in CURRENT if load.total_bytes]
    assert len(errors) >= 30
    assert sum(errors) / len(errors) <= 0.05


def test_four_of_five_speeds_lie_in_their_interval() -> None:
    rates = [one for speed in SPEEDS for one in reached(speed) if one.engine == LLAMA]
    for what in ("decode", "prompt"):
        inside = [one.inside for one in rates if one.what == what]
        assert len(inside) >= 20
        assert sum(inside) >= 0.8 * len(inside)


def test_intervals_say_something() -> None:
    """One that is wide enough would hold every speed."""
    for speed in SPEEDS:
        for one in reached(speed):
            known = one.engine == LLAMA and not speed.n_expert_layers_in_ram
            if known and one.what == "decode":
                assert one.predicted.high <= 3 * one.predicted.low, speed.id


def test_document_shows_what_is_predicted_now(
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = DOCUMENT.read_text("utf-8")
    print_loads(LOADS)
    print_speeds(SPEEDS)
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("|")]
    assert len(rows) > len(LOADS) + len(SPEEDS)
    assert [row for row in rows if row not in document] == []
