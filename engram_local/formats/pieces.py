"""A GGUF on its way to the drive: keys, then tensors in chunks, its name last."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from numpy.typing import NDArray

from engram_local.errors import FileError, FormatError
from engram_local.formats.header import DEFAULT_ALIGNMENT
from engram_local.scratch_files import is_nameless, replaced_at_end
from engram_local.spec import RowType
from engram_local.units import format_bytes, format_count

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_HINT = "choose another place, or free some space"


def type_id(row_type: RowType) -> int:
    """Return ggml's number of a type that has its name."""
    return int(GGMLQuantizationType[row_type.name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One tensor to be written."""

    name: str
    shape: tuple[int, ...]
    """C order, in elements of the type."""

    type_id: int
    """ggml's number of the element type."""

    n_bytes: int
    chunks: Iterable[NDArray[np.uint8]]
    """Its bytes, or the leading `stored_bytes` of them."""

    stored_bytes: int
    """Less than `n_bytes` where the rest is a hole: it reads as zeros and takes no
    space where the file system knows holes."""


def write_gguf(
    path: Path,
    writer: GGUFWriter,
    pieces: Sequence[Piece],
    progress: Progress | None = None,
) -> None:
    """Write the keys of `writer` and all pieces; a file called `path` is replaced last.

    Raises FileError if there is too little space or the file cannot be written. All of
    it is on the drive at the end: after a power failure there is the old file or the
    new one, and the drive is idle for whoever measures.
    """
    try:
        if path.is_dir():  # else it is noticed when all is written
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _check_space(path, sum(piece.stored_bytes for piece in pieces))
        with replaced_at_end(path) as written:
            _write(written, writer, pieces, progress)
    except OSError as error:
        raise FileError(
            f"{path} cannot be written: {error.strerror or error}", hint=_HINT
        ) from error


def _check_space(path: Path, needed_bytes: int) -> None:
    place = path if is_nameless(path) else path.parent
    free_bytes = shutil.disk_usage(place).free
    if free_bytes < needed_bytes:
        raise FileError(
            f"{path} needs {format_bytes(needed_bytes)}, its drive has "
            f"{format_bytes(free_bytes)} free",
            hint=_HINT,
        )


def _write(
    path: Path,
    writer: GGUFWriter,
    pieces: Sequence[Piece],
    progress: Progress | None,
) -> None:
    """gguf-py writes the header; the tensors follow in chunks, as it would pad them."""
    try:
        for piece in pieces:
            writer.add_tensor_info(
                piece.name,
                piece.shape,
                np.dtype(np.float32),  # else the shape would be taken for bytes
                piece.n_bytes,
                GGMLQuantizationType(piece.type_id),
            )
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        file = writer.fout[0]
        _write_pieces(file, pieces, progress)
        file.flush()
        os.fsync(file.fileno())
    finally:
        writer.close()


def _write_pieces(
    file: BinaryIO, pieces: Sequence[Piece], progress: Progress | None
) -> None:
    total_bytes = sum(piece.stored_bytes for piece in pieces)
    done_bytes = 0
    for piece in pieces:
        start = _seek_aligned(file)
        for chunk in piece.chunks:
            file.write(chunk.data)
            done_bytes += chunk.nbytes
            if progress is not None:
                progress(done_bytes, total_bytes)
        _check_length(piece, file.tell() - start)
        file.seek(start + piece.n_bytes)
    file.truncate(_seek_aligned(file))


def _seek_aligned(file: BinaryIO) -> int:
    """Go on to the next aligned position; what is passed over reads as zeros."""
    return file.seek(-file.tell() % DEFAULT_ALIGNMENT, os.SEEK_CUR)


def _check_length(piece: Piece, written_bytes: int) -> None:
    """A piece that is too short would read as rows of zeros."""
    if written_bytes != piece.stored_bytes:
        raise FormatError(
            f"{piece.name} should be {format_count(piece.stored_bytes)} bytes, its "
            f"source gave {format_count(written_bytes)}"
        )
