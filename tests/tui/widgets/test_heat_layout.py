"""Tokens in cells: nothing lost, nothing too wide, everything found again."""

from __future__ import annotations

import random

import pytest
from rich.cells import cell_len

from tui.widgets.heat_layout import NEWLINE, NO_WIDTH, lay_out, shown

PIECES = [
    " the",
    "A",
    " lemur",
    " ",
    "",
    "\n",
    "\n\n",
    ":\n",
    "\t",
    "漢字",
    " 日",
    "\ufffd",
    "\u0301",
    "e\u0301",
    "\U0001f468\u200d\U0001f469",
    "\u2764\ufe0f",
    "\x1b[31m",
    "\u202e",
    "antidisestablishmentarianism",
    "[bold]",
]


def texts_of(seed: int, count: int = 60) -> list[str]:
    draw = random.Random(seed)
    return [draw.choice(PIECES) for _ in range(count)]


def text_of_tokens(texts: list[str], width: int) -> list[str]:
    """Return what is drawn for each token, its lines joined."""
    drawn = [""] * len(texts)
    for line in lay_out(texts, width).lines:
        for piece in line:
            drawn[piece.token] += piece.text
    return drawn


@pytest.mark.parametrize("width", [1, 2, 3, 7, 20, 200])
@pytest.mark.parametrize("seed", range(8))
def test_every_token_is_drawn_whole_and_in_order(seed: int, width: int) -> None:
    texts = texts_of(seed)
    wanted = [shown(text).replace("\n", "") for text in texts]
    assert text_of_tokens(texts, width) == wanted
    order = [piece.token for line in lay_out(texts, width).lines for piece in line]
    assert order == sorted(order)


@pytest.mark.parametrize("width", [2, 3, 7, 20, 200])
@pytest.mark.parametrize("seed", range(8))
def test_pieces_fill_their_line_without_gaps_and_within_its_width(
    seed: int, width: int
) -> None:
    for line in lay_out(texts_of(seed), width).lines:
        assert line
        column = 0
        for piece in line:
            assert piece.column == column
            assert piece.width == cell_len(piece.text) > 0
            column += piece.width
        assert column <= width


@pytest.mark.parametrize("width", [2, 7, 40])
@pytest.mark.parametrize("seed", range(8))
def test_every_cell_leads_to_its_token(seed: int, width: int) -> None:
    layout = lay_out(texts_of(seed), width)
    for number, line in enumerate(layout.lines):
        for piece in line:
            for column in range(piece.column, piece.column + piece.width):
                assert layout.token_at(number, column) == piece.token
            first, last = layout.places[piece.token]
            assert first <= number <= last
        assert layout.token_at(number, width + 10) == line[-1].token


def test_lines_end_after_spaces() -> None:
    layout = lay_out(["The", " ring", "-tailed", " lemur"], 12)
    lines = ["".join(piece.text for piece in line) for line in layout.lines]
    assert lines == ["The ", "ring-tailed ", "lemur"]
    assert layout.places == ((0, 0), (0, 1), (1, 1), (1, 2))


def test_a_word_that_is_longer_than_a_line_is_cut() -> None:
    lines = lay_out(["a", " ", "bcdefgh"], 3).lines
    assert [[piece.text for piece in line] for line in lines] == [
        ["a", " "],
        ["bcd"],
        ["efg"],
        ["h"],
    ]


def test_wide_characters_are_never_cut_in_half() -> None:
    lines = lay_out(["ab", "漢字", "c"], 3).lines
    assert [[piece.text for piece in line] for line in lines] == [
        ["ab"],
        ["漢"],
        ["字", "c"],
    ]


def test_newlines_end_lines_and_can_be_seen() -> None:
    lines = lay_out(["a", "\n\n", "b"], 9).lines
    assert [[piece.text for piece in line] for line in lines] == [
        ["a", NEWLINE],
        [NEWLINE],
        ["b"],
    ]


def test_what_would_take_no_cell_takes_one() -> None:
    assert shown("") == NO_WIDTH
    assert shown("\u0301") == NO_WIDTH + "\u0301"
    assert shown("\u200d") == NO_WIDTH


def test_control_characters_are_escaped() -> None:
    assert shown("\x1b[2J\t\u202e") == "\\x1b[2J    \\x202e"


def test_no_tokens_are_no_lines() -> None:
    assert lay_out([], 10).lines == ()


def test_going_down_and_up_keeps_the_column() -> None:
    layout = lay_out(["abc ", "de ", "fghi ", "jk"], 7)
    assert [layout.places[token][0] for token in range(4)] == [0, 0, 1, 1]
    assert layout.below(1, 1, layout.column_of(1)) == 2
    assert layout.below(3, -1, layout.column_of(3)) == 1
    assert layout.below(0, 99, 0) == 2
    assert layout.below(3, -99, 6) == 1


def test_going_down_from_a_token_of_several_lines_leaves_it() -> None:
    layout = lay_out(["abcdefghij", "k"], 4)
    assert layout.below(0, 1, 0) == 0  # the last line is its own, too
    assert layout.below(0, 1, 3) == 1
