"""What all tests share: no settings from outside, files in tmp_path only."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from engram_local.catalog import default_model
from engram_local.errors import FileError
from engram_local.formats.engram_gguf import read_memory
from engram_local.formats.engram_writer import write_memory
from engram_local.formats.header import Header, read_header
from engram_local.memory.module import MemoryModule
from engram_local.settings import ENV_PREFIX
from tests.fakes import Memory, backbone_file

GOLDEN = Path(__file__).parent / "golden"
TIERS = ("ram", "mmap", "direct")
NOBODY = 65534


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_counts() -> None:
    """Who is started in the background ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The config file and the environment of whoever runs the tests do not count."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


def skip_without_direct_reads(folder: Path) -> None:
    """Skip the test where files in `folder` cannot be read past the page cache."""
    path = folder / "direct.probe"
    path.write_bytes(bytes(4096))
    try:
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
        with mmap.mmap(-1, 4096) as target:
            os.preadv(file, [target], 0)
        os.close(file)
    except (AttributeError, OSError) as error:
        pytest.skip(f"no direct reads in {folder}: {error}")


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a table is read from: the test runs once per tier."""
    if request.param == "direct":
        skip_without_direct_reads(tmp_path)
    return str(request.param)


@pytest.fixture
def golden() -> Path:
    """The folder with results of other people's programs."""
    return GOLDEN


@pytest.fixture
def backbone(tmp_path: Path) -> Header:
    """The header of a backbone with a vocabulary of two dozen tokens."""
    return read_header(backbone_file().write(tmp_path / "backbone.gguf"))


@pytest.fixture(scope="session")
def smollm2() -> Header:
    """The header of the default backbone; skips where it is not installed."""
    try:
        path = default_model()
    except FileError as error:
        pytest.skip(error.message)
    return read_header(path)


@pytest.fixture
def written() -> Callable[..., MemoryModule]:
    """Write a memory and read it back, so that its rows are in a file."""

    def write(memory: Memory) -> MemoryModule:
        path = memory.module.path
        write_memory(path, memory.module, memory.rows, architecture="llama")
        return read_memory(read_header(path))

    return write


@pytest.fixture
def as_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[], AbstractContextManager[None]]:
    """A block without root's right to read everything; files are named relatively."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)

    @contextmanager
    def block() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        try:
            os.seteuid(NOBODY)
        except OSError as error:
            pytest.skip(f"root cannot give up its rights here: {error.strerror}")
        try:
            yield
        finally:
            os.seteuid(0)

    return block
