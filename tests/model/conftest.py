"""The default backbone in float32, golden adapters as memory files, native models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engram_local.catalog import default_model
from engram_local.errors import FileError
from engram_local.formats.engram_peft import open_adapter
from engram_local.formats.engram_writer import write_memory
from engram_local.formats.header import read_header
from engram_local.settings import Settings
from engram_local.spec import RowType
from tests.conftest import GOLDEN
from tests.native_models import copy_keys, split_file, tiny_gemma4, tiny_qwen4exp

EXACT = Settings(
    n_ctx=512,
    flash_attention="off",
    cache_type_k="f32",
    cache_type_v="f32",
    temperature=0.0,
)
"""No rounding but float32's own, and no chance."""


@pytest.fixture(scope="session")
def quantized() -> Path:
    """The default backbone as it comes."""
    try:
        return default_model()
    except FileError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="session")
def exact(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default backbone with every weight as float32 (540 MB)."""
    path = tmp_path_factory.mktemp("backbone") / "float32.gguf"
    dequantize_file(quantized, path)
    return path


@pytest.fixture(scope="session")
def adapter(
    quantized: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return a golden adapter, "peft_a" or "peft_b", as a memory of float32 rows."""
    folder = tmp_path_factory.mktemp("memories")
    backbone = read_header(quantized)

    def convert(name: str) -> Path:
        path = folder / f"{name}.gguf"
        if not path.exists():
            with open_adapter(GOLDEN / name, backbone, RowType.F32) as source:
                write_memory(
                    path,
                    source.module,
                    source.rows,
                    architecture=source.architecture,
                )
        return path

    return convert


@pytest.fixture(scope="session")
def qwen4exp(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a table of 4,096 rows of 32 float16, 4 rows per token."""
    return tiny_qwen4exp(tmp_path_factory.mktemp("qwen4exp") / "tiny-qwen4exp.gguf")


@pytest.fixture(scope="session")
def gemma4(quantized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a table of 512 rows of 4 x 64 float16, one per token."""
    return tiny_gemma4(tmp_path_factory.mktemp("gemma4") / "tiny-gemma4.gguf")


@pytest.fixture(scope="session", params=["qwen4exp", "gemma4"])
def native_model(request: pytest.FixtureRequest) -> Path:
    """Each of the two: the test runs twice."""
    return Path(request.getfixturevalue(request.param))


@pytest.fixture(scope="session")
def qwen4exp_parts(qwen4exp: Path) -> list[Path]:
    """The same in three files; the table is in the last."""
    return split_file(qwen4exp, qwen4exp.parent, n_parts=3)


@pytest.fixture(scope="session")
def gemma4_parts(gemma4: Path) -> list[Path]:
    """The same in three files; the table is in the last."""
    return split_file(gemma4, gemma4.parent, n_parts=3)


def dequantize_file(source: Path, target: Path) -> None:
    """Write a GGUF with the same keys and float32 tensors."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    copy_keys(reader, writer)
    for tensor in reader.tensors:
        writer.add_tensor(
            tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
