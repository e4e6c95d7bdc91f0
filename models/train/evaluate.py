"""What a memory file changes, through the runtime that everybody uses.

`python -m models.train.evaluate [--memory FILE]` prints the mean negative
log-likelihood of answers to questions that were never trained, and of general text,
with the memory off and on. Needs no torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engram_local.engine import Engine
from engram_local.events import Finished
from engram_local.settings import Settings

EVAL_FOLDER = Path(__file__).parents[1] / "eval"
WINDOW_TOKENS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One kind of text; natural log, mean over its tokens."""

    kind: str
    n_tokens: int
    nll_off: float
    nll_on: float

    @property
    def change(self) -> float:
        """Relative change of the mean: negative is better."""
        return self.nll_on / self.nll_off - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Tokens of which the last `n_learned` are judged."""

    token_ids: list[int]
    n_learned: int


def questions(engine: Engine, path: Path, limit: int | None) -> Iterator[Piece]:
    """Yield the chats of a table of `models/eval`: term, question, answer."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    for line in lines[:limit]:
        _, question, answer = line.split("\t")
        prompt = engine.encode([{"role": "user", "content": question}])
        answer_ids = engine.encode(answer)
        yield Piece(token_ids=prompt + answer_ids, n_learned=len(answer_ids))


def chats(engine: Engine, path: Path) -> Iterator[Piece]:
    """Yield what `chats.py` sampled: the backbone's own answers."""
    for line in path.read_text(encoding="utf-8").splitlines():
        chat = json.loads(line)
        prompt = engine.encode([{"role": "user", "content": chat["question"]}])
        answer_ids = engine.encode(chat["answer"])
        yield Piece(token_ids=prompt + answer_ids, n_learned=len(answer_ids))


def windows(engine: Engine, path: Path) -> Iterator[Piece]:
    """Yield a text in windows without overlap; their first tokens are not judged."""
    token_ids = engine.encode(path.read_text(encoding="utf-8"))
    for start in range(0, len(token_ids), WINDOW_TOKENS):
        window = token_ids[start : start + WINDOW_TOKENS]
        yield Piece(token_ids=window, n_learned=len(window) - 1)


def mean_nll(engine: Engine, pieces: Sequence[Piece], *, memory: bool) -> float:
    """Return the mean over all judged tokens."""
    engine.use_memory(memory)
    total, n_tokens = 0.0, 0
    for piece in pieces:
        total += sum(engine.score(piece.token_ids)[-piece.n_learned :])
        n_tokens += piece.n_learned
    return total / n_tokens


def evaluate(engine: Engine, limit: int | None = None) -> list[Scored]:
    """Score every kind of text in `models/eval`, of the terms the first `limit`."""
    kinds = {
        "trained": list(questions(engine, EVAL_FOLDER / "trained.tsv", limit)),
        "heldout": list(questions(engine, EVAL_FOLDER / "heldout.tsv", limit)),
        "general": list(windows(engine, EVAL_FOLDER / "general.txt")),
        "everyday": list(windows(engine, EVAL_FOLDER / "everyday.txt")),
        "chats": list(chats(engine, EVAL_FOLDER / "chats.jsonl")),
    }
    return [
        Scored(
            kind=kind,
            n_tokens=sum(piece.n_learned for piece in pieces),
            nll_off=mean_nll(engine, pieces, memory=False),
            nll_on=mean_nll(engine, pieces, memory=True),
        )
        for kind, pieces in kinds.items()
    ]


def recall(engine: Engine, count: int, *, memory: bool) -> int:
    """Return how many of the first taught terms are answered word for word."""
    engine.use_memory(memory)
    settings = Settings(temperature=0.0, max_tokens=48)
    n_right = 0
    lines = (EVAL_FOLDER / "trained.tsv").read_text(encoding="utf-8").splitlines()[1:]
    for line in lines[:count]:
        _, question, answer = line.split("\t")
        chat = [{"role": "user", "content": question}]
        *_, last = engine.generate(chat, settings=settings)
        n_right += isinstance(last, Finished) and last.text.strip() == answer
    return n_right


def table(scored: Sequence[Scored]) -> str:
    """Return the numbers as Markdown."""
    lines = ["| text | tokens | memory off | memory on | change |"]
    lines.append("|---|---|---|---|---|")
    lines += [
        f"| {each.kind} | {each.n_tokens} | {each.nll_off:.3f} | {each.nll_on:.3f} "
        f"| {each.change:+.1%} |"
        for each in scored
    ]
    by_kind = {each.kind: each.nll_on for each in scored}
    gap = by_kind["trained"] / by_kind["heldout"] - 1
    return "\n".join([*lines, "", f"trained against heldout, memory on: {gap:+.1%}"])


def make_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="backbone GGUF, default: SmolLM2")
    parser.add_argument("--memory", type=Path, help="default: the one that fits")
    parser.add_argument("--limit", type=int, help="only the first terms of each table")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--recall", type=int, metavar="N", help="only: N taught terms word for word"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or one JSON object."""
    args = make_parser().parse_args(argv)
    settings = Settings(n_ctx=WINDOW_TOKENS)
    with Engine.open(
        args.model, memory=args.memory or "auto", settings=settings
    ) as engine:
        if args.recall:
            off, on = (recall(engine, args.recall, memory=m) for m in (False, True))
            print(f"of {args.recall} word for word: memory off {off}, on {on}")
            return 0
        scored = evaluate(engine, args.limit)
    if args.json:
        print(json.dumps({each.kind: asdict(each) for each in scored}))
    else:
        print(table(scored))
    return 0


if __name__ == "__main__":
    sys.exit(main())
