"""Headers with changed bytes, as far as llama.cpp: an exit code each time, no abort."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.gguf_parts import Parts

pytestmark = pytest.mark.model

N_FILES = 12
COMMAND = [sys.executable, "-m", "engram_local", "run"]
WORDS = ["-p", "Once", "-n", "4", "-c", "128", "-t", "1", "--no-fit"]


def test_a_damaged_header_ends_with_an_exit_code(
    native_model: Path, tmp_path: Path
) -> None:
    parts = Parts.read(native_model)
    whole = np.frombuffer(parts.raw(), np.uint8)
    random = np.random.default_rng(5)
    path = tmp_path / "damaged.gguf"
    codes = []
    for _ in range(N_FILES):
        damaged = whole.copy()
        place = random.integers(4, parts.n_header_bytes)
        damaged[place] ^= 1 << random.integers(8)
        path.write_bytes(damaged.tobytes())
        done = subprocess.run(
            [*COMMAND, path, *WORDS], capture_output=True, timeout=120, check=False
        )
        assert done.returncode in (0, 1, 3, 4), (place, done.stderr[-500:])
        assert b"Traceback" not in done.stderr
        codes.append(done.returncode)
    assert 3 in codes
