"""One value of every kind that crosses the pipe."""

from __future__ import annotations

from engram_local.chat.conversation import ChatMessage
from engram_local.events import (
    ArmStarted,
    Compared,
    ComparedArm,
    Finished,
    MemoryStats,
    PromptProgress,
    TableMap,
    TableStrip,
    TextChunk,
    Timing,
    TokenRow,
    TokenTrace,
)
from engram_local.settings import Settings
from engram_local.worker.protocol import (
    PROTOCOL,
    AnswerTrace,
    Cancel,
    ChooseMemory,
    Compare,
    ContextUse,
    Done,
    Event,
    EvictTable,
    ExplainToken,
    Failed,
    Generate,
    GpuUse,
    Hello,
    Loading,
    LookAtTable,
    MemoryChanged,
    MemoryInfo,
    MemoryPart,
    ModelInfo,
    Open,
    Opened,
    Request,
    Status,
    TokenRows,
    TraceAnswer,
    UseMemory,
    WarmTable,
)

TIMING = Timing(total_ms=4.0, p50_ms=1.0, p95_ms=2.0, max_ms=2.5)
STATS = MemoryStats(
    kind="attached",
    tier="mmap",
    rows_read=48,
    bytes_read=1632,
    stall=TIMING,
    n_submitted=6,
    n_ready=5,
    n_late=1,
    gate_mean={2: 0.25, 17: 0.5},
)
FINISHED = Finished(
    text="A lemur.",
    token_ids=(5, 7),
    finish_reason="stop",
    n_prompt=3,
    n_cached=0,
    prompt_s=0.5,
    first_token_s=None,
    token_ms=TIMING,
    decode_s=0.25,
    memory=STATS,
)
MEMORY = MemoryInfo(
    name="wordnet",
    path="/models/wordnet.gguf",
    kind="attached",
    tier="mmap",
    layer_ids=(2, 17),
    table_bytes=2**40,
    n_rows=10**9,
    row_bytes=34,
    rows_per_token=16,
)
MODEL = ModelInfo(
    name="small",
    path="/models/small.gguf",
    architecture="llama",
    file_bytes=1000,
    n_layers=30,
    n_vocab=49152,
    n_ctx=4096,
    n_ctx_train=8192,
    n_threads=2,
    memory=MEMORY,
    memory_on=True,
    can_leave_out_memory=True,
    memories=("/models/wordnet.gguf",),
    parts=(MemoryPart(name="KV cache", vram_bytes=0, ram_bytes=7),),
    notes=("a note",),
)
MESSAGES = (
    ChatMessage(role="system", content=""),
    ChatMessage(role="user", content="two\nlines\x1b[31m \ud800 \u2028 \0 \U0001f600"),
)
STRIP = TableStrip(layer_id=2, n_rows=3, table_bytes=102, resident=(0.0, None, 1.0))

REQUESTS: tuple[Request, ...] = (
    Open(model=None, memory="auto", settings=Settings(seed=3, temperature=0), fit=True),
    Generate(messages=MESSAGES, settings=Settings()),
    Compare(messages=MESSAGES, settings=Settings(n_threads=2)),
    UseMemory(on=True),
    ChooseMemory(memory=None, tier="ram"),
    TraceAnswer(),
    ExplainToken(position=4),
    LookAtTable(n_cells=64),
    WarmTable(n_cells=64),
    EvictTable(n_cells=64),
    Cancel(),
)
EVENTS: tuple[Event, ...] = (
    Hello(protocol=PROTOCOL, version="1", pid=3),
    Loading(what="loading", part=0.5),
    Opened(model=MODEL),
    MemoryChanged(memory=None, memory_on=False),
    ContextUse(n_prompt=3, n_ctx=64, n_left_out=2),
    PromptProgress(n_done=1, n_total=3),
    TextChunk(text='"\r\n\t\\'),
    FINISHED,
    Status(
        n_tokens=5,
        tokens_per_s=None,
        rows_per_s=80.0,
        stall_ms=0.25,
        stall_counts=(0, 5),
        n_ready=3,
        n_late=2,
        rows_read=80,
        bytes_read=2720,
        resident_bytes=None,
        gpus=(GpuUse(name="CUDA0", used_bytes=1, total_bytes=2),),
    ),
    AnswerTrace(
        first=3,
        layer_ids=(2, 17),
        tokens=(TokenTrace(token_id=5, text="A", gates=(0.25, 1.0)),),
    ),
    TokenRows(
        position=4,
        rows=(
            TokenRow(
                layer_id=2, order=2, head=0, token_ids=(5,), texts=("A",), row_id=9
            ),
        ),
    ),
    TableMap(strips=(STRIP,)),
    ArmStarted(memory_on=True),
    Compared(
        arms=(ComparedArm(memory_on=True, finished=FINISHED, nll_on=1.5, nll_off=None),)
    ),
    Done(),
    Failed(code="bad-file", exit_code=3, message="gone", hint=None),
)


def say(text: str) -> Generate:
    """Return a request that fakes do what it says."""
    message = ChatMessage(role="user", content=text)
    return Generate(messages=(message,), settings=Settings())
