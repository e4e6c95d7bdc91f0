"""An answer with gates, rows and a table for the screens that show them."""

from __future__ import annotations

from collections.abc import Sequence

from engram_local.errors import UsageError
from engram_local.events import (
    ArmStarted,
    Compared,
    ComparedArm,
    PromptProgress,
    TableMap,
    TableStrip,
    TextChunk,
    TokenRow,
    TokenTrace,
)
from engram_local.worker.protocol import (
    AnswerTrace,
    Compare,
    Event,
    EvictTable,
    ExplainToken,
    Loading,
    LookAtTable,
    Request,
    TokenRows,
    TraceAnswer,
    WarmTable,
)
from tests.tui.fakes import MEMORY, Answer, FakeEngine, Reply, finished

WORDS = [
    "A",
    " dodec",
    "ahedron",
    " is",
    " a",
    " polyhedron",
    " with",
    " twelve",
    " faces",
    ".",
    "\n\n",
    "In",
    " geometry",
    ",",
    " it",
    " is",
    " called",
    " 正",
    "十",
    "二",
    "面",
    "体",
    " in",
    " Chinese",
    ".",
    "\n",
    " The",
    " regular",
    " one",
    " is",
    " a",
    " Platonic",
    " solid",
    ":",
    " its",
    " faces",
    " are",
    " pent",
    "agons",
    ",",
    " three",
    " of",
    " which",
    " meet",
    " at",
    " each",
    " corner",
    ".",
    " \x1b[31m",
    "�",
    ".",
]


def gate(index: int, layer: int) -> float:
    """Return a number between 0 and 1 that looks like none in particular."""
    return ((index * 37 + layer * 11) % 101) / 100


TRACE = AnswerTrace(
    first=40,
    layer_ids=MEMORY.layer_ids,
    tokens=tuple(
        TokenTrace(
            token_id=1000 + index,
            text=text,
            gates=tuple(gate(index, layer) for layer in MEMORY.layer_ids),
        )
        for index, text in enumerate(WORDS)
    ),
)


def rows_at(request: ExplainToken) -> list[Event]:
    """Return rows of a token of the trace, the same for the same position."""
    index = request.position - TRACE.first
    rows = [
        TokenRow(
            layer_id=layer_id,
            order=order,
            head=head,
            token_ids=tuple(range(order)),
            texts=tuple(WORDS[max(index - order + 1, 0) : index + 1]),
            row_id=(index * 7919 + layer_id * 104729 + order * 31 + head) % 40_000,
        )
        for layer_id in MEMORY.layer_ids
        for order in (2, 3)
        for head in range(2)
    ]
    return [TokenRows(position=request.position, rows=tuple(rows))]


def table_map(*parts: float | None, n_cells: int = 48) -> TableMap:
    """Return a map whose cells repeat these parts."""
    resident = tuple(parts[number * len(parts) // n_cells] for number in range(n_cells))
    return TableMap(
        strips=tuple(
            TableStrip(
                layer_id=layer_id,
                n_rows=20_000,
                table_bytes=4_000_000,
                resident=resident,
            )
            for layer_id in MEMORY.layer_ids
        )
    )


def refused(request: Request) -> Sequence[Event]:
    """Say that it cannot be done."""
    raise UsageError("the position is not in the sequence", hint="ask again")


def arm(memory_on: bool, text: str) -> list[Event]:
    """Return what is said while one of two answers is written."""
    words = text.split(" ")
    chunks = [words[0], *(f" {word}" for word in words[1:])]
    return [
        ArmStarted(memory_on=memory_on),
        PromptProgress(n_done=12, n_total=12),
        *(TextChunk(text=chunk) for chunk in chunks),
        finished(text),
    ]


ANSWER_ON = "A dodecahedron is a polyhedron with twelve faces."
ANSWER_OFF = "A dodecahedron is a shape that was named by Pandora."
COMPARED = Compared(
    arms=(
        ComparedArm(
            memory_on=True, finished=finished(ANSWER_ON), nll_on=0.412, nll_off=2.534
        ),
        ComparedArm(
            memory_on=False, finished=finished(ANSWER_OFF), nll_on=2.871, nll_off=1.102
        ),
    )
)
REPLIES: dict[type[Request], Reply] = {
    TraceAnswer: [TRACE],
    ExplainToken: rows_at,
    LookAtTable: [table_map(1.0, 0.8, 0.3, 0.01, 0.0, 0.5)],
    WarmTable: [Loading(what="reading the table", part=0.4), table_map(1.0)],
    EvictTable: [table_map(0.0)],
    Compare: [*arm(True, ANSWER_ON), *arm(False, ANSWER_OFF), COMPARED],
}


def tracing_engine(*answers: Answer) -> FakeEngine:
    """Return an engine that tells all of this."""
    return FakeEngine(*answers, replies=REPLIES)
