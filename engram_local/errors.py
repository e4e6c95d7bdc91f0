"""The errors this package raises on purpose.

* EngramError
  - UsageError         a flag or a setting that cannot be used            exit 2
  - FileError          a file is missing, unreadable or of the wrong kind  exit 3
    - FormatError      its header or its tensors contradict themselves
    - MismatchError    a memory that was made for another backbone
    - UnsupportedError a sound file that this version cannot run
  - FitError           does not fit: memory, or a prompt past the context  exit 4
  - TableError         rows cannot be read, or a row id is out of range    exit 1
    - DirectReadError  the file system cannot read past the page cache
  - LostFileError      a file could not be read while it was in use        exit 1
  - RowsDifferError    llama.cpp gathered other rows than we read          exit 1
  - BackboneError      llama.cpp failed while computing                    exit 1
  - SessionError       conversations cannot be kept or found again         exit 1
  - BenchError         a measurement could not be taken                    exit 1
  - Interrupted        Ctrl-C ended a computation                        exit 130
  - WorkerLostError    the engine's process has ended                     exit 1
  - ProtocolError      two processes do not understand each other         exit 1

`code` is stable and meant to be searched for. This module imports nothing of ours.
"""

from __future__ import annotations


class EngramError(Exception):
    """What was found and what was needed; `hint` says what to do about it."""

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(EngramError):
    """A flag, a setting or a combination of them that cannot be used."""

    code = "usage"
    exit_code = 2


class FileError(EngramError):
    """A file is missing, cannot be read, or is not what it should be."""

    code = "bad-file"
    exit_code = 3


class FormatError(FileError):
    """A header or a tensor contradicts itself or the size of its file."""

    code = "bad-format"


class MismatchError(FileError):
    """The memory was made for another backbone."""

    code = "wrong-backbone"


class UnsupportedError(FileError):
    """The file is sound, but this version cannot run it."""

    code = "unsupported"


class FitError(EngramError):
    """Something does not fit: a prompt into the context, a model into memory."""

    code = "does-not-fit"
    exit_code = 4


class TableError(EngramError):
    """Rows of the table cannot be read."""

    code = "bad-table"


class DirectReadError(TableError):
    """This file system or this system cannot read past the page cache."""

    code = "no-direct-reads"


class LostFileError(EngramError):
    """A file became shorter, or its drive failed, while it was in use.

    Where a mapped page is lost, memory/libc.py says the same and ends the process.
    """

    code = "file-lost"


class RowsDifferError(EngramError):
    """llama.cpp gathered other rows of a model's own table than we read."""

    code = "rows-differ"


class BackboneError(EngramError):
    """llama.cpp reported a failure while it computed."""

    code = "backbone-failed"


class SessionError(EngramError):
    """Conversations cannot be read from their file, or written to it."""

    code = "session-failed"


class BenchError(EngramError):
    """A measurement could not be taken."""

    code = "bench-failed"


class Interrupted(EngramError):
    """Ctrl-C ended a computation; what was computed before it stays."""

    code = "interrupted"
    exit_code = 130


class WorkerLostError(EngramError):
    """The engine's process has ended, or could not be started."""

    code = "engine-lost"

    def __init__(
        self, message: str, *, log: tuple[str, ...] = (), hint: str | None = None
    ) -> None:
        """log: the last lines that it wrote on stderr, printable, oldest first."""
        super().__init__(message, hint=hint)
        self.log = log


class ProtocolError(EngramError):
    """A message between two of our processes is not understood."""

    code = "bad-message"
