"""Commands: ours is one that `run` understands, servers' have the flags they know."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from engram_local.cli import make_parser
from engram_local.hardware import Hardware
from engram_local.model_spec import ModelSpec, TableShape
from engram_local.sizing.choice import choose_plan
from engram_local.sizing.commands import (
    Command,
    checkpoint_of,
    commands_for,
    machines_needed,
)
from engram_local.sizing.plan import Plan
from engram_local.sizing.request import Request, Tier
from engram_local.sizing.verdict import with_ram, with_vram
from engram_local.units import GIB
from tests.sizing.samples import DENSE, DESKTOP, HUGE, LAPTOP, MOE, SMALL


def commands(
    spec: ModelSpec, hardware: Hardware, request: Request | None = None
) -> tuple[Plan, tuple[Command, ...]]:
    asked = request or Request()
    plan = choose_plan(spec, asked, hardware)
    return plan, commands_for(spec, plan, asked, hardware)


def parsed(command: Command) -> argparse.Namespace:
    """Return what `run` makes of it; the test ends where it refuses."""
    words = shlex.split(command.line)
    assert words[0] == "engram-local" == command.program
    return make_parser(words[1:]).parse_args(words[1:])


def flag(command: Command, name: str) -> str:
    words = shlex.split(command.line)
    return words[words.index(name) + 1]


def test_ours_is_understood_by_run() -> None:
    plan, (command,) = commands(DENSE, DESKTOP)
    args = parsed(command)
    assert args.command == "run"
    assert args.model == Path(DENSE.origin)
    assert args.n_ctx == plan.n_ctx == 8192
    assert args.n_gpu_layers == plan.placement.n_gpu_layers == 33
    assert (args.n_cpu_moe, args.n_ubatch, args.cache_type_k) == (None, None, None)
    assert command.note == ""


def test_ours_says_all_that_was_asked_for() -> None:
    request = Request(
        n_ctx=4096, n_ubatch=1024, cache_type_k="q8_0", cache_type_v="q4_0"
    )
    plan, (command,) = commands(MOE, DESKTOP, request)
    args = parsed(command)
    assert (args.n_batch, args.n_ubatch) == (1024, 1024)  # -ub is never above -b
    assert (args.cache_type_k, args.cache_type_v) == ("q8_0", "q4_0")
    assert args.n_cpu_moe == plan.placement.n_cpu_experts > 0
    assert args.memory_tier is None  # `run` decides as this plan does
    assert command.note == "with the GGUF of Q4_K"
    assert args.model == Path("Sparse-176B-Q4_K.gguf")


def test_a_tier_that_was_asked_for_is_said() -> None:
    for tier in (Tier.RAM, Tier.MMAP):
        _, (command,) = commands(MOE, DESKTOP, Request(tier=tier))
        assert parsed(command).memory_tier == tier.value


def test_a_memory_of_ours_has_its_tier() -> None:
    _, (command,) = commands(SMALL, LAPTOP, Request(tier=Tier.DIRECT))
    args = parsed(command)
    assert args.memory_tier == "direct"
    assert args.n_gpu_layers is None


def test_names_cannot_break_the_command() -> None:
    spec = replace(MOE, name="maker/A model; rm -rf ~")
    _, (command,) = commands(spec, DESKTOP)
    assert parsed(command).model == Path("A model; rm -rf ~-Q4_K.gguf")
    odd = replace(DENSE, origin="/models/it's here.gguf")
    _, (command,) = commands(odd, DESKTOP)
    assert parsed(command).model == Path("/models/it's here.gguf")


def test_servers_get_the_checkpoint_and_all_gpus() -> None:
    two = replace(DESKTOP, gpus=DESKTOP.gpus * 2)
    _, found = commands(HUGE, two)
    n_machines = machines_needed(HUGE, Request(), two)
    assert n_machines is not None and n_machines > 1
    vllm, sglang = found
    assert (vllm.program, sglang.program) == ("vLLM", "SGLang")
    assert shlex.split(vllm.line)[:3] == ["vllm", "serve", HUGE.repository]
    assert flag(vllm, "--tensor-parallel-size") == "2"
    assert flag(vllm, "--pipeline-parallel-size") == str(n_machines)
    assert json.loads(flag(vllm, "--engram-config")) == {"cpu_offload": True}
    assert flag(sglang, "--model-path") == HUGE.repository
    assert flag(sglang, "--tp") == "2"
    assert flag(sglang, "--pp-size") == flag(sglang, "--nnodes") == str(n_machines)
    assert json.loads(flag(sglang, "--engram-config")) == {
        "placement": "cpu",
        "replication": "none",
    }
    assert {command.note for command in found} == {f"{n_machines} such machines"}


def test_one_machine_that_suffices_has_no_pipeline() -> None:
    large = with_ram(with_vram(DESKTOP, 2048 * GIB), 1024 * GIB)
    _, found = commands(HUGE, large)
    assert [command.note for command in found] == ["this machine"] * 2
    assert not any("pipeline" in one.line or "--pp" in one.line for one in found)


@pytest.mark.parametrize("orders", [None, (1,)])
def test_only_n_gram_tables_are_configured(orders: tuple[int, ...] | None) -> None:
    shape: TableShape = HUGE.tables[0]
    tables = () if orders is None else (replace(shape, orders=orders),)
    _, found = commands(replace(HUGE, tables=tables), DESKTOP)
    assert len(found) == 2
    assert not any("--engram-config" in command.line for command in found)


def test_servers_need_a_gpu_and_a_repository() -> None:
    assert commands(HUGE, LAPTOP)[1] == ()
    assert machines_needed(HUGE, Request(), LAPTOP) is None
    assert commands(replace(HUGE, repository=""), DESKTOP)[1] == ()


def test_a_model_that_does_not_fit_here_is_served() -> None:
    small = with_ram(with_vram(DESKTOP, 8 * GIB), 16 * GIB)
    _, found = commands(MOE, small)
    assert [command.program for command in found] == ["vLLM", "SGLang"]


def test_more_memory_never_needs_more_machines() -> None:
    by_vram = [
        machines_needed(HUGE, Request(), with_vram(DESKTOP, size * GIB))
        for size in (8, 16, 24, 48, 80, 192, 1024)
    ]
    assert None not in by_vram
    assert by_vram == sorted(by_vram, key=lambda n: -(n or 0))
    assert by_vram[0] != by_vram[-1]
    roomy = with_vram(DESKTOP, 4096 * GIB)
    by_ram = [
        machines_needed(HUGE, Request(), with_ram(roomy, size * GIB))
        for size in (4, 8, 16, 32, 64)
    ]
    assert by_ram == sorted(by_ram, key=lambda n: -(n or 0))
    assert by_ram[0] == 9 and by_ram[-1] == 1  # 26.8 GiB of rows, 3 GiB of RAM each


def test_the_makers_weights_are_served_else_the_largest() -> None:
    assert checkpoint_of(HUGE).native
    assert checkpoint_of(MOE).name == "Q4_K"
    first = replace(MOE.weights[0], native=True)
    assert checkpoint_of(replace(MOE, weights=(first, MOE.weights[1]))) is first
