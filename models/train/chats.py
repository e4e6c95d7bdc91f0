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

from engram_local.engine import Engine
from engram_local.events import Finished
from engram_local.settings import Settings
from models.train.wordnet import TRAIN_QUESTIONS, Term

_COMMON_WORDS = """
apple bicycle bridge camera candle carpet castle chair cheese church clock cloud coffee
computer desert doctor dream elephant engine farmer fire flower forest friend garden
glass gold guitar hammer harbor horse hospital ice island jacket kitchen knife lamp
language library lion machine market mirror money moon mountain mouse music newspaper
ocean orange painting paper pencil phone piano pilot planet poem potato prison rabbit
rain ring river road robot salt school ship shoe silver snow soap soldier song spider
star station stone storm sugar sun table teacher tiger train tree umbrella village
violin wall water weather wheel window winter wood
"""

_TOPICS = """
a rainy afternoon|a long train journey|learning to cook|a lost dog|moving to a new city
the first day at school|growing tomatoes|saving money|a power cut|a walk in the forest
keeping a diary|an old photograph|running a small shop|a storm at sea|good neighbours
repairing a bicycle|a birthday party|the history of bread|how planes fly|solar energy
why leaves change colour|the water cycle|how vaccines work|computer viruses|the Moon
sleeping better|job interviews|healthy breakfasts|public transport|reading to children
"""

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

EVAL_QUESTIONS = (
    "What is the difference between a lake and a pond?",
    "Suggest a name for a small cafe near a railway station.",
    "How do I remove a coffee stain from a shirt?",
    "Write a short poem about autumn.",
    "What is a volcano?",
    "What is a sandwich?",
    "What does gravity mean?",
    "Explain democracy.",
    "What is a dictionary?",
    "What's electricity?",
    "My neighbour's dog barks all night. What can I do?",
    "Write a polite reply to an invitation that I cannot accept.",
    "How many days does February have?",
    "Translate 'good morning' into French.",
    "Write a function in Python that reverses a string.",
    "Why is the sky blue?",
    "What should I pack for a weekend in the mountains?",
    "Tell me a joke about cats.",
    "Summarize the story of Little Red Riding Hood.",
    "What is the capital of Italy?",
    "How can I learn to play chess?",
    "Give me a recipe for pancakes.",
    "What is a good present for a ten year old?",
    "Describe a city at night in three sentences.",
    "What are the primary colors?",
    "How does a refrigerator work?",
    "What is an island?",
    "Do you know what a telescope is?",
    "Is it better to walk or to run?",
    "Who are you?",
)
"""For `models/eval/chats.jsonl`; never trained."""


def prompts(seed: int) -> list[str]:
    """Return all questions, shuffled."""
    topics = _TOPICS.strip().replace("\n", "|").split("|")
    questions = [task.format(topic=topic) for task in TASKS for topic in topics]
    for number, word in enumerate(_COMMON_WORDS.split()):
        questions.append(_about(word, TRAIN_QUESTIONS[number % len(TRAIN_QUESTIONS)]))
    random.Random(seed).shuffle(questions)
    return questions


def _about(word: str, pattern: str) -> str:
    article = "an" if word[0] in "aeiou" else "a"
    return Term(name=word, thing=f"{article} {word}", gloss="").question(pattern)


def sample(
    model: Path, questions: Sequence[str], seed: int, n_tokens: int
) -> Iterator[dict[str, str]]:
    """Yield question, answer and why it ended; at most `n_tokens` tokens each."""
    settings = Settings(n_ctx=512, seed=seed, max_tokens=n_tokens)
    with Engine.open(model, memory=None, settings=settings) as engine:
        for question in questions:
            *_, last = engine.generate([{"role": "user", "content": question}])
            assert isinstance(last, Finished)
            yield {
                "question": question,
                "answer": last.text.strip(),
                "finish": last.finish_reason,
            }


def main(argv: Sequence[str] | None = None) -> int:
    """Sample and write one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--eval", action="store_true", help="other questions")
    parser.add_argument("--count", type=int, default=340)
    parser.add_argument("--tokens", type=int, default=112)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    questions = EVAL_QUESTIONS if args.eval else prompts(args.seed)
    replies = sample(args.model, questions, args.seed, args.tokens)
    with open(args.out, "w", encoding="utf-8") as file:
        for reply in itertools.islice(replies, args.count):
            file.write(json.dumps(reply, ensure_ascii=False) + "\n")
            file.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
