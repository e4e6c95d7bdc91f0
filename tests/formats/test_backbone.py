"""What the header of a backbone tells, and what makes it another one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from engram_local.errors import FileError, FormatError, UnsupportedError
from engram_local.formats.backbone import read_backbone, read_token_map, tokens_sha256
from engram_local.formats.header import Header, read_header
from tests.fakes import (
    ARRAY,
    HIDDEN_SIZE,
    N_BLOCKS,
    STRING,
    TOKENS,
    UINT32,
    backbone_file,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backbone.gguf"


def test_a_backbone_is_described(backbone: Header) -> None:
    spec = read_backbone(backbone)
    assert (spec.architecture, spec.name) == ("llama", "tiny")
    assert spec.n_params == len(TOKENS) * HIDDEN_SIZE
    assert spec.file_bytes == backbone.file_bytes
    assert spec.context_length == 128
    assert spec.fingerprint.embedding_length == HIDDEN_SIZE
    assert spec.fingerprint.block_count == N_BLOCKS
    assert spec.fingerprint.vocab_size == len(TOKENS)
    assert spec.fingerprint.tokens_sha256 == tokens_sha256(TOKENS)


def test_a_nameless_backbone_is_called_by_its_file(path: Path) -> None:
    file = backbone_file()
    del file.keys["general.name"]
    assert read_backbone(read_header(file.write(path))).name == "backbone"


@pytest.mark.parametrize(
    "key",
    [
        "general.architecture",
        "llama.context_length",
        "llama.embedding_length",
        "llama.block_count",
        "tokenizer.ggml.tokens",
    ],
)
def test_a_backbone_without_a_needed_key_is_refused(path: Path, key: str) -> None:
    file = backbone_file()
    del file.keys[key]
    with pytest.raises(FormatError, match=f"{key} should be .*, found nothing"):
        read_backbone(read_header(file.write(path)))


def test_an_adapter_is_no_backbone(path: Path) -> None:
    file = backbone_file()
    file.keys["general.type"] = (STRING, "adapter\x1b[31m")
    with pytest.raises(FileError, match="a GGUF of type adapter") as caught:
        read_backbone(read_header(file.write(path)))
    assert "\x1b" not in caught.value.message
    assert "--memory" in (caught.value.hint or "")


def test_a_type_that_is_no_text_is_refused(path: Path) -> None:
    file = backbone_file()
    file.keys["general.type"] = (UINT32, 7)
    with pytest.raises(FormatError, match=r"general\.type should be a string"):
        read_backbone(read_header(file.write(path)))


def test_canonical_ids_of_another_tokenizer_are_unsupported(path: Path) -> None:
    file = backbone_file()
    file.keys["tokenizer.ggml.model"] = (STRING, "llama\x1b")
    with pytest.raises(UnsupportedError, match="tokenizer of kind llama") as caught:
        read_token_map(read_header(file.write(path)))
    assert caught.value.exit_code == 3
    assert "\x1b" not in caught.value.message


def test_token_types_that_do_not_match_the_vocabulary_are_refused(path: Path) -> None:
    file = backbone_file()
    file.keys["tokenizer.ggml.token_type"] = (ARRAY, (UINT32, [1]))
    with pytest.raises(FormatError, match=f"1 token types, {len(TOKENS)} tokens"):
        read_token_map(read_header(file.write(path)))


# --- the fingerprint ------------------------------------------------------------------


def test_the_hash_covers_each_tokens_length_and_bytes() -> None:
    spelled = b"".join(
        len(token.encode()).to_bytes(8, "little") + token.encode()
        for token in ("a", "Ġb", "")
    )
    assert tokens_sha256(["a", "Ġb", ""]) == hashlib.sha256(spelled).hexdigest()


def test_where_a_token_ends_matters() -> None:
    assert tokens_sha256(["ab", "c"]) != tokens_sha256(["a", "bc"])
    assert tokens_sha256(["ab", ""]) != tokens_sha256(["ab"])


def test_order_matters() -> None:
    assert tokens_sha256(["a", "b"]) != tokens_sha256(["b", "a"])


def test_tokens_that_are_no_text_stay_apart(path: Path) -> None:
    hashes = set()
    for raw in (b"\xff", b"\xfe", b"\xff\xfe"):
        file = backbone_file()
        file.keys["tokenizer.ggml.tokens"] = (ARRAY, (STRING, ["a", raw]))
        spec = read_backbone(read_header(file.write(path)))
        hashes.add(spec.fingerprint.tokens_sha256)
    assert len(hashes) == 3
