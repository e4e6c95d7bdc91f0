"""The line about an answer."""

from __future__ import annotations

from engram_local.chat.answer_line import answer_line
from engram_local.chat.conversation import AnswerStats

STATS = AnswerStats(
    n_prompt=4100,
    n_cached=1024,
    n_tokens=1787,
    finish_reason="stop",
    first_token_s=1.25,
    prompt_tokens_per_s=200.0,
    tokens_per_s=41.0,
    model="m",
    memory="words",
    tier="mmap",
    rows_read=28608,
    stall_p50_ms=0.04,
    pages_ahead=1200,
)


def test_counts_have_separators_and_the_stall_its_quantile() -> None:
    assert answer_line(STATS) == (
        "prompt 3,076 at 200.0/s (+1,024 kept) · 1,787 tokens at 41.0/s · first 1.25 s"
        " · memory mmap, 28,608 rows, 1,200 pages read ahead, stall p50 0.04 ms"
    )
