"""Files that have no name while they are written, so that nothing of them is left.

A file without a name is gone when the last process that has it open ends, whatever
ended it: no clean-up is needed that SIGKILL could prevent. Others open it as
`/proc/PID/fd/N` of the process that made it. Where there is no /proc, or a file system
cannot do that, files have names, and clean-up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from engram_local.errors import EngramError, FileError

_OWN = Path("/proc/self/fd")
_HAS_PROC = sys.platform.startswith("linux") and _OWN.is_dir()


class ScratchFolder:
    """Files for a while, each with a path that the user's other processes can open."""

    def __init__(self, parent: Path, stack: ExitStack) -> None:
        """stack: what removes the files when it is closed."""
        self._parent = parent
        self._stack = stack
        self._named: Path | None = None
        self._names: dict[Path, str] = {}

    def new_file(self, name: str) -> Path:
        """Return the path of a new, empty file; `name` is what people call it.

        Raises FileError if it cannot be made.
        """
        try:
            path = self._nameless() or self._folder() / name
        except OSError as error:
            raise FileError(
                f"no file can be made in {self._parent}: {error.strerror}",
                hint="name a folder that you may write",
            ) from error
        self._names[path] = name
        return path

    def name_of(self, path: Path) -> str:
        """Return what people call a file, of this folder or any other."""
        return self._names.get(path, path.name)

    def readable(self, text: str) -> str:
        """Return a text with the names of files in place of their paths."""
        # Last one first: /proc/1/fd/1 begins /proc/1/fd/12.
        for path, name in sorted(self._names.items(), reverse=True):
            text = text.replace(str(path), name)
        return text

    def _nameless(self) -> Path | None:
        if not _HAS_PROC:
            return None
        with ExitStack() as stack:
            # Made without a name (O_TMPFILE), or unlinked at once.
            file = stack.enter_context(TemporaryFile(dir=self._parent))
            path = Path("/proc", os.readlink("/proc/self"), "fd", str(file.fileno()))
            if not _opens(path):  # some network file systems
                return None
            self._stack.enter_context(stack.pop_all())
        return path

    def _folder(self) -> Path:
        if self._named is None:
            folder = TemporaryDirectory(prefix="engram-local-", dir=self._parent)
            self._named = Path(self._stack.enter_context(folder))
        return self._named


@contextmanager
def scratch_folder(parent: Path) -> Iterator[ScratchFolder]:
    """Give a place for files in `parent`; they are gone at the end, whatever happens.

    An EngramError on the way says their names, not their paths.
    """
    with ExitStack() as stack:
        folder = ScratchFolder(parent, stack)
        try:
            yield folder
        except EngramError as error:
            error.message = folder.readable(error.message)
            raise


def _opens(path: Path) -> bool:
    with suppress(OSError), path.open("r+b"):
        return True
    return False


def is_nameless(path: Path) -> bool:
    """Return whether a path leads to a file that has no name."""
    try:
        return path.stat().st_nlink == 0
    except OSError:
        return False


@contextmanager
def replaced_at_end(path: Path) -> Iterator[Path]:
    """Give where to write what is called `path` when the block ends without an error.

    Whoever reads `path` sees the old file or the new one. A file that has no name is
    written itself. Raises OSError.
    """
    if is_nameless(path):
        yield path
        return
    part = path.with_name(path.name + ".part")
    try:
        with _unnamed(path.parent) as descriptor:
            yield part if descriptor is None else _OWN / str(descriptor)
            if descriptor is not None:
                part.unlink(missing_ok=True)
                _link(descriptor, part)
        os.replace(part, path)  # between two system calls, a kill would leave `part`
    finally:
        with suppress(OSError):  # what failed before is the error to tell
            part.unlink(missing_ok=True)


@contextmanager
def _unnamed(folder: Path) -> Iterator[int | None]:
    """Give a descriptor of a file that has no name yet; None where there is no such."""
    try:
        descriptor = os.open(folder, os.O_RDWR | os.O_TMPFILE, 0o666)
    except (AttributeError, OSError):  # no Linux, or not in this file system
        yield None
        return
    try:
        yield descriptor if _HAS_PROC else None
    finally:
        os.close(descriptor)


def _link(descriptor: int, path: Path) -> None:
    """Give a file a name."""
    own = os.open(_OWN, os.O_RDONLY)
    try:  # with a folder's descriptor Python follows the link (AT_SYMLINK_FOLLOW)
        os.link(str(descriptor), path, src_dir_fd=own)
    finally:
        os.close(own)
