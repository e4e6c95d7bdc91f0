"""A file on a drive that fails: reads of a range return an I/O error when told to.

Serves one file through FUSE, spoken to the kernel directly, in a process of its own:
`python -m tests.faulty_drive FILE FOLDER BEGIN END`. The file appears in FOLDER under
its name; its bytes BEGIN .. END cannot be read as soon as FILE.fails exists. Needs
/dev/fuse and the right to mount; see linux/fuse.h for the messages.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EIO, ENOENT, ENOSYS
from pathlib import Path

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH = (
    1,
    2,
    3,
    14,
    15,
    17,
    18,
    25,
)
INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 26, 27, 28, 29, 36, 42
NO_ANSWER = {FORGET, INTERRUPT, BATCH_FORGET}
EMPTY_ANSWER = {RELEASE, RELEASEDIR, FLUSH}

ROOT, FILE = 1, 2
FOREVER_S = 10**6
MNT_DETACH = 2
MAX_MESSAGE = 1 << 21


class FaultyDrive:
    """The file as a mounted folder shows it."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = folder / path.name
        self._fails = path.with_name(path.name + ".fails")

    def fail(self) -> None:
        """From now on the range cannot be read, but for what is in memory."""
        self._fails.touch()


@contextmanager
def faulty_drive(path: Path, begin: int, end: int) -> Iterator[FaultyDrive]:
    """Show a file on such a drive; raises OSError where that cannot be done."""
    folder = path.with_name(path.name + ".mounted")
    folder.mkdir()
    command = [sys.executable, "-m", "tests.faulty_drive", path, folder]
    process = subprocess.Popen(
        [*command, str(begin), str(end)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        answer = process.stdout.readline().strip()
        if answer != "ready":
            raise OSError(answer or "the drive did not start")
        yield FaultyDrive(path, folder)
    finally:
        with suppress(OSError):
            _check(_libc().umount2(os.fsencode(folder), MNT_DETACH))
        process.kill()
        process.communicate()


def main() -> None:
    """Mount and serve until the folder is unmounted."""
    path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    begin, end = int(sys.argv[3]), int(sys.argv[4])
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id=0"
        _check(
            _libc().mount(b"faulty", os.fsencode(folder), b"fuse", 0, options.encode())
        )
    except OSError as error:
        print(error, flush=True)
        return
    print("ready", flush=True)
    server = _Server(path, begin, end)
    with suppress(OSError):  # ENODEV when it is unmounted
        while True:
            message = os.read(device, MAX_MESSAGE)
            answer = server.answer(message)
            if answer is not None:
                os.write(device, answer)


class _Server:
    def __init__(self, path: Path, begin: int, end: int) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDONLY)
        self._fails = path.with_name(path.name + ".fails")
        self._range = (begin, end)

    def answer(self, message: bytes) -> bytes | None:
        """Return the reply to a request, None if there is none."""
        _, code, number, node = struct.unpack_from("<IIQQ", message)
        if code in NO_ANSWER:
            return None
        try:
            payload = self._payload(code, node, message[40:])
            return struct.pack("<IiQ", 16 + len(payload), 0, number) + payload
        except OSError as error:
            return struct.pack("<IiQ", 16, -(error.errno or EIO), number)

    def _payload(self, code: int, node: int, body: bytes) -> bytes:
        if code == INIT:
            # No reading ahead: a page is read when it is asked for.
            limits = (16, 12, 1 << 20, 1, *[0] * 4)
            return struct.pack("<4I2H2I2H2I24x", 7, 31, 0, 0, *limits)
        if code == LOOKUP:
            if body.rstrip(b"\0") != os.fsencode(self._path.name):
                raise OSError(ENOENT, "no such file")
            times = struct.pack("<QQQQII", FILE, 0, FOREVER_S, FOREVER_S, 0, 0)
            return times + self._attributes(FILE)
        if code == GETATTR:
            return struct.pack("<QII", FOREVER_S, 0, 0) + self._attributes(node)
        if code in (OPEN, OPENDIR):
            return struct.pack("<QII", 1, 0, 0)
        if code == READ:
            return self._read(*struct.unpack_from("<8xQI", body))
        if code == READDIR:
            return self._names(*struct.unpack_from("<8xQ", body))
        if code == STATFS:
            return struct.pack("<5Q3I28x", 0, 0, 0, 1, 0, 4096, 255, 4096)
        if code in EMPTY_ANSWER:
            return b""
        raise OSError(ENOSYS, "not served")

    def _attributes(self, node: int) -> bytes:
        found = os.fstat(self._file)
        mode = 0o040755 if node == ROOT else 0o100644
        size = 0 if node == ROOT else found.st_size
        numbers = (node, size, -(-size // 512), 0, 0, 0)
        small = (0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)
        return struct.pack("<6Q10I", *numbers, *small)

    def _names(self, offset: int) -> bytes:
        if offset > 0:  # there is one name
            return b""
        name = os.fsencode(self._path.name)
        head = struct.pack("<QQII", FILE, 1, len(name), 8)
        return head + name + bytes(-len(name) % 8)

    def _read(self, offset: int, size: int) -> bytes:
        begin, end = self._range
        if offset < end and offset + size > begin and self._fails.exists():
            raise OSError(EIO, "the drive fails")
        return os.pread(self._file, size, offset)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
