"""Two answers in numbers and words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_local.events import ComparedArm, Finished, Timing
from tui.widgets.compare_table import sentences, table_lines

FINISHED = Finished(
    text="A lemur.",
    token_ids=(1, 2, 3),
    finish_reason="stop",
    n_prompt=10,
    n_cached=0,
    prompt_s=0.1,
    first_token_s=0.1,
    token_ms=Timing(total_ms=1.0, p50_ms=1.0, p95_ms=1.0, max_ms=1.0),
    decode_s=0.05,
    memory=None,
)
ON = ComparedArm(memory_on=True, finished=FINISHED, nll_on=0.5, nll_off=2.6)
OFF = ComparedArm(
    memory_on=False, finished=replace(FINISHED, text="No."), nll_on=1.3, nll_off=1.0
)


def test_each_answer_has_its_nll_under_both_settings() -> None:
    lines = [line.split("  ") for line in table_lines((ON, OFF))]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells == [
        ["answer written", "with memory", "without"],
        ["NLL with memory", "0.500 nats/token", "1.300 nats/token"],
        ["NLL without memory", "2.600 nats/token", "1.000 nats/token"],
        ["tokens, per second", "3, 40.0", "3, 40.0"],
    ]


def test_the_table_fits_80_columns() -> None:
    assert max(len(line) for line in table_lines((ON, OFF))) <= 76


def test_sentences_read_the_numbers() -> None:
    assert sentences((ON, OFF)) == (
        "The answer written with memory is 2.10 nats per token likelier with memory "
        "than without it. The answer written without memory is 0.30 nats per token "
        "likelier without memory than with it."
    )


@pytest.mark.parametrize("nll_off", [0.5, 0.504, 0.496])
def test_no_difference_is_none(nll_off: float) -> None:
    assert sentences((replace(ON, nll_off=nll_off),)) == (
        "The answer written with memory is as likely with memory as without it."
    )


def test_equal_answers_are_read_once() -> None:
    same = replace(OFF, finished=FINISHED)
    assert sentences((ON, same)) == (
        "Both answers are the same, word for word. The answer written with memory is "
        "2.10 nats per token likelier with memory than without it."
    )


def test_what_was_stopped_has_no_scores() -> None:
    stopped = replace(FINISHED, finish_reason="cancelled")
    arm = replace(ON, finished=stopped, nll_on=None, nll_off=None)
    assert sentences((arm,)) == "It was stopped, so nothing was scored."


def test_an_empty_answer_has_no_nll() -> None:
    empty = replace(
        ON, finished=replace(FINISHED, token_ids=(), text=""), nll_on=None, nll_off=None
    )
    assert sentences((empty, OFF)).startswith("The answer written without memory")
    ends = [line.split()[-1] for line in table_lines((empty,))]
    assert ends == ["memory", "-", "-", "-"]
