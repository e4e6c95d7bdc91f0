"""A sound GGUF taken apart, to be put together with a lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from tests import fakes
from tests.fakes import ARRAY, Typed


@dataclass(frozen=True, slots=True)
class Parts:
    """What a file has: typed keys; shape, type and offset of tensors; their bytes."""

    keys: dict[str, Typed]
    tensors: dict[str, tuple[tuple[int, ...], int, int]]
    data: bytes

    @classmethod
    def read(cls, path: Path) -> Parts:
        """Take a file apart."""
        reader = gguf.GGUFReader(path)
        fields = {
            name: entry
            for name, entry in reader.fields.items()
            if not name.startswith("GGUF.")
        }
        begin = reader.data_offset
        return cls(
            keys={name: _typed(entry) for name, entry in fields.items()},
            tensors={
                tensor.name: (
                    tuple(int(length) for length in tensor.shape),
                    int(tensor.tensor_type),
                    int(tensor.data_offset - begin),
                )
                for tensor in reader.tensors
            },
            data=path.read_bytes()[begin:],
        )

    def raw(
        self,
        keys: dict[str, Typed | None] | None = None,
        tensors: dict[str, tuple[tuple[int, ...], int, int] | None] | None = None,
    ) -> bytes:
        """Return the file with some parts in place of its own; None leaves one out."""
        all_keys = self.keys | (keys or {})
        all_tensors = self.tensors | (tensors or {})
        return fakes.gguf(
            [fakes.key(name, *typed) for name, typed in all_keys.items() if typed],
            [
                fakes.tensor(name, *where)
                for name, where in all_tensors.items()
                if where is not None
            ],
            self.data,
        )

    @property
    def n_header_bytes(self) -> int:
        """Where the bytes of tensors begin."""
        return len(self.raw()) - len(self.data)


def _typed(entry: Any) -> Typed:
    kind, value = int(entry.types[0]), entry.contents()
    return (kind, (int(entry.types[1]), value)) if kind == ARRAY else (kind, value)
