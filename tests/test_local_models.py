"""What a list says of models: facts of headers, and problems in a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engram_local import local_models
from engram_local.errors import FileError
from engram_local.local_models import LocalModel, find_models, require_model
from tests.fakes import STRING, UINT32, UINT64, File, make_memory, memory_file
from tests.model_folders import move_home, put, put_ollama, put_split, tiny_model
from tests.native_models import fake_default_model, tiny_qwen4exp


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return move_home(tmp_path, monkeypatch)


def found() -> dict[str, LocalModel]:
    return {model.name: model for model in find_models()}


def test_the_header_tells() -> None:
    path = put(Path("models/tiny.Q4_1.gguf"))
    assert found() == {
        "tiny.Q4_1": LocalModel(
            name="tiny.Q4_1",
            path=path,
            source="./models",
            file_bytes=path.stat().st_size,
            architecture="llama",
            n_params=24 * 8,
            quant="Q4_1",
            context_length=128,
        )
    }


def test_a_blob_without_an_ending_is_read_too(home: Path) -> None:
    put_ollama(home / ".ollama/models", "registry.ollama.ai/library/m/1b")
    model = found()["m:1b"]
    assert (model.architecture, model.problem) == ("llama", None)


def test_memories_are_found_beside_their_models() -> None:
    put(Path("models/a/tiny.gguf"))
    path = Path("models/a/wordnet.gguf")
    memory_file(make_memory(path)).write(path)
    put(Path("models/b/tiny2.gguf"))
    models = found()
    assert models["tiny"].memories == (path,)
    assert models["tiny"].memory_words == "wordnet"
    assert models["tiny2"].memories == ()
    memory = models["wordnet"]
    assert memory.is_memory
    assert memory.quant == "F32"
    assert memory.table_bytes == 4 * memory.n_params
    assert memory.memory_words.startswith("is one, ")


def test_a_table_of_its_own_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("models").mkdir()
    fake_default_model(Path(), monkeypatch)
    tiny_qwen4exp(Path("models/flash.gguf"))
    model = found()["flash"]
    assert model.problem is None
    assert model.table_bytes
    assert model.memory_words.startswith("its own, ")


def test_a_split_model_counts_all_of_its_parts() -> None:
    paths = put_split(Path("models"), "big")
    assert found()["big"].file_bytes == sum(path.stat().st_size for path in paths)
    paths[1].unlink()
    assert "big-00002-of-00002.gguf is missing" in str(found()["big"].problem)


def test_what_cannot_be_run_is_listed_with_a_sentence() -> None:
    folder = Path("models")
    data = put(folder / "cut.gguf").read_bytes()
    Path("models/cut.gguf").write_bytes(data[:300])
    (folder / "empty.gguf").touch()
    (folder / "gone.gguf").symlink_to("nothing")
    other = tiny_model()
    other.keys = {
        name.replace("llama.", "hal."): value for name, value in other.keys.items()
    }
    other.keys["general.architecture"] = (STRING, "hal")
    put(folder / "hal.gguf", other)
    mute = tiny_model()
    del mute.keys["tokenizer.ggml.tokens"]
    put(folder / "mute.gguf", mute)
    models = {name: str(model.problem) for name, model in found().items()}
    assert models["cut"].startswith("is 300 bytes, ")
    assert models["empty"] == (
        "is not a GGUF file: it is empty, a GGUF starts with b'GGUF'"
    )
    assert models["gone"] == "is a link to nothing"
    assert models["hal"] == "has the architecture hal, unknown to this llama.cpp"
    assert models["mute"].startswith("tokenizer.ggml.tokens should be an array")


def test_a_model_is_required_before_one_is_given_up_for_it() -> None:
    folder = Path("models")
    require_model(put(folder / "sound.gguf"))
    (folder / "empty.gguf").touch()
    memory = folder / "words.gguf"
    memory_file(make_memory(memory)).write(memory)
    for name, why in (
        ("gone", "does not exist"),
        ("empty", "is not a GGUF file"),
        ("words", "is a memory"),
    ):
        with pytest.raises(FileError, match=why):
            require_model(folder / f"{name}.gguf")


def test_an_encoder_is_no_model_to_chat_with() -> None:
    file = tiny_model()
    file.keys = {
        name.replace("llama.", "bert."): value for name, value in file.keys.items()
    }
    file.keys["general.architecture"] = (STRING, "bert")
    put(Path("models/e5.gguf"), file)
    assert found()["e5"].problem == "writes no text token by token: bert"


def test_what_is_no_model_is_left_out() -> None:
    projector, lora, vocabulary = tiny_model(), tiny_model(), tiny_model()
    projector.keys["general.architecture"] = (STRING, "clip")
    lora.keys |= {
        "general.type": (STRING, "adapter"),
        "adapter.type": (STRING, "lora"),
    }
    put(Path("models/mmproj-model-f16.gguf"), projector)
    put(Path("models/lora.gguf"), lora)
    put(Path("models/ggml-vocab.gguf"), File(keys=vocabulary.keys, tensors={}))
    assert found() == {}


def test_a_header_that_would_take_long_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(Path("models/tiny.gguf"))
    monkeypatch.setattr(local_models, "MAX_HEADER_BYTES", 200)
    assert "200 are allowed" in str(found()["tiny"].problem)


def test_numbers_that_cannot_be_are_a_problem() -> None:
    put(Path("models/a.gguf"), tiny_model(block_count=10**6))
    file = tiny_model()
    file.keys["llama.context_length"] = (UINT64, 2**63)
    put(Path("models/b.gguf"), file)
    file = tiny_model()
    file.keys["llama.embedding_length"] = (UINT32, 0)
    put(Path("models/c.gguf"), file)
    assert [model.problem is not None for model in found().values()] == [True] * 3


def test_a_file_that_disappears_meanwhile_is_a_problem() -> None:
    for name in "ab":
        put(Path(f"models/{name}.gguf"), tiny_model(name))
    models = find_models()
    assert next(models).problem is None
    Path("models/b.gguf").unlink()
    assert next(models).problem == "does not exist"


def test_progress_may_end_the_search() -> None:
    for name in "ab":
        put(Path(f"models/{name}.gguf"), tiny_model(name))
    parts: list[tuple[str, float]] = []

    def progress(what: str, part: float) -> None:
        parts.append((what, part))
        if part > 0:
            raise InterruptedError

    models = find_models(progress=progress)
    assert next(models).name == "a"
    with pytest.raises(InterruptedError):
        next(models)
    assert parts[0] == ("looking for models", 0)
    assert parts[-1] == ("reading headers", 0.5)


def test_a_name_is_kept_as_it_is_for_who_shows_it() -> None:
    name = "evil\x1b[31m"
    put(Path("models") / f"{name}.gguf")
    os.link(f"models/{name}.gguf", "models/zzz.gguf")
    assert found()[name].aliases == ("zzz",)
