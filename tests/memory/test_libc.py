"""What is asked of the operating system directly."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engram_local
from engram_local.memory.libc import resident_bytes

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Linux only"
)

# The size check of `gather` is skipped, as if the file were cut right after it.
LOSE_A_MAPPED_FILE = """
import os, sys
from pathlib import Path
import numpy as np
from engram_local.memory import table
from engram_local.memory.libc import install_bus_error_handler
from engram_local.spec import RowType, TableSpec

path = Path(sys.argv[1])
spec = TableSpec(row_type=RowType.F32, width=1024, n_rows=8, offset_bytes=0)
print(install_bus_error_handler(), flush=True)
mapped = table.open_table(path, spec, "mmap")
os.truncate(path, 0)
table._check_size = lambda *_: None
mapped.gather(np.array([5]), np.empty((1, 1024), np.float32))
print("not reached", flush=True)
"""


def test_a_lost_mapped_file_ends_the_process_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "table.bin"
    path.write_bytes(bytes(8 * 4096))
    root = Path(engram_local.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", LOSE_A_MAPPED_FILE, str(path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "True\n"
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("error[file-lost]: a mapped file could not be read")
    assert second.startswith("hint: restore the model or memory file")


def test_pages_in_memory_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "pages.bin"
    path.write_bytes(bytes(4 * mmap.PAGESIZE))
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        pages = np.frombuffer(mapped, np.uint8)
        assert int(pages.sum()) == 0  # touch them
        assert resident_bytes(pages) == 4 * mmap.PAGESIZE
        inside = pages[mmap.PAGESIZE + 7 : mmap.PAGESIZE + 9]
        assert resident_bytes(inside) == mmap.PAGESIZE
        across = pages[mmap.PAGESIZE - 1 : mmap.PAGESIZE + 1]
        assert resident_bytes(across) == 2 * mmap.PAGESIZE
        del pages, inside, across
        mapped.close()


def test_nothing_has_no_pages() -> None:
    assert resident_bytes(np.empty(0, np.uint8)) is None
