"""One line about an answer: its speed, and what the memory did for it."""

from __future__ import annotations

from engram_local.chat.conversation import AnswerStats
from engram_local.units import format_count


def answer_line(stats: AnswerStats) -> str:
    """Return `prompt 12 at 340.0/s · 40 tokens at 41.0/s · first 0.12 s · ...`."""
    n_new = stats.n_prompt - stats.n_cached
    parts = [f"prompt {format_count(n_new)}{_rate(stats.prompt_tokens_per_s)}"]
    if stats.n_cached:
        parts[0] += f" (+{format_count(stats.n_cached)} kept)"
    parts.append(f"{format_count(stats.n_tokens)} tokens{_rate(stats.tokens_per_s)}")
    if stats.first_token_s is not None:
        parts.append(f"first {stats.first_token_s:.2f} s")
    if stats.finish_reason != "stop":
        parts.append(f"ended: {stats.finish_reason}")
    parts.append(_memory_part(stats))
    return " · ".join(parts)


def _memory_part(stats: AnswerStats) -> str:
    if stats.tier is None:
        return "no memory"
    parts = [f"memory {stats.tier}, {format_count(stats.rows_read)} rows"]
    if stats.pages_ahead:
        parts.append(f"{format_count(stats.pages_ahead)} pages read ahead")
    if stats.stall_p50_ms is not None:
        parts.append(f"stall p50 {stats.stall_p50_ms:.2f} ms")
    return ", ".join(parts)


def _rate(per_s: float | None) -> str:
    return "" if per_s is None else f" at {per_s:.1f}/s"
