"""What llama.cpp allocates for a model of given keys.

`python -m tests.model.llama_caches` brings `golden/caches.json` up to date. A model
needs no data for that: its file is as long as its tensors, and empty. Which tensors,
and of which shape, llama.cpp says itself, one complaint at a time.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.fakes import (
    ARRAY,
    BOOL,
    FLOAT32,
    INT32,
    STRING,
    UINT32,
    UINT64,
    Typed,
    gguf,
    key,
    tensor,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "caches.json"
N_CTX = 65_536
N_UBATCH = 512
VOCAB_SIZE = 64
_MODULE = "tests.model.llama_caches"

Shapes = dict[str, tuple[int, ...]]
Case = dict[str, Any]

_MISSING = re.compile(r"(?:missing tensor|tensor) '([^']+)'(?: not found|\n)")
_WRONG = re.compile(r"tensor '([^']+)' has wrong shape; expected ([\d, ]+), got")
_CACHE = re.compile(
    r"size = +[\d.]+ MiB \( *(\d+) cells, +(\d+) layers.*?"
    r"[KR] \(\w+\): +([\d.]+) MiB, [VS] \(\w+\): +([\d.]+) MiB"
    r"(?:, P \(\w+\): +([\d.]+) MiB)?"
)
_COMPRESSOR = re.compile(r"dsv4_comp_state: \w+ ratio.* size = +([\d.]+) MiB")


def typed(value: Any) -> Typed:
    """Return a value of JSON with the type that converters give it."""
    kinds = {bool: BOOL, int: UINT32, float: FLOAT32, str: STRING}
    if isinstance(value, dict):
        return ARRAY, (UINT64, value["uint64"])
    if isinstance(value, list):
        kind = kinds[type(value[0])]
        return ARRAY, (INT32 if kind == UINT32 else kind, value)
    return kinds[type(value)], value


def write_model(path: Path, case: Case, shapes: Shapes) -> None:
    """Write a model without data."""
    prefix = case["architecture"]
    keys = {
        "general.architecture": (STRING, prefix),
        "tokenizer.ggml.model": (STRING, "no_vocab"),
        f"{prefix}.vocab_size": (UINT32, VOCAB_SIZE),
        **{f"{prefix}.{name}": typed(value) for name, value in case["keys"].items()},
    }
    entries, end = [], 0
    for name, shape in shapes.items():
        end += -end % 32
        entries.append(tensor(name, shape, offset=end))
        end += 4 * math.prod(shape)
    raw = gguf([key(name, *value) for name, value in keys.items()], entries)
    path.write_bytes(raw)
    os.truncate(path, len(raw) + -len(raw) % 32 + end)


def measure(case: Case) -> list[list[float]]:
    """Return what llama.cpp logs about each cache, from a process of its own.

    Lines of [cells, layers, K or R, V or S, P], in MiB. It may crash afterwards: not
    every tensor that a graph needs is one that llama.cpp asks for.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", _MODULE, "--one", folder]
        subprocess.run(
            command,
            input=json.dumps(case),
            text=True,
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},
            stderr=subprocess.DEVNULL,
            check=False,
        )
        text = log.read_text("utf-8") if log.exists() else ""
    caches = [
        [float(number or 0) for number in found] for found in _CACHE.findall(text)
    ]
    states = [[0.0, 0.0, 0.0, float(size), 0.0] for size in _COMPRESSOR.findall(text)]
    if not caches:
        raise AssertionError(f"llama.cpp did not get as far as a cache: {text[-500:]}")
    return caches + states


def _one(folder: Path, case: Case) -> None:
    import llama_cpp

    lines: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def on_line(_level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        lines.append(text.decode("utf-8", "replace"))
        if "size =" in lines[-1]:  # it may crash after it
            with open(folder / "log", "a", encoding="utf-8") as log:
                log.write(lines[-1])

    llama_cpp.llama_log_set(on_line, ctypes.c_void_p(0))
    model = _load(folder / "model.gguf", case, lines)
    (folder / "log").unlink(missing_ok=True)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_ubatch, params.n_batch = N_CTX, N_UBATCH, N_UBATCH
    params.n_seq_max, params.swa_full = 1, False
    llama_cpp.llama_init_from_model(model, params)


def _load(path: Path, case: Case, lines: list[str]) -> Any:
    import llama_cpp

    params = llama_cpp.llama_model_default_params()
    params.no_alloc, params.load_mode, params.n_gpu_layers = True, 0, 0
    shapes: Shapes = {name: tuple(shape) for name, shape in case["tensors"].items()}
    while True:
        write_model(path, case, shapes)
        lines.clear()
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if model:
            return model
        text = "".join(lines)
        if wrong := _WRONG.search(text):
            lengths = [int(length) for length in wrong[2].split(",")]
            while len(lengths) > 1 and lengths[-1] == 1:
                lengths.pop()
            shapes[wrong[1]] = tuple(lengths)
        elif missing := _MISSING.search(text):
            shapes[missing[1]] = (1,)
        else:
            (path.parent / "log").write_text(text, "utf-8")
            sys.exit(1)


def main() -> None:
    """Measure all cases of the golden file again and write it."""
    cases = json.loads(GOLDEN.read_text("utf-8"))
    for name, case in cases.items():
        print(name, flush=True)
        case["logged"] = measure(case)
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _one(Path(sys.argv[2]), json.load(sys.stdin))
    else:
        main()
