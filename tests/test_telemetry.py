"""Durations and memory of this process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from engram_local.events import Finished, Timing
from engram_local.telemetry import measure_resources, measure_usage, summarize


def test_no_durations_are_zero() -> None:
    assert summarize([]) == Timing(total_ms=0.0, p50_ms=0.0, p95_ms=0.0, max_ms=0.0)


def test_one_duration_is_everything() -> None:
    timing = summarize([0.25])
    assert timing == Timing(total_ms=250, p50_ms=250, p95_ms=250, max_ms=250)


def test_order_does_not_matter() -> None:
    durations = [i / 1000 for i in range(1, 101)]
    timing = summarize(durations[::-1])
    assert timing == summarize(durations)
    assert timing.total_ms == pytest.approx(5050)
    assert timing.p50_ms == pytest.approx(51)
    assert timing.p95_ms == pytest.approx(96)
    assert timing.max_ms == pytest.approx(100)


@pytest.mark.parametrize("count", range(1, 50))
def test_percentiles_ascend_and_stay_within(count: int) -> None:
    durations = np.random.default_rng(count).random(count).tolist()
    timing = summarize(durations)
    low, high = 1e3 * min(durations), 1e3 * max(durations)
    assert low <= timing.p50_ms <= timing.p95_ms <= timing.max_ms == high


def test_resources_are_counted() -> None:
    resources = measure_resources()
    assert resources.rss_anon_bytes > 1 << 20
    assert resources.rss_file_bytes >= 0


def test_memory_that_is_allocated_and_written_is_anonymous() -> None:
    before = measure_resources().rss_anon_bytes
    block = np.ones(64 << 20, np.uint8)
    after = measure_resources().rss_anon_bytes
    assert after - before > len(block) // 2


def finished(**changes: object) -> Finished:
    zero = summarize([])
    values: dict[str, object] = {
        "text": "a",
        "token_ids": (1, 2, 3),
        "finish_reason": "stop",
        "n_prompt": 10,
        "n_cached": 4,
        "prompt_s": 2.0,
        "first_token_s": 2.1,
        "token_ms": zero,
        "decode_s": 0.5,
        "memory": None,
    }
    return Finished(**(values | changes))  # type: ignore[arg-type]


def test_rates_count_what_was_computed() -> None:
    assert finished().prompt_tokens_per_s == 3.0  # 6 tokens in 2 s
    assert finished().tokens_per_s == 4.0  # 2 tokens after the first one


@pytest.mark.parametrize(
    "changes",
    [{"token_ids": ()}, {"token_ids": (1,)}, {"decode_s": 0.0}],
    ids=["none", "one", "no time"],
)
def test_a_rate_of_nothing_is_unknown(changes: dict[str, object]) -> None:
    assert finished(**changes).tokens_per_s is None


def test_a_prompt_that_was_all_cached_has_no_rate() -> None:
    assert finished(n_cached=10).prompt_tokens_per_s is None


def test_use_of_this_process_is_counted() -> None:
    usage = measure_usage()
    assert usage.n_major_faults is None or usage.n_major_faults >= 0
    if sys.platform.startswith("linux"):
        assert usage.peak_rss_bytes is not None
        assert usage.peak_rss_bytes >= measure_resources().rss_anon_bytes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_the_peak_stays_when_memory_is_given_back() -> None:
    before = measure_usage().peak_rss_bytes
    block = np.ones(256 << 20, np.uint8)
    assert block[-1] == 1
    del block
    after = measure_usage().peak_rss_bytes
    assert before is not None and after is not None
    assert after >= 256 << 20
    assert after >= before
    now = measure_resources().rss_anon_bytes
    assert now is not None and now < after


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_only_reads_from_the_drive_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(1 << 20))
    before = measure_usage().drive_bytes
    path.read_bytes()  # it was just written: the system has it in memory
    after = measure_usage().drive_bytes
    assert before is not None and after is not None
    assert after - before < 1 << 20
