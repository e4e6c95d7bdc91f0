"""What is told of a model and its memory once they are loaded."""

from __future__ import annotations

from engram_local.catalog import find_memories
from engram_local.engine import Engine
from engram_local.model_files import shown_name
from engram_local.opening import Opening
from engram_local.settings import default_threads
from engram_local.worker.protocol import MemoryChanged, MemoryInfo, ModelInfo


def describe_model(opening: Opening) -> ModelInfo:
    """Return what is known of an engine that was opened now."""
    engine = opening.engine
    spec = engine.spec
    return ModelInfo(
        name=shown_name(engine.path, spec.name),
        path=str(engine.path),
        architecture=spec.architecture,
        file_bytes=spec.file_bytes,
        n_layers=spec.fingerprint.block_count,
        n_vocab=engine.n_vocab,
        n_ctx=engine.n_ctx,
        n_ctx_train=spec.context_length,
        n_threads=engine.settings.n_threads or default_threads(),
        memory=describe_memory(engine),
        memory_on=engine.memory is not None,
        can_leave_out_memory=engine.can_leave_out_memory,
        memories=_memories(engine),
        parts=opening.parts,
        notes=opening.notes,
    )


def memory_changed(engine: Engine) -> MemoryChanged:
    """Return which memory is loaded now, and whether it is used."""
    return MemoryChanged(
        memory=describe_memory(engine), memory_on=engine.memory is not None
    )


def describe_memory(engine: Engine) -> MemoryInfo | None:
    """Return what is known of the memory that is loaded, used or not."""
    memory = engine.loaded_memory
    if memory is None:
        return None
    spec, path = memory.module.spec, memory.module.path
    return MemoryInfo(
        name=path.stem,
        path=str(path),
        kind=memory.kind,
        tier=memory.tier,
        layer_ids=tuple(memory.layer_ids),
        table_bytes=spec.table_bytes,
        n_rows=sum(layer.table.n_rows for layer in spec.layers),
        row_bytes=spec.layers[0].table.row_bytes,
        rows_per_token=spec.rows_per_token,
    )


def _memories(engine: Engine) -> tuple[str, ...]:
    """A table that is a part of the model leaves no choice."""
    memory = engine.loaded_memory
    if memory is not None and memory.kind == "native":
        return ()
    found = find_memories(engine.path, engine.spec.fingerprint)
    return tuple(str(path) for path in found)
