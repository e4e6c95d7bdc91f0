"""Files that leave nothing behind, whatever ends the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engram_local import scratch_files
from engram_local.bench.eviction import Region, cached_bytes, evict
from engram_local.errors import BenchError, FileError
from engram_local.scratch_files import (
    is_nameless,
    replaced_at_end,
    scratch_folder,
)

LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="files without a name: Linux only"
)
PAGES = os.urandom(16 * 4096)


@pytest.fixture(params=["nameless", "no /proc", "no reopening"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the system and its file system offer."""
    if request.param == "no /proc":
        monkeypatch.setattr(scratch_files, "_HAS_PROC", False)
    elif request.param == "no reopening":
        monkeypatch.setattr(scratch_files, "_opens", lambda _: False)
    return str(request.param)


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), RuntimeError("broken")])
def test_files_are_gone_at_the_end(tmp_path: Path, error: BaseException | None) -> None:
    seen: list[Path] = []

    def work() -> None:
        with scratch_folder(tmp_path) as folder:
            seen.extend(folder.new_file(name) for name in ("a.gguf", "b.gguf"))
            for path in seen:
                path.write_bytes(path.name.encode())
            assert [path.read_text() for path in seen] == [p.name for p in seen]
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    assert not any(path.exists() for path in seen)
    assert list(tmp_path.iterdir()) == []


@LINUX
def test_a_file_has_no_name_and_another_process_reads_and_evicts_it(
    tmp_path: Path,
) -> None:
    with scratch_folder(tmp_path) as folder:
        path = folder.new_file("model.gguf")
        path.write_bytes(PAGES)
        assert list(tmp_path.iterdir()) == []
        assert is_nameless(path) and os.access(path, os.W_OK)
        program = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
        done = subprocess.run(
            [sys.executable, "-c", program, path], capture_output=True, check=True
        )
        assert done.stdout == PAGES
        assert cached_bytes(Region(path=path)) == len(PAGES)
        eviction = evict(Region(path=path))
        assert (eviction.region_bytes, eviction.before_bytes) == (len(PAGES),) * 2


@pytest.mark.usefixtures("kind")
def test_people_see_names(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError) as caught,
        scratch_folder(tmp_path) as folder,
    ):
        paths = [folder.new_file(f"model-{number}.gguf") for number in range(12)]
        assert [folder.name_of(path) for path in paths] == [
            f"model-{number}.gguf" for number in range(12)
        ]
        assert folder.name_of(Path("elsewhere/own.gguf")) == "own.gguf"
        raise BenchError(" and ".join(str(path) for path in paths))
    assert caught.value.message.split(" and ") == [
        f"model-{number}.gguf" for number in range(12)
    ]


@pytest.mark.usefixtures("kind")
def test_a_folder_that_is_absent_is_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(FileError, match=r"no file can be made in .*absent: No such"),
        scratch_folder(tmp_path / "absent") as folder,
    ):
        folder.new_file("a.gguf")


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_file_has_its_name_when_it_is_whole(
    tmp_path: Path, before: bytes | None
) -> None:
    path = tmp_path / "result"
    if before is not None:
        path.write_bytes(before)
    (tmp_path / "result.part").write_bytes(b"of an older version, killed")
    with replaced_at_end(path) as written:
        written.write_bytes(b"half")
        assert (path.read_bytes() if path.exists() else None) == before
        written.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("kind")
def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replaced_at_end(path) as written:
        written.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@LINUX
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain", tmp_path / "result"
    plain.write_bytes(b"")
    with replaced_at_end(path) as written:
        written.write_bytes(b"")
    assert path.stat().st_mode == plain.stat().st_mode


@LINUX
@pytest.mark.parametrize("call", ["replaced_at_end(folder / 'a')", "scratch()"])
def test_sigkill_leaves_nothing(tmp_path: Path, call: str) -> None:
    program = f"""
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from engram_local.scratch_files import replaced_at_end, scratch_folder

@contextmanager
def scratch():
    with scratch_folder(folder) as files:
        yield files.new_file("model.gguf")

folder = Path(sys.argv[1])
with {call} as path:
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], check=False)
    assert done.returncode == -9
    assert list(tmp_path.iterdir()) == []
