"""The data of one training: terms, chats and general text, and the order of batches.

`python -m models.train.data` writes the small files of `models/eval`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.train.examples import (
    Example,
    Ids,
    Tokenizer,
    read_chats,
    read_questions,
    shared_prefix,
)
from models.train.text import evaluation_text, training_pages
from models.train.wordnet import (
    EVAL_QUESTIONS,
    TRAIN_QUESTIONS,
    Term,
    choose_terms,
)

EVAL_FOLDER = Path(__file__).parents[1] / "eval"
N_TRAINED = 3000
N_EVAL = 300
TERM_SEED = 20
N_VALIDATION = 24
"""Windows and chats that guard the training; they are not trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step of the optimizer sees."""

    terms: list[Example]
    chats: list[Example]
    windows: list[Example]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each kind goes into a step."""

    terms: int = 32
    chats: int = 3
    windows: int = 2
    window_tokens: int = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Everything that is trained, tokenized."""

    terms: list[list[Example]]
    """Per term, one example for each of TRAIN_QUESTIONS."""

    chats: list[Example]
    windows: list[Example]
    validation_chats: list[Example]
    validation_windows: list[Example]
    prefix_ids: Ids
    """Leading tokens of every chat: system message and the user's turn."""

    def n_steps(self, sizes: Sizes) -> int:
        """Steps in an epoch, in which every term is asked once."""
        return len(self.terms) // sizes.terms

    def epoch(self, number: int, sizes: Sizes) -> Iterator[Batch]:
        """Yield the batches of an epoch, the same for the same number.

        Chats and windows go on where the epoch before stopped, then start again.
        """
        rng = np.random.default_rng([number, len(self.terms)])
        n_steps = self.n_steps(sizes)
        asked = [
            variants[(number + place) % len(variants)]
            for place, variants in enumerate(self.terms)
        ]
        terms = _by_length(asked, sizes.terms, rng)
        for step in range(n_steps):
            turn = number * n_steps + step
            yield Batch(
                terms=terms[step],
                chats=_next(self.chats, turn, sizes.chats),
                windows=_next(self.windows, turn, sizes.windows),
            )


def _by_length(
    examples: Sequence[Example], size: int, rng: np.random.Generator
) -> list[list[Example]]:
    """Batches of similar length, to pad little, in random order."""
    lengths = np.array([len(example.token_ids) for example in examples])
    order = np.argsort(lengths + rng.uniform(0, 2, len(lengths)))
    n_batches = len(examples) // size
    batches = order[: n_batches * size].reshape(n_batches, size)
    return [[examples[n] for n in line] for line in rng.permutation(batches)]


def _next(examples: Sequence[Example], turn: int, size: int) -> list[Example]:
    places = range(turn * size, (turn + 1) * size)
    return [examples[place % len(examples)] for place in places]


def load_data(
    tokenizer: Tokenizer,
    *,
    terms: Sequence[Term],
    chats: Sequence[Path],
    handbook: Path,
    sizes: Sizes,
) -> Data:
    """Tokenize everything, in an order that a fixed seed decides."""
    rng = np.random.default_rng(TERM_SEED)
    asked = [
        [
            tokenizer.example(term.question(pattern), term.answer, ends=True)
            for pattern in TRAIN_QUESTIONS
        ]
        for term in terms
    ]
    answered = _shuffled(read_chats(chats, tokenizer), rng)
    pages = training_pages(handbook)
    windows = _shuffled(tokenizer.windows(pages, sizes.window_tokens), rng)
    everything = [variant for variants in asked for variant in variants] + answered
    n_prefix = shared_prefix(everything)
    batches = _by_length(answered[N_VALIDATION:], sizes.chats, rng)
    return Data(
        terms=asked,
        chats=[chat for batch in batches for chat in batch],
        windows=windows[N_VALIDATION:],
        validation_chats=answered[:N_VALIDATION],
        validation_windows=windows[:N_VALIDATION],
        prefix_ids=asked[0][0].token_ids[:n_prefix],
    )


def _shuffled(examples: Sequence[Example], rng: np.random.Generator) -> list[Example]:
    return [examples[n] for n in rng.permutation(len(examples))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The shipped data of `models/eval`, tokenized; no question of it is trained."""

    trained: list[Example]
    heldout: list[Example]
    general: list[Example]
    everyday: list[Example]


def load_judged(tokenizer: Tokenizer, limit: int | None = None) -> Judged:
    """Read `models/eval`, of the terms the first `limit`. Windows of 2048 tokens."""

    def text(name: str) -> list[Example]:
        content = (EVAL_FOLDER / name).read_text(encoding="utf-8")
        token_ids = np.array(tokenizer.text(content), np.int64)
        return [
            Example(token_ids=token_ids[start : start + 2048], n_prompt=1)
            for start in range(0, len(token_ids), 2048)
        ]

    return Judged(
        trained=read_questions(EVAL_FOLDER / "trained.tsv", tokenizer)[:limit],
        heldout=read_questions(EVAL_FOLDER / "heldout.tsv", tokenizer)[:limit],
        general=text("general.txt"),
        everyday=text("everyday.txt"),
    )


def split_terms(wordnet: Path) -> tuple[list[Term], list[Term]]:
    """Return the terms that are taught, and as many as are judged that are not."""
    terms = choose_terms(wordnet, N_TRAINED + N_EVAL, TERM_SEED)
    return terms[:N_TRAINED], terms[N_TRAINED:]


def write_questions(path: Path, terms: Sequence[Term]) -> None:
    """Write term, question and answer; the two unseen questions take turns."""
    lines = ["term\tquestion\tanswer"]
    for place, term in enumerate(terms):
        question = term.question(EVAL_QUESTIONS[place % len(EVAL_QUESTIONS)])
        lines.append(f"{term.name}\t{question}\t{term.answer}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Write trained.tsv, heldout.tsv and general.txt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--handbook", type=Path, required=True)
    args = parser.parse_args(argv)
    trained, heldout = split_terms(args.wordnet)
    write_questions(EVAL_FOLDER / "trained.tsv", trained[:N_EVAL])
    write_questions(EVAL_FOLDER / "heldout.tsv", heldout)
    text = evaluation_text(args.handbook)
    (EVAL_FOLDER / "general.txt").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
