"""A file that is cut off under a running answer, and a drive that fails.

Each ends in a sentence and exit code 1, and what was answered before is on stdout.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from engram_local.bench.synthetic import MemoryShape, write_synthetic_memory
from engram_local.formats.engram_gguf import read_memory
from engram_local.formats.header import read_header
from engram_local.formats.native import read_native
from engram_local.formats.split import read_model_header
from engram_local.units import MIB
from tests.faulty_drive import faulty_drive
from tests.native_models import split_file, tiny_gemma4, tiny_qwen4exp

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="SIGBUS is handled on Linux only"
    ),
]

PAGE_BYTES = 4096
PIPE_BYTES = 4096
F_SETPIPE_SZ = 1031
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is run, and where its table lies."""

    words: tuple[str | Path, ...]
    file: Path
    begin: int
    end: int

    def moved(self, file: Path) -> Subject:
        """Return the same with the table's file in another place.

        All other files are found beside it, as the parts of a model have to be.
        """
        folder = self.file.parent / "beside"
        folder.mkdir()
        for path in self.file.parent.glob("*.gguf"):
            target = file if path == self.file else path
            (folder / path.name).symlink_to(target)
        words = tuple(
            folder / word.name
            if isinstance(word, Path) and word.parent == self.file.parent
            else word
            for word in self.words
        )
        return Subject(words=words, file=file, begin=self.begin, end=self.end)


def native(model: Path) -> Subject:
    """A model with a table of its own."""
    module = read_native(read_model_header(model))
    assert module is not None
    table = module.spec.layers[0].table
    return Subject(
        words=(model,),
        file=module.path,
        begin=table.offset_bytes,
        end=table.offset_bytes + table.n_bytes,
    )


def qwen4exp(folder: Path) -> Subject:
    """A table of 10 MiB."""
    path = folder / "qwen4exp.gguf"
    return native(tiny_qwen4exp(path, rows_per_head=40_000, n_tokens=None))


def gemma4(folder: Path) -> Subject:
    """A table of 24 MiB."""
    return native(tiny_gemma4(folder / "gemma4.gguf", n_tokens=None))


def qwen4exp_parts(folder: Path) -> Subject:
    """The table is in another file than the one that is named."""
    whole = qwen4exp(folder)
    return native(split_file(whole.file, folder, n_parts=3)[0])


def attached(folder: Path, quantized: Path) -> Subject:
    """A memory of 8 MiB beside the default model."""
    path = folder / "memory.gguf"
    shape = MemoryShape(layer_ids=(2,), table_bytes=8 * MIB)
    write_synthetic_memory(path, quantized, shape)
    table = read_memory(read_header(path)).spec.layers[0].table
    return Subject(
        words=(quantized, "--memory", path),
        file=path,
        begin=table.offset_bytes,
        end=table.offset_bytes + table.n_bytes,
    )


@pytest.fixture(params=["qwen4exp", "gemma4", "qwen4exp_parts", "attached"])
def subject(request: pytest.FixtureRequest, quantized: Path, tmp_path: Path) -> Subject:
    """One of each kind, in a file of its own."""
    if request.param == "attached":
        return attached(tmp_path, quantized)
    make: Callable[[Path], Subject] = globals()[request.param]
    return make(tmp_path)


@pytest.fixture
def drives() -> Iterator[ExitStack]:
    """Ends drives before their folder is removed."""
    with ExitStack() as stack:
        yield stack


def start(subject: Subject, *words: str) -> subprocess.Popen[bytes]:
    """Start an answer that waits for its reader long before its end."""
    fixed = ("-p", "Once upon a time", "-n", "3000", "-c", "4096", "--seed", "3")
    command = ["run", *subject.words, *fixed, "--temp", "1.5", "-t", "1", *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "engram_local", *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    import fcntl

    fcntl.fcntl(process.stdout, F_SETPIPE_SZ, PIPE_BYTES)  # type: ignore[arg-type]
    return process


def lose(process: subprocess.Popen[bytes], how: Callable[[], None]) -> tuple[int, str]:
    """Lose a file after the first words; return how many bytes came, and stderr."""
    assert process.stdout is not None
    begin = process.stdout.read(20)
    assert len(begin) == 20, process.communicate()
    how()
    rest, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    assert b"Traceback" not in err
    return len(begin + rest), err.decode()


@pytest.mark.parametrize("words", [(), ("--no-prefetch",)], ids=["prefetch", "without"])
def test_a_table_cut_off_under_an_answer(
    subject: Subject, words: tuple[str, ...]
) -> None:
    process = start(subject, "--memory-tier", "mmap", *words)
    n_bytes, err = lose(process, lambda: os.truncate(subject.file, subject.begin))
    assert n_bytes >= 20
    assert any(code in err for code in ("error[file-lost]", "error[bad-table]"))
    assert "hint: " in err


def test_a_table_cut_off_while_it_is_read_from_the_drive(
    quantized: Path, tmp_path: Path
) -> None:
    subject = attached(tmp_path, quantized)
    process = start(subject, "--memory-tier", "direct")
    _, err = lose(process, lambda: os.truncate(subject.file, subject.begin))
    assert "error[bad-table]" in err and "hint: the file was cut off" in err


def fails(subject: Subject, drives: ExitStack) -> tuple[Subject, Callable[[], None]]:
    """Return the subject on a drive whose table fails when the function is called.

    The first and the last page stay, which neighbours share.
    """
    begin = -(-subject.begin // PAGE_BYTES) * PAGE_BYTES
    end = subject.end // PAGE_BYTES * PAGE_BYTES
    try:
        drive = drives.enter_context(faulty_drive(subject.file, begin, end))
    except OSError as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    return subject.moved(drive.path), drive.fail


NATIVE = ["qwen4exp", "gemma4", "qwen4exp_parts"]


@pytest.mark.parametrize("subject", [*NATIVE, "attached"], indirect=True)
@pytest.mark.parametrize("words", [(), ("--no-prefetch",)], ids=["prefetch", "without"])
def test_a_drive_that_fails_under_an_answer(
    subject: Subject, words: tuple[str, ...], drives: ExitStack
) -> None:
    failing, fail = fails(subject, drives)
    _, err = lose(start(failing, "--memory-tier", "mmap", *words), fail)
    assert "error[file-lost]" in err


def test_a_drive_that_fails_under_direct_reads(
    quantized: Path, tmp_path: Path, drives: ExitStack
) -> None:
    subject, fail = fails(attached(tmp_path, quantized), drives)
    _, err = lose(start(subject, "--memory-tier", "direct"), fail)
    assert "error[bad-table]" in err and "Input/output error" in err


@pytest.mark.parametrize(
    ("subject", "tier"),
    [
        *((name, tier) for name in NATIVE for tier in ("mmap", "ram")),
        *(("attached", tier) for tier in ("mmap", "ram", "direct")),
    ],
    indirect=["subject"],
)
def test_a_drive_that_fails_from_the_start(
    subject: Subject, tier: str, drives: ExitStack
) -> None:
    failing, fail = fails(subject, drives)
    fail()
    process = start(failing, "--memory-tier", tier)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (1, b""), err
    assert b"error[file-lost]" in err or b"Input/output error" in err
    assert b"Traceback" not in err
