"""All that is known of one token: text, gates, n-grams, rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.text import Text
from textual.widgets import Static

from engram_local.events import TokenRow, TokenTrace
from engram_local.units import escape_control, format_count
from engram_local.worker.protocol import AnswerTrace, TokenRows
from tui.widgets.blocks import bar

_BAR_CELLS = 10


def quoted(text: str) -> str:
    r"""Return a token's text in quotes, in one line: `" the"`, `"\n"`."""
    return '"' + escape_control(text).replace("\n", "\\n").replace("\t", "\\t") + '"'


def token_lines(trace: AnswerTrace, index: int) -> Iterator[str]:
    """Yield what a token is, and its gates."""
    token = trace.tokens[index]
    yield f"{quoted(token.text)}  token {format_count(token.token_id)}"
    yield (
        f"{format_count(index + 1)} of {format_count(len(trace.tokens))} in the "
        f"answer, position {format_count(trace.first + index)}"
    )
    yield from _gate_lines(trace.layer_ids, token)


def _gate_lines(layer_ids: Sequence[int], token: TokenTrace) -> Iterator[str]:
    for layer_id, gate in zip(layer_ids, token.gates, strict=False):
        yield f"gate of layer {layer_id}: {gate:.3f} {bar(gate, _BAR_CELLS)}".rstrip()
    if not token.gates:
        yield "gates: not known"


def row_lines(rows: Sequence[TokenRow]) -> Iterator[str]:
    """Yield the rows that a token reads: two lines per layer and order."""
    for (layer_id, order), group in groupby(
        rows, key=lambda row: (row.layer_id, row.order)
    ):
        heads = list(group)
        ngram = " ".join(quoted(text) for text in heads[0].texts)
        n_tokens = len(heads[0].texts)
        cut = f", of which there {_are(n_tokens)}" if n_tokens < order else ""
        yield f"layer {layer_id}, {order} tokens{cut}: {ngram}"
        ids = ", ".join(format_count(row.row_id) for row in heads)
        yield f"  rows {ids}"


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


class TokenCard(Static):
    """The token under the cursor; its rows come a moment later."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._trace: AnswerTrace | None = None
        self._index = 0

    def clear(self) -> None:
        """Show no token."""
        self._trace = None
        self.update("")

    def show(self, trace: AnswerTrace, index: int) -> None:
        """Show a token whose rows are not known yet."""
        self._trace, self._index = trace, index
        self._update(["rows ..."])

    def show_rows(self, rows: TokenRows) -> None:
        """Show the rows too, if they are of the token that is shown."""
        if self._trace and rows.position == self._trace.first + self._index:
            self._update(list(row_lines(rows.rows)) or ["it reads no rows"])

    def explain(self, sentence: str) -> None:
        """Say why there are no rows."""
        self._update([sentence])

    def _update(self, below: list[str]) -> None:
        if self._trace is not None:
            lines = [*token_lines(self._trace, self._index), *below]
            self.update(Text("\n".join(lines)))
