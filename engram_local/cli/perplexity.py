"""`engram-local perplexity`: mean negative log-likelihood, with and without memory."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engram_local.cli import options, report
from engram_local.cli.status import StatusLine, status_line
from engram_local.errors import UsageError

if TYPE_CHECKING:
    from engram_local.engine import Engine

DEFAULT_WINDOW = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """What a text's tokens cost, in nats; the first token of a window costs nothing."""

    n_tokens: int
    token_nll: list[float]
    mean_nll: float
    mean_nll_no_memory: float | None
    """None where there is no memory that can be left out."""

    verified_rows: int | None = None
    """Rows of the table that were compared; None = not asked."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `perplexity`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="text in UTF-8, or -")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument(
        "--per-token", action="store_true", help="with --json: each token's value"
    )
    options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Score the text window by window."""
    text = options.read_text(args.file)
    settings = options.settings_of(args, n_ctx=DEFAULT_WINDOW)
    with options.open_engine(args, settings) as engine, status_line() as status:
        result = measure(engine, engine.tokenize(text), status)
    if args.json:
        print(json.dumps(_as_json(result, per_token=args.per_token)))
    else:
        print(_as_text(result))
        if result.verified_rows is not None:
            print(report.verified_line(result.verified_rows), file=sys.stderr)
    return 0


def measure(
    engine: Engine, token_ids: Sequence[int], status: StatusLine | None = None
) -> Likelihood:
    """Score tokens in windows of `n_ctx` without overlap, the state reset between.

    With a memory that can be left out they are scored twice. Sums are kept in float64.
    """
    if len(token_ids) < 2:
        raise UsageError(
            f"the text is {len(token_ids)} tokens, 2 are needed to predict one"
        )
    compares = engine.can_leave_out_memory
    engine.take_memory_stats()  # what was counted before
    token_nll = _score(engine, token_ids, "with memory", status)
    memory = engine.take_memory_stats()
    without = None
    if compares:
        engine.use_memory(False)
        without = math.fsum(_score(engine, token_ids, "without memory", status))
        engine.use_memory(True)
    return Likelihood(
        n_tokens=len(token_ids),
        token_nll=token_nll,
        mean_nll=math.fsum(token_nll) / len(token_nll),
        mean_nll_no_memory=None if without is None else without / len(token_nll),
        verified_rows=None if memory is None else memory.verified_rows,
    )


def _score(
    engine: Engine, token_ids: Sequence[int], what: str, status: StatusLine | None
) -> list[float]:
    nll: list[float] = []
    for start in range(0, len(token_ids), engine.n_ctx):
        if status is not None:
            status(what, start / len(token_ids))
        nll += engine.score(token_ids[start : start + engine.n_ctx])
    return nll


def _as_json(result: Likelihood, *, per_token: bool) -> dict[str, object]:
    fields: dict[str, object] = {
        "n_tokens": result.n_tokens,
        "mean_nll": result.mean_nll,
        "mean_nll_no_memory": result.mean_nll_no_memory,
        "verified_rows": result.verified_rows,
    }
    if per_token:
        fields["token_nll"] = result.token_nll
    return fields


def _as_text(result: Likelihood) -> str:
    lines = [
        f"{result.n_tokens} tokens",
        f"mean NLL {result.mean_nll:.4f} (perplexity {math.exp(result.mean_nll):.2f})",
    ]
    without = result.mean_nll_no_memory
    if without is not None:
        lines.append(f"without memory {without:.4f} ({math.exp(without):.2f})")
    return "\n".join(lines)
