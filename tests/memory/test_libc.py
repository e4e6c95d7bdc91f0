"""What is asked of the operating system directly."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
from errno import EINVAL
from pathlib import Path

import numpy as np
import pytest

import engram_local
from engram_local.kernels import kernel, pointer
from engram_local.memory.libc import (
    SEMAPHORE_BYTES,
    cached_pages,
    errno,
    fetch_add,
    pread,
    resident_bytes,
    sem_init,
    sem_post,
    sem_trywait,
    wait,
)

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
table.check_size = lambda *_: None
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_pages_of_a_file_are_counted_without_mapping_it(tmp_path: Path) -> None:
    path = tmp_path / "pages.bin"
    path.write_bytes(bytes(4 * mmap.PAGESIZE))
    with open(path, "rb") as file:
        counts = [
            cached_pages(file.fileno(), begin, n_bytes)
            for begin, n_bytes in ((0, 4 * mmap.PAGESIZE), (7, 2), (4095, 2))
        ]
    if counts[0] is None:
        pytest.skip("this system has no cachestat")
    assert counts == [4, 1, 2]
    assert cached_pages(-1, 0, 1) is None


def test_nothing_has_no_pages() -> None:
    assert resident_bytes(np.empty(0, np.uint8)) is None


def test_a_semaphore_counts() -> None:
    @kernel("i8(i8)")
    def count(address):  # type: ignore[no-untyped-def]
        semaphore = pointer(address)
        sem_init(semaphore, 0, 2)
        sem_post(semaphore)
        wait(semaphore)
        n = 0
        while sem_trywait(semaphore) == 0:
            n += 1
        return n

    memory = np.zeros(SEMAPHORE_BYTES, np.uint8)
    assert count(memory.ctypes.data) == 2


def test_threads_hand_over_through_semaphores() -> None:
    @kernel("void(i8, i8, i8)")
    def make(first, second, begin):  # type: ignore[no-untyped-def]
        if begin:
            sem_init(pointer(first), 0, 0)
            sem_init(pointer(second), 0, 0)
            return
        wait(pointer(first))
        sem_post(pointer(second))

    memory = np.zeros((2, SEMAPHORE_BYTES), np.uint8)
    first, second = (int(one.ctypes.data) for one in memory)
    make(first, second, 1)
    waiting = [threading.Thread(target=make, args=(first, second, 0)) for _ in "abc"]
    for thread in waiting:
        thread.start()

    @kernel("void(i8, i8, i8)")
    def release(first, second, n):  # type: ignore[no-untyped-def]
        for _ in range(n):
            sem_post(pointer(first))
        for _ in range(n):
            wait(pointer(second))

    release(first, second, len(waiting))
    for thread in waiting:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_threads_that_count_together_lose_nothing() -> None:
    @kernel("void(i8, i8)")
    def count(address, n):  # type: ignore[no-untyped-def]
        for _ in range(n):
            fetch_add(address, 1)

    counter = np.zeros(1, np.int64)
    each = 100_000
    arguments = (int(counter.ctypes.data), each)
    threads = [threading.Thread(target=count, args=arguments) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter[0] == 4 * each


def test_pread_says_why_it_failed(tmp_path: Path) -> None:
    @kernel("i8(i4, i8, i8)")
    def read(file, address, offset):  # type: ignore[no-untyped-def]
        n_bytes = pread(file, pointer(address), 3, offset)
        return n_bytes if n_bytes >= 0 else -errno()

    path = tmp_path / "bytes.bin"
    path.write_bytes(b"abcdefg")
    place = np.zeros(3, np.uint8)
    address = int(place.ctypes.data)
    with open(path, "rb") as file:
        assert read(file.fileno(), address, 2) == 3
        assert place.tobytes() == b"cde"
        assert read(file.fileno(), address, 5) == 2
        assert read(file.fileno(), address, -1) == -EINVAL
