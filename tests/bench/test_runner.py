"""Which turns are taken, in which order, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.bench.arms import ATTACHED, NATIVE, NATIVE_ON_DRIVE, Arm, Suite
from engram_local.bench.eviction import Region
from engram_local.bench.runner import COLD, WARM, Result, rotate, run_arms
from engram_local.bench.subject import Rows, Subject
from engram_local.bench.tokens import Plan
from engram_local.errors import BenchError, EngramError
from tests.bench.fakes import MEMORY, MODEL, SUBJECT, TABLE_BYTES, FakeWorld, arm

PLAN = Plan(n_prompt=4, n_decode=2, n_repetitions=3)
MMAP, LATE = arm("mmap"), arm("mmap no prefetch", prefetch=False)
RAM = arm("ram", tier="ram")
COLD_MMAP = arm("mmap cold", cold=True)


def measure(world: FakeWorld, *arms: Arm, plan: Plan = PLAN) -> Result:
    """Run a bench in a world."""
    return run_arms(ATTACHED, arms, SUBJECT, plan, outside=world.outside())


def turns(world: FakeWorld) -> list[str]:
    """Return the turns that were taken, in order."""
    return [label for label, *_ in world.tokens]


def test_rotation_begins_one_arm_later_each_time() -> None:
    arms = [arm(name) for name in "ABC"]
    orders = ["".join(one.name for one in rotate(arms, i)) for i in range(4)]
    assert orders == ["ABC", "BCA", "CAB", "ABC"]


def test_warm_arms_take_turns_in_rotated_order() -> None:
    world = FakeWorld()
    measure(world, MMAP, LATE)
    order = ["none", "none", "mmap", "mmap late"]
    wanted = [order[(i + turn) % 4] for turn in range(4) for i in range(4)]
    assert turns(world) == wanted


def test_a_warm_arm_keeps_its_worker() -> None:
    world = FakeWorld()
    measure(world, MMAP)
    assert [entry for entry in world.log if entry.startswith("start")] == [
        "start none",
        "start none",
        "start mmap",
    ]
    assert world.log[-3:] == ["end mmap", "end none", "end none"]


def test_the_first_repetition_is_thrown_away() -> None:
    result = measure(FakeWorld(), MMAP)
    for name in ("none", "none again", "mmap"):
        kept = [run.repetition for run in result.runs if run.arm == name]
        assert kept == [1, 2, 3]


def test_all_arms_of_a_repetition_get_the_same_tokens_and_the_next_one_others() -> None:
    world = FakeWorld()
    measure(world, MMAP)
    given = [(prompt, after) for _, prompt, after in world.tokens]
    repetitions = [given[i : i + 3] for i in range(0, len(given), 3)]
    assert all(one == repetition[0] for repetition in repetitions for one in repetition)
    firsts = [str(repetition[0]) for repetition in repetitions]
    assert len(set(firsts)) == len(firsts) == 4


def test_a_warm_table_is_read_before_the_turns() -> None:
    world = FakeWorld()
    measure(world, MMAP)
    at = world.log.index(f"read {MEMORY}")
    assert world.log[at - 1 : at + 2] == ["start mmap", f"read {MEMORY}", "none"]


def test_a_table_that_is_not_mapped_is_not_read() -> None:
    world = FakeWorld()
    measure(world, RAM)
    assert f"read {MEMORY}" not in world.log


def test_a_table_larger_than_the_ram_is_not_read_and_a_note_says_so() -> None:
    world = FakeWorld(available_bytes=TABLE_BYTES - 1)
    result = measure(world, MMAP)
    assert f"read {MEMORY}" not in world.log
    assert "the table is 1000 B, 999 B of RAM are available" in result.notes[0]


def test_a_cold_arm_gets_a_new_worker_and_an_evicted_table_for_each_turn() -> None:
    world = FakeWorld()
    result = measure(world, COLD_MMAP)
    cold_turn = [
        "start mmap",
        "mmap (memory off)",
        f"evict {MEMORY}",
        "mmap",
        "end mmap",
    ]
    log = [entry for entry in world.log if "none" not in entry]
    assert log == [f"evict {MEMORY}", *cold_turn * 3]
    assert [run.repetition for run in result.runs if run.arm == "mmap cold"] == [
        1,
        2,
        3,
    ]


def test_cold_arms_run_after_the_warm_ones_have_ended() -> None:
    world = FakeWorld()
    result = measure(world, MMAP, COLD_MMAP)
    assert world.log.index("end mmap") < world.log.index(f"evict {MEMORY}")
    groups = dict.fromkeys((run.group, run.arm) for run in result.runs)
    assert {name for group, name in groups if group == WARM} == {
        "none",
        "none again",
        "mmap",
    }
    assert {name for group, name in groups if group == COLD} == {
        "none",
        "none again",
        "mmap cold",
    }


@pytest.mark.parametrize(
    ("stays", "reason"),
    [
        (5000, "4.9 KiB of 9.8 KiB stayed in memory"),
        (None, "this system does not tell"),
    ],
)
def test_a_table_that_stays_in_memory_is_not_called_cold(
    stays: int | None, reason: str
) -> None:
    world = FakeWorld(evictions=[0, stays])
    result = measure(world, COLD_MMAP)
    assert "mmap cold" not in {run.arm for run in result.runs}
    assert result.notes[0].startswith(f"mmap cold was left out: {reason}")
    assert len(result.notes) == 1
    assert world.log.count(f"evict {MEMORY}") == 2


def test_an_arm_that_does_not_stay_cold_loses_its_earlier_turns() -> None:
    world = FakeWorld(evictions=[0, 0, 0, 5000])
    result = measure(world, COLD_MMAP)
    assert "mmap cold" not in {run.arm for run in result.runs}
    assert len(result.notes) == 1


def test_a_page_or_two_in_memory_are_still_cold() -> None:
    result = measure(FakeWorld(evictions=[0, 100, 100, 100]), COLD_MMAP)
    assert result.notes == []
    assert len([run for run in result.runs if run.arm == "mmap cold"]) == 3


def test_ram_that_does_not_suffice_leaves_the_arm_out() -> None:
    world = FakeWorld(available_bytes=int(TABLE_BYTES / 0.8) - 1)
    result = measure(world, RAM)
    assert result.notes == [
        "ram was left out: its table is 1000 B, 1.2 KiB of RAM are available"
    ]
    assert "start ram" not in world.log
    assert {run.arm for run in result.runs} == {"none", "none again"}


def worker_error(code: str, exit_code: int = 1) -> EngramError:
    """Return an error as it comes from a worker."""
    error = EngramError("it said no")
    error.code, error.exit_code = code, exit_code
    return error


def test_a_tier_that_is_not_possible_here_is_left_out() -> None:
    world = FakeWorld(start_errors={"ram": worker_error("does-not-fit")})
    result = measure(world, RAM, MMAP)
    assert result.notes == ["ram was left out: it said no"]
    assert {run.arm for run in result.runs} == {"none", "none again", "mmap"}


@pytest.mark.parametrize(("label", "code"), [("mmap", "bad-table"), ("ram", "usage")])
def test_any_other_error_of_a_start_ends_the_bench(label: str, code: str) -> None:
    world = FakeWorld(start_errors={label: worker_error(code)})
    with pytest.raises(EngramError, match="it said no") as caught:
        measure(world, arm("any", tier=label))
    assert caught.value.code == code
    assert world.log[-2:] == ["end none", "end none"]


@pytest.mark.parametrize("error", [BenchError("it died"), KeyboardInterrupt()])
def test_an_error_in_a_turn_ends_the_bench_and_all_workers(
    error: BaseException,
) -> None:
    world = FakeWorld(replay_errors={"mmap": error})
    with pytest.raises(type(error)):
        measure(world, MMAP, LATE)
    ended = [entry for entry in world.log if entry.startswith("end")]
    assert sorted(ended) == ["end mmap", "end mmap late", "end none", "end none"]


def test_a_failing_cold_turn_ends_its_worker_too() -> None:
    world = FakeWorld(replay_errors={"mmap": BenchError("it died")})
    with pytest.raises(BenchError):
        measure(world, COLD_MMAP)
    assert set(turns(world)) == {"none", "mmap"}
    assert world.log[-3:] == ["end mmap", "end none", "end none"]


def test_progress_names_the_arm_and_grows_to_one() -> None:
    seen: list[tuple[str, float]] = []
    run_arms(
        ATTACHED,
        [MMAP],
        SUBJECT,
        PLAN,
        outside=FakeWorld().outside(),
        progress=lambda what, part: seen.append((what, part)),
    )
    parts = [part for what, part in seen if what.startswith(WARM)]
    assert parts == sorted(parts)
    assert 0.0 == parts[0] < parts[-1] <= 1.0
    assert {what for what, _ in seen} >= {f"warm: {ATTACHED.base.name}", "warm: mmap"}


def native_subject() -> Subject:
    """Return a model with a table of its own."""
    region = Region(path=MODEL, begin_bytes=100, end_bytes=1100)
    rows = Rows(memory="auto", region=region, table_bytes=TABLE_BYTES)
    return replace(SUBJECT, rows=rows)


def measure_native(suite: Suite) -> FakeWorld:
    """Run the cold arms of a suite."""
    world = FakeWorld()
    run_arms(suite, suite.cold, native_subject(), PLAN, outside=world.outside())
    return world


def test_a_table_in_ram_is_there_once_for_both_of_the_base() -> None:
    world = measure_native(NATIVE)
    assert world.log.count("start ram") == 1
    assert turns(world).count("ram") == 2 * (1 + PLAN.n_repetitions)
    assert f"evict {MODEL}" in world.log


def test_a_base_may_be_cold() -> None:
    world = measure_native(NATIVE_ON_DRIVE)
    cold_turns = [label for label in turns(world) if label == "mmap late"]
    assert len(cold_turns) == 2 * 2 * PLAN.n_repetitions  # warmed up, then measured
    assert world.log[:3] == [f"evict {MODEL}", "start mmap late", "end mmap late"]


def test_nothing_is_measured_without_its_base() -> None:
    world = FakeWorld(available_bytes=TABLE_BYTES)
    with pytest.raises(BenchError, match="resident is what all others are set against"):
        run_arms(NATIVE, NATIVE.cold, native_subject(), PLAN, outside=world.outside())


@pytest.mark.parametrize(
    ("evictions", "name"),
    [
        ([0, 5000], "llama.cpp lazy cold again"),
        ([0, 0, 0, 5000], "llama.cpp lazy cold"),
    ],
)
def test_a_cold_base_that_does_not_stay_cold_ends_the_bench(
    evictions: list[int | None], name: str
) -> None:
    suite, world = NATIVE_ON_DRIVE, FakeWorld(evictions=evictions)
    with pytest.raises(BenchError, match=f"{name} is what all others are set against"):
        run_arms(suite, suite.cold, native_subject(), PLAN, outside=world.outside())
