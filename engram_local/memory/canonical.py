"""Token ids -> canonical ids: tokens that look alike to a reader share one id.

DeepSeek's compressed vocabulary ("Conditional Memory via Scalable Lookup", appendix
C): every token is decoded and normalised, tokens with equal text get one id, numbered
by first appearance. Runs once, when a memory is converted; the map is stored.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

_SENTINEL = "\ue000"
_BLANK = re.compile(r"[ \t\r\n]+")
# Unicode White_Space, what Rust's char::is_whitespace strips; str.strip() would also
# take U+001C..U+001F.
_WHITE_SPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


class TokenType(IntEnum):
    """The entries of `tokenizer.ggml.token_type` that matter here."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4


def build_token_map(
    tokens: Sequence[str], token_types: Sequence[int]
) -> NDArray[np.int32]:
    """Return the canonical id of every token id: (n_vocab,) int32.

    tokens: the byte-level BPE vocabulary as a GGUF spells it ("Ġthe" is " the").
    token_types: `tokenizer.ggml.token_type`; control and user-defined tokens are
    spelled as they are read.
    """
    canonical: dict[str, int] = {}
    token_map = np.empty(len(tokens), np.int32)
    for token_id, (token, token_type) in enumerate(
        zip(tokens, token_types, strict=True)
    ):
        key = _key(token, token_type)
        token_map[token_id] = canonical.setdefault(key, len(canonical))
    return token_map


def normalize(text: str) -> str:
    """Return what two tokens must have in common to share a canonical id."""
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
    # Marks of all three categories (Mn, Mc, Me), as Hugging Face's StripAccents.
    text = "".join(char for char in text if unicodedata.category(char)[0] != "M")
    # Char by char, as Rust does it: str.lower() has a rule for a final sigma.
    text = "".join(char.lower() for char in text)
    text = _BLANK.sub(" ", text)
    if text == " ":  # a token of blanks keeps one blank as its key
        text = _SENTINEL
    return text.strip(_WHITE_SPACE).replace(_SENTINEL, " ")


def _key(token: str, token_type: int) -> str:
    text = _decode(token, token_type)
    if "\ufffd" in text:  # a piece of a UTF-8 sequence keeps its spelling
        return token
    return normalize(text) or text


def _decode(token: str, token_type: int) -> str:
    if token_type in (TokenType.CONTROL, TokenType.USER_DEFINED):
        return token
    try:
        raw = bytes(_BYTE_OF_CHAR[char] for char in token)
    except KeyError:  # not in byte-level spelling: the text stands as it is
        return token
    return raw.decode("utf-8", "replace")


def _byte_of_char() -> dict[str, int]:
    """GPT-2's byte-level alphabet: printable bytes stand for themselves, the others
    for the characters from U+0100 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    for number, byte in enumerate(others):
        table[chr(256 + number)] = byte
    return table


_BYTE_OF_CHAR = _byte_of_char()
