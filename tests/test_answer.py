"""An answer while it is made: text, limits and the trace."""

from __future__ import annotations

import numpy as np
import pytest

from engram_local.answer import Answer
from engram_local.errors import FitError, UsageError
from engram_local.settings import Settings

E_ACUTE = "é".encode()


def test_text_has_whole_characters_only() -> None:
    answer = Answer([1, 2])
    assert answer.say(b"caf" + E_ACUTE[:1]) == "caf"
    assert answer.say(E_ACUTE[1:]) == "é"
    assert answer.say(E_ACUTE[:1]) == ""
    assert answer.say(b"", last=True) == "�"
    assert answer.finished(None).text == answer.text == "café�"


@pytest.mark.parametrize(
    ("max_tokens", "n_ctx", "reason"),
    [(2, 99, "length"), (3, 99, None), (-1, 4, "context"), (-1, 5, None)],
)
def test_an_answer_ends_at_its_length_or_the_context(
    max_tokens: int, n_ctx: int, reason: str | None
) -> None:
    answer = Answer([1, 2])
    answer.add(3)
    answer.add(4)
    assert answer.stop_reason(Settings(max_tokens=max_tokens), n_ctx) == reason


def test_a_trace_gives_each_token_its_gates() -> None:
    answer = Answer([1, 2], layer_ids=(4, 9))
    for token_id in (0xC3, 0xA9, 65):
        answer.add(token_id)
    answer.gates = np.array([[0.25, 0.5], [0.75, 1.0]], np.float32)
    first, layer_ids, tokens = answer.trace(lambda token_id: bytes([token_id]))
    assert (first, layer_ids) == (2, (4, 9))
    assert [token.text for token in tokens] == ["�", "�", "A"]
    assert [token.gates for token in tokens] == [(0.25, 0.75), (0.5, 1.0), ()]


def test_a_prompt_leaves_room_for_a_token() -> None:
    Answer([1, 2]).check_fits(3)
    with pytest.raises(FitError, match="is 3 tokens, the context holds 3"):
        Answer([1, 2, 3]).check_fits(3)
    with pytest.raises(UsageError, match="empty"):
        Answer([]).check_fits(3)
