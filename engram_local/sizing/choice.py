"""Which of a model's weights to take on a computer."""

from __future__ import annotations

from enum import IntEnum

from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec, Part, Weights
from engram_local.sizing.plan import Plan, make_plan
from engram_local.sizing.request import Request, choose_weights

_GOOD_BITS = 5.2
"""Per weight, what Q4_K_M takes: more is slower, less is worse."""

_POOR_BITS = 3.0
"""Per weight; so much is lost below it that the next slower place is as good."""


class Place(IntEnum):
    """Where the computing weights lie, fastest first."""

    ALL = 0
    """Where this computer is fastest: in VRAM, or in RAM where there is no GPU."""

    EXPERTS_IN_RAM = 1
    LAYERS_IN_RAM = 2
    NOWHERE = 3


def place_of(spec: ModelSpec, plan: Plan, hardware: Hardware) -> Place:
    """Return where a plan puts the weights."""
    if not plan.fits:
        return Place.NOWHERE
    if hardware.gpus and plan.placement.n_gpu_layers <= spec.n_layers:
        return Place.LAYERS_IN_RAM
    return Place.EXPERTS_IN_RAM if plan.placement.n_cpu_experts else Place.ALL


def choose_plan(spec: ModelSpec, request: Request, hardware: Hardware) -> Plan:
    """Return the plan to recommend, of the weights that were asked for or of any.

    The best place, where less than 3 bits count as a place further down; there, of
    those that the drive has space for, the largest of at most 5.2 bits per weight,
    else the smallest. Raises UsageError if the weights that were asked for are not
    known.
    """
    plans = plans_of(spec, request, hardware)
    return min(plans, key=lambda plan: _rank(spec, plan, hardware))


def plans_of(spec: ModelSpec, request: Request, hardware: Hardware) -> list[Plan]:
    """Return a plan for each of the weights that come into question."""
    asked = request.quantization
    weights = spec.weights if asked is None else (choose_weights(spec, asked),)
    return [make_plan(spec, one, request, hardware) for one in weights]


def _rank(spec: ModelSpec, plan: Plan, hardware: Hardware) -> tuple[float, ...]:
    place = place_of(spec, plan, hardware)
    bits = bits_per_weight(spec, plan.weights)
    if place is not Place.NOWHERE and bits < _POOR_BITS:
        place = Place(min(place + 1, Place.LAYERS_IN_RAM))
    no_space = plan.missing_disk_bytes > 0
    if place is Place.NOWHERE or no_space or bits > _GOOD_BITS:
        return (place, no_space, 1, bits)
    return (place, 0, 0, -bits)


def bits_per_weight(spec: ModelSpec, weights: Weights) -> float:
    """Return the bits of a weight outside the n-gram tables, on average."""
    loaded = sum(
        n_bytes
        for part, n_bytes in weights.parts.items()
        if part not in (Part.TABLE, Part.UNUSED)
    )
    return 8 * loaded / max(spec.n_params - spec.table_params, 1)
