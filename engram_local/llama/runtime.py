"""A backbone in llama.cpp: tokenize, decode, logits, state. One sequence.

Return codes become our errors here, and nowhere else.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from engram_local.errors import (
    BackboneError,
    EngramError,
    FileError,
    FitError,
    Interrupted,
    LostFileError,
    UnsupportedError,
)
from engram_local.events import Progress
from engram_local.llama import interrupt, logs
from engram_local.llama.hook import (
    HiddenHook,
    HookFunction,
    PythonFunction,
    node_names,
)
from engram_local.llama.load_watch import watched
from engram_local.llama.overrides import expert_patterns, stay_in_ram
from engram_local.llama.placement import NativeLoad, load_modes
from engram_local.settings import Settings, default_threads

_ALL_LAYERS = -1
_CONTEXT_FULL, _ABORTED = 1, 2  # results of llama_decode
_LOST = ("read error", "unexpectedly reached end of file")  # llama.cpp's words
_FLASH_ATTENTION = {
    "auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
_CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}

_PARTIAL = llama_cpp.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
_NOT_COMPARED = {"deepseek4", "dots3note", "glm5-next"}
"""Architectures with a kind of cache of their own (llama_kv_cache_dsv4 and _dsa_iswa,
pooled indexer keys): a restored state of theirs was not compared with a fresh one."""


class Backbone:
    """A loaded model and one context. Not safe from several threads; close it."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        *,
        progress: Progress | None = None,
        native: NativeLoad | None = None,
        hook_width: int | None = None,
    ) -> None:
        """native: of a model with a table of its own; None = llama.cpp's defaults.
        hook_width: floats of one token in the nodes that will be looked at; None =
        no node can be.
        """
        logs.capture()
        llama_cpp.llama_backend_init()
        self.path = path
        with ExitStack() as stack:
            self._model = _load_model(path, settings, native, progress)
            stack.callback(llama_cpp.llama_model_free, self._model)
            self._vocab = llama_cpp.llama_model_get_vocab(self._model)
            self.n_embd = int(llama_cpp.llama_model_n_embd(self._model))
            self.n_vocab = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
            self.n_ctx_train = int(llama_cpp.llama_model_n_ctx_train(self._model))
            self.hook: HiddenHook | None = None
            self._open_context(stack, settings, hook_width)
            self._stack = stack.pop_all()

    def _open_context(
        self, stack: ExitStack, settings: Settings, hook_width: int | None
    ) -> None:
        params = _context_params(settings, self.n_ctx_train)
        if hook_width:  # asking about every node costs time, so only where it is needed
            n_layers = int(llama_cpp.llama_model_n_layer(self._model))
            self.hook = HiddenHook(
                width=hook_width,
                n_layers=n_layers,
                max_tokens=min(params.n_ubatch, params.n_batch),
            )
            params.cb_eval = self.hook.function
            params.cb_eval_user_data = self.hook.state
        self._abort = llama_cpp.ggml_abort_callback(interrupt.abort_callback())
        params.abort_callback = self._abort
        self._context: Any = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise FitError(
                f"llama.cpp cannot make a context of {params.n_ctx} tokens: "
                f"{logs.last_error() or 'no reason given'}",
                hint="try a shorter context with -c, or fewer layers with -ngl",
            )
        stack.callback(llama_cpp.llama_free, self._context)
        self.n_ctx = int(llama_cpp.llama_n_ctx(self._context))
        self.n_batch = int(llama_cpp.llama_n_batch(self._context))
        self._batch = llama_cpp.llama_batch_init(self.n_batch, 0, 1)
        stack.callback(llama_cpp.llama_batch_free, self._batch)

    def hook_layers(self, layer_ids: Sequence[int], function: HookFunction) -> None:
        """Call `function` with the input of each decoder layer, in `line` 0, 1, ...

        Raises UnsupportedError if the graph of this architecture has no such node; it
        is looked at in a dry decode of one token, which begins a new sequence. What was
        hooked before still is, then.
        """
        assert self.hook is not None
        known = self._known_nodes(
            [name for layer_id in layer_ids for name in node_names(layer_id)]
        )
        names = []
        for layer_id in layer_ids:
            candidates = [name for name in node_names(layer_id) if name in known]
            if not candidates:
                raise UnsupportedError(
                    f"{self.path}: the graph of this architecture has no node "
                    f"{node_names(layer_id)[-1].decode()}, so no memory can be added "
                    f"to layer {layer_id}",
                    hint="run it without a memory: --no-memory",
                )
            names.append(candidates[0])
        self.hook.install(names, function)

    def watch_node(self, name: str, function: HookFunction) -> None:
        """Call `function` with what a node of the graph holds; it cannot change it.

        A graph without such a node calls nothing.
        """
        assert self.hook is not None
        self.hook.install([name.encode()], function, only_reads=True)

    def _known_nodes(self, names: Sequence[bytes]) -> set[bytes]:
        """Return those of `names` that this architecture's graph has."""
        assert self.hook is not None
        known: set[bytes] = set()
        note = PythonFunction(lambda line, _: known.add(names[line]), self.n_embd)
        with self.hook.replaced(names, note):
            self.reset()
            self.decode([0], 0)
            self.reset()
        return known

    # --- text ---------------------------------------------------------------------

    def tokenize(
        self, text: str, *, parse_special: bool, add_special: bool = True
    ) -> list[int]:
        """Return token ids; `add_special` adds BOS where the model's file asks for it.

        parse_special: whether `<|im_end|>` in the text is a token or eleven characters.
        """
        raw = text.encode("utf-8", "surrogateescape")
        n_most = len(raw) + 16
        ids = (llama_cpp.llama_token * n_most)()
        n_tokens = llama_cpp.llama_tokenize(
            self._vocab, raw, len(raw), ids, n_most, add_special, parse_special
        )
        if n_tokens < 0:
            raise BackboneError(f"the tokenizer failed on {len(raw)} bytes of text")
        return list(ids[:n_tokens])

    def piece(self, token_id: int, *, special: bool = False) -> bytes:
        """Return the bytes of a token, which need not be whole characters."""
        buffer = ctypes.create_string_buffer(64)
        n_bytes = llama_cpp.llama_token_to_piece(
            self._vocab, token_id, buffer, len(buffer), 0, special
        )
        if n_bytes < 0:
            buffer = ctypes.create_string_buffer(-n_bytes)
            n_bytes = llama_cpp.llama_token_to_piece(
                self._vocab, token_id, buffer, len(buffer), 0, special
            )
        return buffer.raw[: max(n_bytes, 0)]

    def is_end(self, token_id: int) -> bool:
        """Return whether this token ends an answer."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocab, token_id))

    @property
    def bos(self) -> str:
        """The text of the begin-of-sequence token."""
        return self._special(llama_cpp.llama_vocab_bos(self._vocab))

    @property
    def eos(self) -> str:
        """The text of the end-of-sequence token."""
        return self._special(llama_cpp.llama_vocab_eos(self._vocab))

    def _special(self, token_id: int) -> str:
        if token_id < 0:
            return ""
        return self.piece(token_id, special=True).decode("utf-8", "replace")

    @property
    def chat_template(self) -> str | None:
        """The Jinja template in the file, if there is one."""
        template = llama_cpp.llama_model_chat_template(self._model, None)
        return template.decode("utf-8", "replace") if template else None

    # --- computing ----------------------------------------------------------------

    def decode(
        self, token_ids: Sequence[int], position: int, *, all_logits: bool = False
    ) -> None:
        """Evaluate the next tokens of the sequence, at most `n_batch` of them.

        Logits are kept for the last token, or for all. Raises what the hook raised,
        Interrupted after Ctrl-C, FitError if the context is full, BackboneError
        otherwise; after an error the state is undefined until `reset`.
        """
        n_tokens = len(token_ids)
        batch = self._batch
        batch.n_tokens = n_tokens
        for i, token_id in enumerate(token_ids):
            batch.token[i] = token_id
            batch.pos[i] = position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = all_logits or i == n_tokens - 1
        with interrupt.deferred():
            code = llama_cpp.llama_decode(self._context, batch)
            llama_cpp.llama_synchronize(self._context)
        if self.hook is not None:
            self.hook.raise_error()
        if code != 0:
            raise _decode_error(code)

    def logits(self, index: int = -1) -> NDArray[np.float32]:
        """Return a view of one position's logits, (n_vocab,), until the next decode."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, (self.n_vocab,))

    def sample(self, sampler: Any) -> int:
        """Return the next token id."""
        return int(sampler.sample(self._context))

    def trim(self, n_tokens: int) -> bool:
        """Keep the first `n_tokens`; False if this model's state cannot go back.

        Layers with a sliding window have forgotten what lies before it.
        """
        memory = llama_cpp.llama_get_memory(self._context)
        if self._has_forgotten(memory, n_tokens):
            return False
        return bool(llama_cpp.llama_memory_seq_rm(memory, 0, n_tokens, -1))

    def _has_forgotten(self, memory: Any, n_tokens: int) -> bool:
        if llama_cpp.llama_memory_seq_pos_max(memory, 0) < n_tokens:
            return False  # nothing goes; a recurrent state's oldest is its last token
        oldest = int(llama_cpp.llama_memory_seq_pos_min(memory, 0))
        window = int(llama_cpp.llama_model_n_swa(self._model))
        return window > 0 and oldest > max(0, n_tokens - window)

    @property
    def needs_saved_states(self) -> bool:
        """Whether `trim` may refuse, and `restore` is known to be exact.

        Compared with fresh evaluations in each of the other kinds of memory (qwen4exp,
        gemma4, lfm2 with and without a window, mamba): recurrent states give the same
        bits; a window's cells come back in another order, which changes the rounding.
        """
        window = int(llama_cpp.llama_model_n_swa(self._model))
        forgets = (
            llama_cpp.llama_model_is_recurrent(self._model)
            or llama_cpp.llama_model_is_hybrid(self._model)
            or 0 < window < self.n_ctx
        )
        return forgets and self._architecture not in _NOT_COMPARED

    @property
    def _architecture(self) -> str:
        buffer = ctypes.create_string_buffer(64)
        key = b"general.architecture"
        llama_cpp.llama_model_meta_val_str(self._model, key, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @property
    def state_bytes(self) -> int:
        """Bytes that `save` would return now."""
        return int(llama_cpp.llama_state_seq_get_size_ext(self._context, 0, _PARTIAL))

    def save(self) -> NDArray[np.uint8]:
        """Return what `trim` cannot bring back: recurrent states and windows.

        Shape (state_bytes,). Raises BackboneError if llama.cpp writes another size.
        """
        data = np.empty(self.state_bytes, np.uint8)
        n_written = llama_cpp.llama_state_seq_get_data_ext(
            self._context, _bytes_of(data), data.nbytes, 0, _PARTIAL
        )
        if n_written != data.nbytes:
            raise BackboneError(
                f"llama.cpp wrote {n_written:,} bytes of a state of {data.nbytes:,}"
            )
        return data

    def restore(self, data: NDArray[np.uint8], n_tokens: int) -> bool:
        """Go back to the first `n_tokens` with the state that they left in `save`.

        The sequence must still begin with them. False if llama.cpp refuses; then only
        `reset` helps.
        """
        n_read = llama_cpp.llama_state_seq_set_data_ext(
            self._context, _bytes_of(data), data.nbytes, 0, _PARTIAL
        )
        return n_read == data.nbytes and self.trim(n_tokens)

    def reset(self) -> None:
        """Forget the sequence, and an error in it that nobody has heard of."""
        memory = llama_cpp.llama_get_memory(self._context)
        llama_cpp.llama_memory_clear(memory, True)
        if self.hook is not None:
            self.hook.forget_error()

    def close(self) -> None:
        """Free the context, then the model. Calling it twice is fine."""
        self._stack.close()


def _bytes_of(data: NDArray[np.uint8]) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def _load_model(
    path: Path,
    settings: Settings,
    native: NativeLoad | None,
    progress: Progress | None,
) -> Any:
    params = llama_cpp.llama_model_default_params()
    n_layers = settings.n_gpu_layers
    params.n_gpu_layers = _ALL_LAYERS if n_layers is None else n_layers
    if settings.n_cpu_moe:
        overrides = stay_in_ram(expert_patterns(settings.n_cpu_moe))
        params.tensor_buft_overrides = ctypes.addressof(overrides)
    modes = load_modes(native)
    params.lazy_mode, params.load_mode = modes.lazy_mode, modes.load_mode
    params.no_host = modes.no_host
    model, is_ended = None, False
    with ExitStack() as stack:
        stack.callback(lambda: model and llama_cpp.llama_model_free(model))
        # A second Ctrl-C ends the process: nothing of ours is on the drive here.
        with interrupt.deferred(twice_ends=True), _reported(native, progress) as report:

            def on_progress(part: float, _user_data: object) -> bool:
                nonlocal is_ended
                try:
                    report(part)
                except Interrupted:  # nothing can be raised through llama.cpp
                    is_ended = True
                is_ended = is_ended or interrupt.requested()
                return not is_ended

            callback = llama_cpp.llama_progress_callback(on_progress)
            params.progress_callback = callback
            model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if is_ended:
            raise Interrupted("the load was interrupted")
        if not model:
            raise _load_error(path)
        stack.pop_all()
    return model


@contextmanager
def _reported(
    native: NativeLoad | None, progress: Progress | None
) -> Iterator[Callable[[float], None]]:
    """Give a function that hears from llama.cpp which part of a model is loaded."""
    if native is not None and native.tier == "ram":
        with watched(native.n_bytes, progress) as arrival:
            yield arrival.note
    elif progress is not None:
        yield lambda part: progress("loading the model", part)
    else:
        yield lambda _: None


def _load_error(path: Path) -> EngramError:
    reason = logs.load_error() or "no reason given"
    if "alloc" in reason:
        return FitError(
            f"{path} does not fit into memory: {reason}",
            hint="put fewer layers on the GPU with -ngl, or use a smaller model",
        )
    if any(words in reason for words in _LOST):
        return LostFileError(
            f"{path} could not be read to its end: {reason}",
            hint="restore the model file and start again",
        )
    return FileError(f"llama.cpp cannot load {path}: {reason}")


def _context_params(settings: Settings, n_ctx_train: int) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = min(settings.n_ctx, n_ctx_train) or n_ctx_train
    params.n_batch = settings.n_batch
    params.n_ubatch = settings.n_ubatch
    params.n_threads = settings.n_threads or default_threads()
    params.n_threads_batch = params.n_threads
    params.flash_attn_type = _FLASH_ATTENTION[settings.flash_attention]
    params.type_k = _CACHE_TYPES[settings.cache_type_k]
    params.type_v = _CACHE_TYPES[settings.cache_type_v]
    params.swa_full = False  # a window's cache is as long as the window
    params.n_rs_seq = 0  # tokens dropped from a recurrent state would be dropped wrong
    params.no_perf = True
    return params


def _decode_error(code: int) -> EngramError:
    if code == _ABORTED:
        return Interrupted("the computation was interrupted")
    if code == _CONTEXT_FULL:
        return FitError(
            "the context is full",
            hint="start a new conversation, or use a longer context with -c",
        )
    reason = logs.last_error() or f"llama_decode returned {code}"
    return BackboneError(f"llama.cpp failed while computing: {reason}")
