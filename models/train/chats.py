"""Answers of the backbone itself to everyday questions.

They are trained on, so that the memory learns to stay out of ordinary conversation:
the likelihood of a model's own samples can only fall when it is made to behave
differently. `python -m models.train.chats --model GGUF --out FILE`
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.train.wordnet import TRAIN_QUESTIONS, Term

COMMON_WORDS = """
apple bicycle bridge camera candle carpet castle chair cheese church clock cloud coffee
computer desert doctor dream elephant engine farmer fire flower forest friend garden
glass gold guitar hammer harbor horse hospital ice island jacket kitchen knife lamp
language library lion machine market mirror money moon mountain mouse music newspaper
ocean orange painting paper pencil phone piano pilot planet poem potato prison rabbit
rain ring river road robot salt school ship shoe silver snow soap soldier song spider
star station stone storm sugar sun table teacher tiger train tree umbrella village
violin wall water weather wheel window winter wood
""".split()

TOPICS = """
a rainy afternoon|a long train journey|learning to cook|a lost dog|moving to a new city
the first day at school|growing tomatoes|saving money|a power cut|a walk in the forest
keeping a diary|an old photograph|running a small shop|a storm at sea|good neighbours
repairing a bicycle|a birthday party|the history of bread|how planes fly|solar energy
why leaves change colour|the water cycle|how vaccines work|computer viruses|the Moon
sleeping better|job interviews|healthy breakfasts|public transport|reading to children
""".replace("\n", "|").strip("|").split("|")

TASKS = (
    "Write a short story about {topic}.",
    "Explain {topic} to a ten year old.",
    "Give me three tips about {topic}.",
    "Write an email to a colleague that mentions {topic}.",
    "What are the advantages and disadvantages when it comes to {topic}?",
    "Can you help me with a question about {topic}?",
    "Write a Python function and a comment that has to do with {topic}.",
    "Make a list of words that come to mind for {topic}.",
)


def prompts(seed: int) -> list[str]:
    """Return all questions, shuffled."""
    wholes = [task.format(topic=topic) for task in TASKS for topic in TOPICS]
    plain = [_common(word, n) for n, word in enumerate(COMMON_WORDS)]
    questions = wholes + plain
    random.Random(seed).shuffle(questions)
    return questions


def _common(word: str, number: int) -> str:
    article = "an" if word[0] in "aeiou" else "a"
    term = Term(name=word, thing=f"{article} {word}", gloss="")
    return term.question(TRAIN_QUESTIONS[number % len(TRAIN_QUESTIONS)])


def sample(model: Path, seed: int, n_tokens: int) -> Iterator[dict[str, str]]:
    """Yield {"question", "answer"}; an answer has at most `n_tokens` tokens."""
    from llama_cpp import Llama

    llama = Llama(str(model), n_ctx=512, n_threads=2, seed=seed, verbose=False)
    for question in prompts(seed):
        messages = [{"role": "user", "content": question}]
        reply = llama.create_chat_completion(
            messages, max_tokens=n_tokens, temperature=0.8, top_p=0.95
        )
        choice = reply["choices"][0]
        yield {
            "question": question,
            "answer": choice["message"]["content"].strip(),
            "finish": choice["finish_reason"],
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Sample and write one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=340)
    parser.add_argument("--tokens", type=int, default=112)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    replies = sample(args.model, args.seed, args.tokens)
    with open(args.out, "w", encoding="utf-8") as file:
        for reply in itertools.islice(replies, args.count):
            file.write(json.dumps(reply, ensure_ascii=False) + "\n")
            file.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
