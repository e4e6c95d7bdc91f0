"""What an engine's process is asked, and what it says: frozen values, one per line.

A request has a number, and every event it causes has the same; the last of them is
`Done` or `Failed`. Requests are done in order, one at a time; only `Cancel` overtakes:
it has the number of the request that it ends, and no events of its own. `Hello` has the
number 0, and requests have others. The end of the child's stdin ends the child.
codec.py turns all of these into JSON and back.

    > {"id": 3, "kind": "Generate", "value": {"messages": [...], "settings": {...}}}
    < {"id": 3, "kind": "TextChunk", "value": {"text": "A lemur"}}
    < {"id": 3, "kind": "Done", "value": {}}
"""

from __future__ import annotations

from dataclasses import dataclass

from engram_local.chat.conversation import ChatMessage
from engram_local.events import (
    ArmStarted,
    Compared,
    Finished,
    MemoryKind,
    MemoryPart,
    PromptProgress,
    TableMap,
    TextChunk,
    TokenRow,
    TokenTrace,
)
from engram_local.settings import Settings

PROTOCOL = 1
"""Both sides must speak the same; raised with every change of what stands here."""

# --- requests ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Load a model, in place of the one that is loaded. -> Loading*, Opened."""

    model: str | None
    """A GGUF; None = the default one."""

    memory: str | None
    """A file; "auto" = one that fits, if there is one; None = without."""

    settings: Settings
    fit: bool = True
    """False: load it even if it does not seem to fit."""

    memory_on: bool = True
    """False: the memory is loaded, but left out, if it can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Answer. -> PromptProgress*, TextChunk*, Status*, Finished, after ContextUse.

    An assistant's message at the end is gone on with. What does not fit into the
    context is left out, oldest first (chat/context.py).
    """

    messages: tuple[ChatMessage, ...]
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """Answer once with the memory and once without, with the same seed.

    -> per arm ArmStarted, then what Generate says; at last Compared.
    """

    messages: tuple[ChatMessage, ...]
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class UseMemory:
    """Switch the loaded memory on or off; begins a new sequence. -> MemoryChanged."""

    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChooseMemory:
    """Load another memory, or the same in another tier; the backbone stays.

    -> Loading*, MemoryChanged.
    """

    memory: str | None
    tier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceAnswer:
    """Tell tokens and gates of the last answer. -> AnswerTrace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainToken:
    """Tell which rows the token at a position of the sequence reads. -> TokenRows."""

    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAtTable:
    """Tell which parts of the table are in memory. -> TableMap."""

    n_cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmTable:
    """Read all of the table into the page cache. -> Loading*, TableMap."""

    n_cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictTable:
    """Let the page cache forget the table. -> TableMap."""

    n_cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End the request of this number, or do not begin it.

    An answer that was begun ends with Finished, and what there is of it is kept; all
    else fails with the code "interrupted".
    """


Request = (
    Open
    | Generate
    | Compare
    | UseMemory
    | ChooseMemory
    | TraceAnswer
    | ExplainToken
    | LookAtTable
    | WarmTable
    | EvictTable
    | Cancel
)


# --- events -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first event of a process."""

    protocol: int
    version: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Progress of something that takes a while."""

    what: str
    part: float
    """0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryInfo:
    """A memory that is loaded, or part of the model."""

    name: str
    path: str
    kind: MemoryKind
    tier: str
    layer_ids: tuple[int, ...]
    table_bytes: int
    n_rows: int
    row_bytes: int
    rows_per_token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model that is loaded."""

    name: str
    path: str
    architecture: str
    file_bytes: int
    n_layers: int
    n_vocab: int
    n_ctx: int
    n_ctx_train: int
    n_threads: int
    memory: MemoryInfo | None
    memory_on: bool
    can_leave_out_memory: bool
    memories: tuple[str, ...]
    """Files of memories that fit this backbone."""

    parts: tuple[MemoryPart, ...]
    notes: tuple[str, ...]
    """Sentences for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The model is ready."""

    model: ModelInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryChanged:
    """Another memory is used, or none."""

    memory: MemoryInfo | None
    """What is loaded."""

    memory_on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextUse:
    """How much of the context a prompt takes; comes before its evaluation."""

    n_prompt: int
    n_ctx: int
    n_left_out: int
    """Messages that the model does not see, the oldest, as all do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """VRAM of a device."""

    name: str
    used_bytes: int
    """By anybody."""

    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Live numbers, between two tokens at most 4 times a second, and after requests.

    Rates and stalls are those since the Status before.
    """

    n_tokens: int
    """In the sequence."""

    tokens_per_s: float | None
    """None while nothing is generated."""

    rows_per_s: float | None
    stall_ms: float | None
    """Mean per token; None where llama.cpp waits for rows itself."""

    stall_counts: tuple[int, ...]
    """Steps per bin of telemetry.STALL_EDGES_MS, since the model was opened."""

    n_ready: int
    n_late: int
    """Layers of decode calls whose rows were there, or not, since it was opened."""

    rows_read: int
    bytes_read: int
    """Since it was opened."""

    resident_bytes: int | None
    """Of the table; None if unknown."""

    gpus: tuple[GpuUse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTrace:
    """The tokens of the last answer, with their gates."""

    first: int
    """Position of the first one in the sequence."""

    layer_ids: tuple[int, ...]
    tokens: tuple[TokenTrace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRows:
    """The rows of one token, all layers and slots."""

    position: int
    rows: tuple[TokenRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The request is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The request could not be done; the values of an EngramError."""

    code: str
    exit_code: int
    message: str
    hint: str | None


Event = (
    Hello
    | Loading
    | Opened
    | MemoryChanged
    | ContextUse
    | PromptProgress
    | TextChunk
    | Finished
    | Status
    | AnswerTrace
    | TokenRows
    | TableMap
    | ArmStarted
    | Compared
    | Done
    | Failed
)
