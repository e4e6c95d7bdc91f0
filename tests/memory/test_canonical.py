"""Tokens -> canonical ids: what two tokens must share to share an id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engram_local.formats.backbone import read_token_map
from engram_local.formats.header import Header
from engram_local.memory.canonical import TokenType, build_token_map, normalize
from tests.fakes import N_CANONICAL, TOKENS, read_golden


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (" the", "the"),
        ("The", "the"),
        ("CAFÉ", "cafe"),
        ("cafe\u0301", "cafe"),
        ("ﬁne", "fine"),  # a ligature
        ("①", "1"),
        ("İ", "i"),  # lower case has a dot above of its own
        ("\u03a3\u0391\u03a3", "\u03c3\u03b1\u03c3"),  # Greek: no final sigma
        ("ß", "ß"),
        ("中文", "中文"),
        ("a \t\r\n b", "a b"),
        ("\u00a0a\u3000", "a"),  # other blanks, at the ends
        ("a\u2003b", "a b"),  # an em space is a compatibility form of a blank
        ("\x1fa", "\x1fa"),  # no Unicode white space, though str.strip() takes it
    ],
)
def test_normalized_text(text: str, key: str) -> None:
    assert normalize(text) == key


@pytest.mark.parametrize("text", [" ", "   ", "\n", "\t\r\n ", "\u00a0", "\u3000"])
def test_blanks_of_all_kinds_are_one_blank(text: str) -> None:
    assert normalize(text) == " "


@pytest.mark.parametrize("text", ["\x0b", "\x85", "\u2028"])
def test_blanks_that_are_not_replaced_vanish(text: str) -> None:
    assert normalize(text) == ""


@pytest.mark.parametrize("mark", ["\u0301", "\u093e", "\u20dd"])
def test_marks_of_every_category_are_stripped(mark: str) -> None:
    """Mn, Mc and Me: Hugging Face's StripAccents drops General_Category=Mark."""
    assert normalize(f"a{mark}b") == "ab"


def test_tokens_that_look_alike_share_an_id() -> None:
    token_map = build_token_map(TOKENS, [1] * len(TOKENS))
    of = dict(zip(TOKENS, token_map.tolist(), strict=True))
    assert of["a"] == of["Ġa"] == of["A"]
    assert of["Ġ"] == of["ĠĠ"]
    assert of["Ã©"] == of["e"]
    assert len({of["a"], of["b"], of["Ġ"], of["e"], of["<|end|>"]}) == 5
    assert token_map.dtype == np.int32


def test_ids_are_numbered_by_first_appearance() -> None:
    token_map = build_token_map(["b", "a", "B", "c", "A"], [1] * 5)
    assert token_map.tolist() == [0, 1, 0, 2, 1]


def test_a_piece_of_a_character_keeps_its_spelling() -> None:
    """ "é" spells the lone byte E9; it is neither é nor e."""
    token_map = build_token_map(["é", "e", "Ã©", "É"], [1] * 4)
    assert token_map.tolist() == [0, 1, 1, 2]


def test_an_empty_normal_form_keeps_its_text() -> None:
    """A lone accent normalises to nothing; two different ones stay apart."""
    acute, grave = "Ìģ", "ÌĢ"  # U+0301 and U+0300
    assert build_token_map([acute, grave, acute], [1] * 3).tolist() == [0, 1, 0]


def test_control_tokens_are_read_as_they_are_spelled() -> None:
    """Byte-level, "é" is half a character; as a special token it is the letter."""
    control = build_token_map(["e", "é"], [TokenType.NORMAL, TokenType.CONTROL])
    assert control.tolist() == [0, 0]
    user = build_token_map(["e", "é"], [TokenType.NORMAL, TokenType.USER_DEFINED])
    assert user.tolist() == [0, 0]


def test_a_token_outside_the_byte_alphabet_stands_as_it_is() -> None:
    assert build_token_map(["中", "中 "], [1, 1]).tolist() == [0, 0]


def test_a_backbones_token_map_is_built_from_its_vocabulary(backbone: Header) -> None:
    token_map = read_token_map(backbone)
    assert len(token_map) == len(TOKENS)
    assert int(token_map.max()) + 1 == N_CANONICAL


@pytest.mark.model
def test_token_map_equals_that_of_hugging_faces_normalizer(
    golden: Path, smollm2: Header
) -> None:
    arrays, meta = read_golden(golden / "demo_a.safetensors")
    token_map = read_token_map(smollm2)
    np.testing.assert_array_equal(token_map, arrays["token_map"])
    assert int(token_map.max()) + 1 == meta["compressed_vocab_size"]
    np.testing.assert_array_equal(
        token_map[arrays["token_ids"]], arrays["canonical_ids"]
    )
