"""Files -> a backbone and a memory that are ready to work together.

What can be refused without loading anything is refused first.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engram_local import catalog
from engram_local.attachment import (
    HAS_COMPILED_PATH,
    Attachment,
    MemoryChoice,
    read_module,
)
from engram_local.errors import UnsupportedError, UsageError
from engram_local.events import Progress
from engram_local.formats import deepseek41
from engram_local.formats.backbone import read_backbone
from engram_local.formats.header import Header
from engram_local.formats.native import read_native
from engram_local.formats.split import read_model_header
from engram_local.llama.hook import PythonFunction
from engram_local.llama.runtime import Backbone
from engram_local.memory.libc import install_bus_error_handler
from engram_local.memory.module import NativeModule
from engram_local.memory.native import NativeMemory
from engram_local.memory.read_ahead import open_read_ahead
from engram_local.memory.verify import RowVerifier
from engram_local.residency import Residency
from engram_local.settings import Settings
from engram_local.spec import BackboneSpec

if TYPE_CHECKING:
    from engram_local.attachment import Attached

    Memory = Attached | NativeMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What an engine works with."""

    spec: BackboneSpec
    backbone: Backbone
    memory: Memory | None
    attachment: Attachment | None = None
    """Of the memory; None where it is a part of the model."""

    notes: tuple[str, ...] = ()
    """Sentences for the user: what is not as one may expect."""


def load(
    stack: ExitStack,
    model: Path | None,
    memory: MemoryChoice,
    settings: Settings,
    progress: Progress | None,
    *,
    swappable: bool = False,
) -> Loaded:
    """Load a backbone and its memory; closing `stack` frees them in the right order.

    model: of a split one, any part. swappable: another memory may be attached later.
    Raises EngramError.
    """
    header = read_model_header(model or catalog.default_model())
    path = header.path  # of a split model, the part that llama.cpp begins with
    spec = _read_spec(header)
    native = read_native(header)
    _check_choice(path, native, memory, settings)
    install_bus_error_handler()
    if native is not None:
        return _load_native(stack, header, spec, native, memory, settings, progress)
    module = read_module(path, spec, memory)
    is_hooked = swappable or module is not None
    width = spec.fingerprint.embedding_length if is_hooked else None
    backbone = Backbone(path, settings, progress=progress, hook_width=width)
    stack.callback(backbone.close)
    attachment = Attachment(backbone, settings)
    stack.callback(attachment.close)
    attachment.exchange(module, settings.memory_tier, progress)
    return Loaded(
        spec=spec, backbone=backbone, memory=attachment.memory, attachment=attachment
    )


def _load_native(
    stack: ExitStack,
    header: Header,
    spec: BackboneSpec,
    module: NativeModule,
    memory: MemoryChoice,
    settings: Settings,
    progress: Progress | None,
) -> Loaded:
    residency = Residency(header, settings)
    verifier = None
    if settings.verify_rows:
        verifier = RowVerifier(module)
        stack.callback(verifier.close)
    backbone = Backbone(
        header.path,
        settings,
        progress=progress,
        native=residency.load,
        hook_width=None if verifier is None else verifier.width,
    )
    stack.callback(backbone.close)
    residency.confirm(module.spec.table_bytes)
    residency.release_backbone()
    native = None
    if memory is not None:  # else llama.cpp alone
        tier = residency.load.tier
        native = _accompany(stack, backbone, module, tier, settings, verifier)
    notes = tuple(residency.notes)
    return Loaded(spec=spec, backbone=backbone, memory=native, notes=notes)


def _accompany(
    stack: ExitStack,
    backbone: Backbone,
    module: NativeModule,
    tier: Literal["mmap", "ram"],
    settings: Settings,
    verifier: RowVerifier | None,
) -> NativeMemory:
    """Put beside llama.cpp what reads rows ahead of it and what compares them."""
    if verifier is not None:
        function = PythonFunction(verifier.compare, verifier.width)
        backbone.watch_node(module.node, function)
    ahead = None
    # Not before the backbone has loaded: that would push out what was read ahead.
    if tier == "mmap" and settings.prefetch and HAS_COMPILED_PATH:
        ahead = open_read_ahead(stack, module, max_batch=backbone.n_batch)
    memory = NativeMemory(module, tier, ahead=ahead, verifier=verifier)
    stack.callback(memory.close)
    return memory


def require_optional_memory(model: Path | None) -> None:
    """Raise UsageError if the model has a table of its own, which always counts."""
    header = read_model_header(model or catalog.default_model())
    if read_native(header) is not None:
        raise UsageError(
            f"the table of {header.path} is a part of the model, and always used",
            hint="--no-prefetch leaves its rows to llama.cpp",
        )


def _check_choice(
    model: Path, native: NativeModule | None, memory: MemoryChoice, settings: Settings
) -> None:
    """Refuse what contradicts the kind of model."""
    if settings.verify_rows and (native is None or memory is None):
        raise _nothing_to_verify(model, native)
    if native is not None:
        _check_native_choice(model, memory, settings)
    elif settings.mlock:
        raise UsageError(
            f"a model's own table can be locked in RAM, and {model} has none",
            hint="leave --mlock out",
        )


def _check_native_choice(model: Path, memory: MemoryChoice, settings: Settings) -> None:
    if isinstance(memory, Path):
        raise UsageError(
            f"{model} has a table of its own, no other memory can be added",
            hint="leave --memory out",
        )
    if settings.reference:
        raise UsageError(
            f"llama.cpp computes with the table of {model}, there is no reference",
            hint="leave --reference out; --verify-rows compares its rows with ours",
        )
    if settings.memory_tier == "direct":
        raise UsageError(
            f"llama.cpp reads the table of {model}, and not past the page cache",
            hint="--memory-tier mmap leaves it in its file, ram reads all of it",
        )


def _nothing_to_verify(model: Path, native: NativeModule | None) -> UsageError:
    what = "has none" if native is None else "was opened to run without ours"
    return UsageError(
        f"the rows of a model's own table can be verified, and {model} {what}",
        hint="leave --verify-rows out",
    )


def _read_spec(header: Header) -> BackboneSpec:
    if deepseek41.matches(header):
        raise UnsupportedError(
            f"{header.path} cannot be run: DeepSeek-V4.1 (deepseek41) is not in this "
            "version of llama.cpp",
            hint="`engram-local show` tells what is in the file",
        )
    return read_backbone(header)
