"""The place of an attached memory beside a backbone, for one after the other."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engram_local import catalog
from engram_local.errors import UsageError
from engram_local.events import Progress
from engram_local.formats import engram_gguf
from engram_local.formats.header import read_header
from engram_local.llama.hook import PythonFunction
from engram_local.llama.runtime import Backbone
from engram_local.memory.module import MemoryModule
from engram_local.memory.reference_memory import ReferenceMemory
from engram_local.settings import Settings
from engram_local.spec import BackboneSpec

if TYPE_CHECKING:
    from engram_local.memory.attached import AttachedMemory

    Attached = AttachedMemory | ReferenceMemory

HAS_COMPILED_PATH = sys.platform.startswith("linux")
"""Elsewhere there are no unnamed semaphores, and the reference runs."""

MemoryChoice = Path | Literal["auto"] | None
"""A memory file; the one that fits, if there is one; none."""


class Attachment:
    """Holds the memory in use. Use from the thread that decodes; close it before the
    backbone.
    """

    def __init__(self, backbone: Backbone, settings: Settings) -> None:
        self._backbone = backbone
        self._settings = settings
        self.memory: Attached | None = None

    def exchange(
        self, module: MemoryModule | None, tier: str, progress: Progress | None = None
    ) -> None:
        """Load a memory and close the one before; begins a new sequence.

        None: there is none any more. While it loads there are both, in the tier ram
        with their tables. After an error the one before is still there.
        """
        memory = None
        if module is not None:
            memory = self._open(module, tier, progress)
        try:
            self._hook(memory)
        except BaseException:
            if memory is not None:
                memory.close()
            raise
        self.close()
        self.memory = memory

    def close(self) -> None:
        """Close the memory. Calling it twice is fine."""
        if self.memory is not None:
            self.memory.close()

    def _open(
        self, module: MemoryModule, tier: str, progress: Progress | None
    ) -> Attached:
        settings, backbone = replace(self._settings, memory_tier=tier), self._backbone
        if backbone.hook is None:
            raise UsageError(
                "this engine was opened without a memory",
                hint="open it with one, or to have one later (swappable)",
            )
        tier = "mmap" if settings.memory_tier == "auto" else settings.memory_tier

        def on_progress(done: int, total: int) -> None:
            if progress is not None:
                progress("reading the table", done / total)

        if settings.reference or not HAS_COMPILED_PATH:
            return ReferenceMemory(module, tier, progress=on_progress)
        from engram_local.memory.attached import AttachedMemory

        return AttachedMemory(
            module,
            tier,
            max_tokens=backbone.n_ctx,
            max_batch=backbone.n_batch,
            prefetch=settings.prefetch,
            weight_type=settings.memory_weights,
            progress=on_progress,
        )

    def _hook(self, memory: Attached | None) -> None:
        if memory is None:
            if self._backbone.hook is not None:
                self._backbone.hook.remove()
            return
        function = (
            PythonFunction(memory.add_delta, self._backbone.n_embd)
            if isinstance(memory, ReferenceMemory)
            else memory
        )
        self._backbone.hook_layers(memory.layer_ids, function)


def read_module(
    model: Path, spec: BackboneSpec, choice: MemoryChoice
) -> MemoryModule | None:
    """Return the memory that was chosen, without its rows.

    Raises FileError for a file that is no memory, MismatchError for one of another
    backbone.
    """
    fingerprint = spec.fingerprint
    path = catalog.find_memory(model, fingerprint) if choice == "auto" else choice
    if path is None:
        return None
    module = engram_gguf.read_memory(read_header(path))
    engram_gguf.require_backbone(module, fingerprint)
    return module
