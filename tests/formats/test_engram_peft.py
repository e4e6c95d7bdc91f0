"""engram-peft adapters: converted exactly, or refused with a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engram_local.errors import (
    EngramError,
    FileError,
    FormatError,
    MismatchError,
    UnsupportedError,
)
from engram_local.formats.engram_gguf import read_memory
from engram_local.formats.engram_peft import WEIGHTS_FILE, matches, open_adapter
from engram_local.formats.engram_writer import write_memory
from engram_local.formats.header import Header, read_header
from engram_local.memory.module import MemoryModule
from engram_local.memory.reference_memory import ReferenceMemory
from engram_local.memory.table import open_table
from engram_local.spec import Boundary, RowType, Window
from tests.fakes import (
    HIDDEN_SIZE,
    N_CANONICAL,
    AdapterFolder,
    backbone_file,
    make_adapter,
    read_golden,
)

F32 = NDArray[np.float32]
TABLE = "1.multi_head_embedding.embedding.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "adapter"


def convert(
    folder: Path, backbone: Header, target: Path, row_type: RowType = RowType.F32
) -> MemoryModule:
    """Convert an adapter and return the memory that was written."""
    with open_adapter(folder, backbone, row_type) as adapter:
        write_memory(
            target, adapter.module, adapter.rows, architecture=adapter.architecture
        )
    return read_memory(read_header(target))


def refuse(
    folder: Path, backbone: Header, kind: type[EngramError], sentence: str
) -> None:
    """Check that an adapter is refused before anything is written."""
    with (
        pytest.raises(kind, match=sentence) as caught,
        open_adapter(folder, backbone, RowType.F32),
    ):
        pytest.fail("an adapter was opened that should have been refused")
    assert type(caught.value) is kind
    assert caught.value.exit_code == 3


def read_rows(module: MemoryModule, line: int) -> F32:
    spec = module.spec.layers[line].table
    table = open_table(module.path, spec, "ram")
    out = np.empty((spec.n_rows, spec.width), np.float32)
    table.gather(np.arange(spec.n_rows), out)
    table.close()
    return out


def assert_weights(
    module: MemoryModule, tensors: dict[str, NDArray[Any]], n_branches: int
) -> None:
    """Compare a memory with the tensors of its adapter."""
    d = module.fusion.hidden_size
    layers = zip(module.spec.layers, module.weights, strict=True)
    for line, (layer, weights) in enumerate(layers):
        prefix = f"{layer.layer_id}."
        table = tensors[prefix + "multi_head_embedding.embedding.weight"]
        np.testing.assert_array_equal(read_rows(module, line), table)
        value = tensors[prefix + "gating.w_v.weight"]
        np.testing.assert_array_equal(weights.value, value)
        conv = tensors[prefix + "short_conv.conv.weight"]
        assert weights.conv is not None and weights.conv_norm is not None
        np.testing.assert_array_equal(weights.conv, conv.squeeze(1))
        for b in range(n_branches):
            for name, found in (
                ("gating.w_k", weights.key[b * d : (b + 1) * d]),
                ("gating.norm_k", weights.key_norm[b]),
                ("gating.norm_h", weights.query_norm[b]),
                ("short_conv.norms", weights.conv_norm[b]),
            ):
                wanted = tensors[f"{prefix}{name}.{b}.weight"]
                np.testing.assert_array_equal(found, wanted)
        assert weights.key_bias is None
        assert weights.value_bias is None


# --- conversion -----------------------------------------------------------------------


@pytest.mark.parametrize("n_branches", [1, 2])
def test_an_adapter_becomes_a_memory(
    tmp_path: Path, folder: Path, backbone: Header, n_branches: int
) -> None:
    adapter = make_adapter(n_branches=n_branches)
    adapter.write(folder)
    assert matches(folder)
    module = convert(folder, backbone, tmp_path / "memory.gguf")
    assert [layer.layer_id for layer in module.spec.layers] == [1, 4]
    assert module.spec.n_canonical == N_CANONICAL
    assert module.fusion.n_branches == n_branches
    assert (module.fusion.conv_kernel, module.fusion.conv_dilation) == (3, 3)
    first = module.spec.layers[0].hash
    assert first.window is Window.OLDEST_FIRST
    assert first.boundary is Boundary.PAD
    assert first.sizes == (23, 29, 31, 37)  # from 40 // 2 and 60 // 2 on
    assert first.fill_id == 1  # the canonical id of token 2
    assert_weights(module, adapter.tensors, n_branches)


def test_rows_are_stored_in_the_type_that_was_asked_for(
    tmp_path: Path, folder: Path, backbone: Header
) -> None:
    make_adapter(width=32).write(folder)
    module = convert(folder, backbone, tmp_path / "memory.gguf", RowType.Q8_0)
    assert module.spec.layers[0].table.row_type is RowType.Q8_0


def test_rows_that_do_not_fit_their_type_are_refused(
    tmp_path: Path, folder: Path, backbone: Header
) -> None:
    make_adapter(width=4).write(folder)
    with pytest.raises(FormatError, match="divisible by 32, found 4"):
        convert(folder, backbone, tmp_path / "memory.gguf", RowType.Q8_0)
    assert not (tmp_path / "memory.gguf").exists()


def test_half_precision_adapters_are_converted(
    tmp_path: Path, folder: Path, backbone: Header
) -> None:
    adapter = make_adapter()
    adapter.tensors = {
        name: array.astype(np.float16) for name, array in adapter.tensors.items()
    }
    adapter.write(folder)
    module = convert(folder, backbone, tmp_path / "memory.gguf")
    assert_weights(module, adapter.tensors, 2)


def golden_state(module: MemoryModule, token_ids: Any, hidden: list[F32]) -> list[F32]:
    memory = ReferenceMemory(module, "mmap")
    memory.submit(token_ids.tolist())
    states = [state.copy() for state in hidden]
    for line, state in enumerate(states):
        memory.add_delta(line, state)
    memory.close()
    return states


@pytest.mark.model
@pytest.mark.parametrize(("name", "n_branches"), [("peft_a", 1), ("peft_b", 4)])
def test_a_real_adapter_is_converted_exactly(
    tmp_path: Path, golden: Path, smollm2: Header, name: str, n_branches: int
) -> None:
    module = convert(golden / name, smollm2, tmp_path / "memory.gguf")
    assert_weights(module, load_file(golden / name / WEIGHTS_FILE), n_branches)
    arrays, _ = read_golden(golden / name / "reference.safetensors")
    np.testing.assert_array_equal(module.token_map, arrays["token_map"])


@pytest.mark.model
@pytest.mark.parametrize("name", ["peft_a", "peft_b"])
def test_a_real_adapter_adds_what_engram_peft_adds(
    tmp_path: Path, golden: Path, smollm2: Header, name: str
) -> None:
    module = convert(golden / name, smollm2, tmp_path / "memory.gguf")
    arrays, _ = read_golden(golden / name / "reference.safetensors")
    layer_ids = [layer.layer_id for layer in module.spec.layers]
    before = [arrays[f"{layer_id}.hidden_in"] for layer_id in layer_ids]
    found = golden_state(module, arrays["token_ids"][:32], before)
    for layer_id, start, state in zip(layer_ids, before, found, strict=True):
        wanted = arrays[f"{layer_id}.hidden_out"] - start
        error = np.abs((state - start) - wanted).max() / np.abs(wanted).max()
        assert error < 2e-4


# --- options that are not known here --------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("engine", "qwen_ple"),
        ("enable_tokenizer_compression", False),
        ("table_source", "mmap"),
        ("prime_sizes", [[11, 13], [17, 19]]),
    ],
)
def test_an_unknown_option_is_unsupported(
    folder: Path, backbone: Header, key: str, value: Any
) -> None:
    adapter = make_adapter()
    adapter.config[key] = value
    adapter.write(folder)
    refuse(folder, backbone, UnsupportedError, f"{key} is .* can be converted")


@pytest.mark.parametrize("orders", [[3, 4], [2, 4], [3, 2], [1, 2]])
def test_other_n_gram_orders_are_unsupported(
    folder: Path, backbone: Header, orders: list[int]
) -> None:
    adapter = make_adapter()
    adapter.config["ngram_sizes"] = orders
    adapter.write(folder)
    refuse(folder, backbone, UnsupportedError, "ngram_sizes is .* can be converted")


def test_options_left_out_have_engram_pefts_defaults(
    tmp_path: Path, folder: Path, backbone: Header
) -> None:
    adapter = make_adapter()
    for key in ("engine", "enable_tokenizer_compression", "table_source"):
        del adapter.config[key]
    adapter.write(folder)
    assert convert(folder, backbone, tmp_path / "m.gguf").spec.rows_per_token == 8


# --- another backbone -----------------------------------------------------------------


def test_a_backbone_of_another_width_is_refused(tmp_path: Path, folder: Path) -> None:
    make_adapter().write(folder)
    other = backbone_file(hidden_size=16).write(tmp_path / "wide.gguf")
    refuse(folder, read_header(other), MismatchError, "hidden_size is 8, .* has 16")


def test_a_backbone_of_another_vocabulary_is_refused(
    tmp_path: Path, folder: Path
) -> None:
    make_adapter().write(folder)
    other = backbone_file(tokens=["a", "b", "c"]).write(tmp_path / "other.gguf")
    sentence = f"compressed_vocab_size is {N_CANONICAL}, the backbone has 3"
    refuse(folder, read_header(other), MismatchError, sentence)


# --- contradictions -------------------------------------------------------------------

BROKEN_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "no heads": ({"n_head_per_ngram": 0}, "n_head_per_ngram is 0"),
    "heads as text": ({"n_head_per_ngram": "2"}, "n_head_per_ngram is '2'"),
    "heads as a bool": ({"n_head_per_ngram": True}, "n_head_per_ngram is True"),
    "no orders": ({"ngram_sizes": []}, "orders of at least 2"),
    "orders as a number": ({"ngram_sizes": 3}, "should be a list of integers"),
    "sizes for one order": (
        {"engram_vocab_size_per_ngram": [40]},
        "need 4 sizes and offsets, found 2",
    ),
    "sizes as text": (
        {"engram_vocab_size_per_ngram": ["40", "60"]},
        "should be a list of integers",
    ),
    "other sizes than the table has": (
        {"engram_vocab_size_per_ngram": [60, 60]},
        "the table of layer 1 has 120 rows, its hash needs 152",
    ),
    "sizes past any table": (
        {"engram_vocab_size_per_ngram": [10**30, 60]},
        "engram_vocab_size_per_ngram",
    ),
    "a negative layer": ({"target_layers": [-1, 4]}, r"target_layers is \[-1, 4\]"),
    "a layer past the backbone": (
        {"target_layers": [1, 6]},
        r"target_layers is \[1, 6\]",
    ),
    "no layers": ({"target_layers": []}, r"target_layers is \[\]"),
    "a layer twice": ({"target_layers": [1, 1]}, r"target_layers is \[1, 1\]"),
    "a pad id past the vocabulary": ({"pad_id": 24}, "pad_id is 24, 0 to 23"),
    "no pad id": ({"pad_id": None}, "pad_id is None"),
    "a negative seed": ({"seed": -1}, "seed is -1"),
    "no convolution": ({"conv_kernel_size": 0}, "conv_kernel_size is 0"),
    "another convolution": ({"conv_kernel_size": 4}, r"\(16, 1, 4\) is needed"),
    "no dilation": ({"conv_dilation": 0}, "conv_dilation is 0"),
    "fewer branches": ({"hc_mult": 1}, r"\(8, 1, 3\) is needed"),
    "more branches": ({"hc_mult": 3}, "has no tensor"),
}


@pytest.mark.parametrize("name", list(BROKEN_CONFIGS))
def test_a_wrong_number_in_the_config_is_refused(
    folder: Path, backbone: Header, name: str
) -> None:
    changes, sentence = BROKEN_CONFIGS[name]
    adapter = make_adapter()
    adapter.config |= changes
    adapter.write(folder)
    refuse(folder, backbone, FormatError, sentence)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1, 2]", '"text"', "null", "\xff", "[" * 100_000],
    ids=["empty", "cut", "list", "text", "null", "no utf-8", "deep"],
)
def test_a_broken_config_is_refused(folder: Path, backbone: Header, text: str) -> None:
    make_adapter().write(folder)
    (folder / "config.json").write_text(text, "latin-1")
    refuse(folder, backbone, FormatError, r"config\.json")


@pytest.mark.parametrize("name", list(make_adapter().tensors))
def test_every_tensor_is_needed(folder: Path, backbone: Header, name: str) -> None:
    adapter = make_adapter()
    del adapter.tensors[name]
    adapter.write(folder)
    refuse(folder, backbone, FormatError, f"has no tensor {name}")


@pytest.mark.parametrize(
    "name", [name for name in make_adapter().tensors if name != TABLE]
)
def test_every_tensor_has_its_shape(folder: Path, backbone: Header, name: str) -> None:
    adapter = make_adapter()
    adapter.tensors[name] = adapter.tensors[name][:-1]
    adapter.write(folder)
    refuse(folder, backbone, FormatError, "is needed|its hash needs")


@pytest.mark.parametrize("shape", [(480,), (120, 2, 2)])
def test_a_table_of_other_dimensions_is_refused(
    folder: Path, backbone: Header, shape: tuple[int, ...]
) -> None:
    adapter = make_adapter()
    adapter.tensors[TABLE] = adapter.tensors[TABLE].reshape(shape)
    adapter.write(folder)
    refuse(folder, backbone, FormatError, "table of layer 1 has the shape")


def test_a_table_of_another_width_is_refused(folder: Path, backbone: Header) -> None:
    adapter = make_adapter()
    adapter.tensors[TABLE] = adapter.tensors[TABLE].repeat(2, axis=1)
    adapter.write(folder)
    refuse(folder, backbone, FormatError, r"\(8, 32\) is needed")


def test_bfloat16_is_read_or_refused_with_a_sentence(
    folder: Path, backbone: Header
) -> None:
    """numpy has no such type; a folder trained in it must not end in a traceback."""
    folder.mkdir()
    make_adapter().write(folder)
    path = folder / WEIGHTS_FILE
    raw = path.read_bytes()
    n_bytes = int.from_bytes(raw[:8], "little")
    entries = json.loads(raw[8 : 8 + n_bytes])
    data = bytearray()
    for entry in entries.values():
        start, end = entry["data_offsets"]
        tensor = raw[8 + n_bytes + start : 8 + n_bytes + end]
        upper = np.frombuffer(tensor, "<u2")[1::2].tobytes()
        entry["dtype"] = "BF16"
        entry["data_offsets"] = [len(data), len(data) + len(upper)]
        data += upper
    head = json.dumps(entries).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(data))
    refuse(folder, backbone, UnsupportedError, "BF16")


@pytest.mark.parametrize("raw", [b"", b"x" * 100, b"\xff" * 8 + b"{}"])
def test_weights_that_are_no_safetensors_are_refused(
    folder: Path, backbone: Header, raw: bytes
) -> None:
    make_adapter().write(folder)
    (folder / WEIGHTS_FILE).write_bytes(raw)
    refuse(folder, backbone, FormatError, f"{WEIGHTS_FILE} cannot be read")


def drop_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def drop_weights(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()


@pytest.mark.parametrize("damage", [drop_config, drop_weights])
def test_a_folder_without_both_files_is_no_adapter(
    folder: Path, backbone: Header, damage: Callable[[Path], None]
) -> None:
    make_adapter().write(folder)
    damage(folder)
    assert not matches(folder)
    refuse(folder, backbone, FileError, "is no engram-peft adapter")


def test_a_missing_folder_is_no_adapter(folder: Path, backbone: Header) -> None:
    refuse(folder, backbone, FileError, "is no engram-peft adapter")


def test_the_fake_adapter_is_the_kind_that_engram_peft_writes(golden: Path) -> None:
    """The fake would prove nothing if real folders looked otherwise."""
    real_config = json.loads((golden / "peft_a" / "config.json").read_text())
    fake: AdapterFolder = make_adapter(n_branches=1)
    assert set(fake.config) <= set(real_config)
    for key, value in fake.config.items():
        assert type(value) is type(real_config[key]), key
    real = load_file(golden / "peft_a" / WEIGHTS_FILE)
    assert {name.replace("4.", "15.", 1) for name in fake.tensors if name[0] == "4"} | {
        "15.multi_head_embedding.offsets"
    } == {name for name in real if name.startswith("15.")}
    assert fake.config["hidden_size"] == HIDDEN_SIZE
