"""`engram-local run`: one answer, or a plain chat line by line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engram_local.chat.conversation import Conversation
from engram_local.cli import answer, line_chat, options, report, session_options
from engram_local.errors import UsageError

if TYPE_CHECKING:
    from engram_local.engine import Engine, Prompt

_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `run`."""
    parser.add_argument(
        "model", nargs="?", type=Path, metavar="MODEL", help="GGUF (default: SmolLM2)"
    )
    parser.add_argument(
        "-p", "--prompt", help="what to ask (default: stdin, or a chat on a terminal)"
    )
    parser.add_argument(
        "-f", "--file", type=Path, help="text to put after the prompt; - is stdin"
    )
    parser.add_argument("--system", help="system prompt in place of the model's own")
    parser.add_argument(
        "--raw", action="store_true", help="continue the prompt, without chat template"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    session_options.add_session_arguments(parser)
    options.add_model_arguments(parser)
    options.add_sampling_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Answer, or chat."""
    text = _prompt_text(args)
    if text is None:
        return line_chat.run(args)
    settings = options.settings_of(args)
    with options.open_engine(args, settings) as engine:
        return _answer_once(engine, args, text)


def _prompt_text(args: argparse.Namespace) -> str | None:
    """Return the prompt from -p, -f or a piped stdin; None = chat on the terminal."""
    given = args.prompt is not None or args.file is not None
    if not given and sys.stdin and sys.stdin.isatty():
        if args.raw or args.json:
            raise UsageError("--raw and --json need a prompt", hint="give one with -p")
        return None
    if args.session is not None or args.resume:
        raise UsageError(
            "a session is gone on with in a chat, on a terminal and without a prompt",
            hint="leave out -p and -f, or -C and --session",
        )
    # With -p, stdin is left alone: it may be a pipe that nobody closes.
    file = args.file if given else Path("-")
    parts = (args.prompt, file and options.read_text(file))
    text = "\n\n".join(part for part in parts if part)
    if not text.strip():
        raise UsageError("the prompt is empty", hint="give one with -p, or pipe one in")
    return text


def _answer_once(engine: Engine, args: argparse.Namespace, text: str) -> int:
    conversation = Conversation(args.system)
    conversation.ask(text)
    messages = answer.prompt_of(conversation.as_messages())
    prompt: Prompt = text if args.raw else messages
    with answer.interruptible(engine) as interrupted:
        finished = answer.stream(engine, prompt, quiet=args.json)
    if args.json:
        print(json.dumps(report.as_json(engine, finished), indent=2))
    else:
        print()
        answer.tell(finished)
    return _INTERRUPTED if interrupted else 0
