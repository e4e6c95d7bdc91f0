"""What a card says of a token."""

from __future__ import annotations

from engram_local.events import TokenRow, TokenTrace
from engram_local.worker.protocol import AnswerTrace
from tui.widgets.token_card import quoted, row_lines, token_lines


def row(order: int, head: int, *texts: str, row_id: int, layer_id: int = 2) -> TokenRow:
    return TokenRow(
        layer_id=layer_id,
        order=order,
        head=head,
        token_ids=tuple(range(len(texts))),
        texts=texts,
        row_id=row_id,
    )


def test_a_token_has_its_place_and_gates() -> None:
    trace = AnswerTrace(
        first=49,
        layer_ids=(2, 15),
        tokens=(
            TokenTrace(token_id=7, text="A", gates=()),
            TokenTrace(token_id=24875, text=" lemur", gates=(0.5, 1.0)),
        ),
    )
    assert list(token_lines(trace, 1)) == [
        '" lemur"  token 24,875',
        "2 of 2 in the answer, position 50",
        "gate of layer 2: 0.500 █████",
        "gate of layer 15: 1.000 ██████████",
    ]
    assert list(token_lines(trace, 0))[-1] == "gates: not known"


def test_rows_stand_below_their_ngram() -> None:
    rows = [
        row(2, 0, " a", " lemur", row_id=1234567),
        row(2, 1, " a", " lemur", row_id=8),
        row(3, 0, "is", " a", " lemur", row_id=9),
        row(2, 0, " a", " lemur", row_id=10, layer_id=15),
    ]
    assert list(row_lines(rows)) == [
        'layer 2, 2 tokens: " a" " lemur"',
        "  rows 1,234,567, 8",
        'layer 2, 3 tokens: "is" " a" " lemur"',
        "  rows 9",
        'layer 15, 2 tokens: " a" " lemur"',
        "  rows 10",
    ]


def test_an_ngram_that_is_cut_says_so() -> None:
    assert next(iter(row_lines([row(3, 0, "A", row_id=1)]))) == (
        'layer 2, 3 tokens, of which there is 1: "A"'
    )


def test_texts_stay_in_one_line_and_drive_no_terminal() -> None:
    assert quoted("\n\t\x1b[2J") == '"\\n\\t\\x1b[2J"'
