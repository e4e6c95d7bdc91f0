"""Text -> token ids with the backbone's own tokenizer and chat template.

An example is a whole sequence of which the last tokens, the answer, are learned.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from llama_cpp import Llama
from numpy.typing import NDArray

from engram_local.llama.chat_template import ChatTemplate

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One sequence."""

    token_ids: Ids  # (n_tokens,)

    n_prompt: int
    """Leading tokens that are given, not learned; at least 1."""


class Tokenizer:
    """The vocabulary of a GGUF, without its weights.

    For backbones without BOS, whose template does not ask for BOS or EOS: SmolLM2.
    """

    def __init__(self, model: Path) -> None:
        self._llama = Llama(str(model), vocab_only=True, verbose=False)
        self.end_id = self._llama.token_eos()
        template = self._llama.metadata["tokenizer.chat_template"]
        self._template = ChatTemplate(template, bos="", eos="")

    def text(self, text: str) -> list[int]:
        """Return the ids of plain text; special tokens in it are not parsed."""
        return self._llama.tokenize(text.encode(), add_bos=False, special=False)

    def prompt(self, question: str) -> list[int]:
        """Return the ids of a chat that waits for its first answer."""
        messages = [{"role": "user", "content": question}]
        prompt = self._template.format(messages)
        return self._llama.tokenize(prompt.encode(), add_bos=False, special=True)

    def example(self, question: str, answer: str, *, ends: bool) -> Example:
        """Return question and answer as a chat. ends: learn to stop after it."""
        prompt = self.prompt(question)
        token_ids = prompt + self.text(answer) + [self.end_id] * ends
        return Example(token_ids=np.array(token_ids, np.int64), n_prompt=len(prompt))

    def windows(self, texts: Iterable[str], length: int) -> list[Example]:
        """Cut texts into windows of `length` tokens; what is left over is dropped."""
        found = []
        for text in texts:
            token_ids = np.array(self.text(text), np.int64)
            for start in range(0, len(token_ids) - length + 1, length):
                window = token_ids[start : start + length]
                found.append(Example(token_ids=window, n_prompt=1))
        return found


def read_chats(paths: Sequence[Path], tokenizer: Tokenizer) -> list[Example]:
    """Read what `chats.py` wrote; an answer that was cut off does not end."""
    examples = []
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            chat = json.loads(line)
            ends = chat["finish"] == "stop"
            examples.append(
                tokenizer.example(chat["question"], chat["answer"], ends=ends)
            )
    return examples


def read_questions(path: Path, tokenizer: Tokenizer) -> list[Example]:
    """Read a table of `models/eval`: term, question, answer."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    rows = (line.split("\t") for line in lines)
    return [tokenizer.example(row[1], row[2], ends=False) for row in rows]


def shared_prefix(examples: Sequence[Example]) -> int:
    """Return how many leading tokens all prompts have in common."""
    shortest = min(example.n_prompt for example in examples)
    heads = np.array([example.token_ids[:shortest] for example in examples])
    differs = (heads != heads[0]).any(axis=0)
    return int(differs.argmax()) if differs.any() else shortest - 1
