"""`engram-local run`: one answer, or a plain chat line by line."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from engram_local.chat.conversation import Conversation
from engram_local.cli import options, report
from engram_local.cli.status import status_line
from engram_local.errors import EngramError, FitError, UsageError
from engram_local.events import Finished, PromptProgress, TextChunk
from engram_local.units import escape_control

if TYPE_CHECKING:
    from engram_local.engine import Engine, Prompt

_INTERRUPTED = 130
_CHAT_HELP = """\
/memory on|off  use the memory or not (begins a new conversation)
/clear          begin a new conversation
/bye            quit (also Ctrl-D)
Ctrl-C          stop the answer and keep its text; twice to quit"""


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
    options.add_model_arguments(parser)
    options.add_sampling_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Answer, or chat."""
    settings = options.settings_of(args)
    text = _prompt_text(args)
    with options.open_engine(args, settings) as engine:
        if text is None:
            return _chat(engine, args)
        return _answer_once(engine, args, text)


def _prompt_text(args: argparse.Namespace) -> str | None:
    """Return the prompt from -p, -f or a piped stdin; None = chat on the terminal."""
    given = args.prompt is not None or args.file is not None
    if not given and sys.stdin and sys.stdin.isatty():
        if args.raw or args.json:
            raise UsageError("--raw and --json need a prompt", hint="give one with -p")
        return None
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
    prompt: Prompt = text if args.raw else _messages(conversation)
    with _interruptible(engine) as interrupted:
        finished = _stream(engine, prompt, quiet=args.json)
    if args.json:
        print(json.dumps(report.as_json(engine, finished), indent=2))
    else:
        print()
        _tell(finished)
    return _INTERRUPTED if interrupted else 0


def _messages(conversation: Conversation) -> list[dict[str, str]]:
    """Return what was said for the engine."""
    said = conversation.as_messages()
    return [{"role": one.role, "content": one.content} for one in said]


def _tell(finished: Finished) -> None:
    """Say what there is to say about an answer."""
    print(report.timing_line(finished), file=sys.stderr)
    memory = finished.memory
    if memory is not None and memory.verified_rows is not None:
        print(report.verified_line(memory.verified_rows), file=sys.stderr)


def _stream(engine: Engine, prompt: Prompt, *, quiet: bool = False) -> Finished:
    """Print an answer as it comes; return its last event."""
    with status_line() as status:
        for event in engine.generate(prompt):
            match event:
                case PromptProgress():
                    status("reading the prompt", event.n_done / event.n_total)
                case TextChunk() if not quiet:
                    status.clear()
                    print(escape_control(event.text), end="", flush=True)
                case Finished():
                    return event
    raise AssertionError("an answer ends with Finished")


@contextmanager
def _interruptible(engine: Engine) -> Iterator[list[int]]:
    """Let Ctrl-C end the answer and keep its text; a second one ends the program.

    The list that is given holds the signals that came.
    """
    signals: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)
        engine.cancel()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGINT, before)


def _chat(engine: Engine, args: argparse.Namespace) -> int:
    """Read a line, answer it, until the input ends."""
    conversation = Conversation(args.system)
    print(f"{report.title(engine)}\n/help lists the commands", file=sys.stderr)
    while (line := _next_line()) not in ("/bye", "/exit", "/quit"):
        if line.startswith("/"):
            _command(engine, conversation, line)
        elif line:
            _chat_turn(engine, conversation, line)
    return 0


def _next_line() -> str:
    """Return what is typed; the end of the input is a /bye."""
    try:
        return _read_line()
    except EOFError:
        print(file=sys.stderr)
        return "/bye"
    except KeyboardInterrupt:
        # It may have been meant for an answer that ended just before.
        print("\nCtrl-C once more, Ctrl-D or /bye to quit", file=sys.stderr)
    with suppress(EOFError):
        return _read_line()
    return "/bye"


def _read_line() -> str:
    with suppress(ImportError):  # not on Windows
        import readline  # noqa: F401 - gives input() editing and history

    if sys.stdout.isatty():
        return input(">>> ").strip()
    print(">>> ", end="", file=sys.stderr, flush=True)  # stdout is for answers
    return input().strip()


def _chat_turn(engine: Engine, conversation: Conversation, line: str) -> None:
    conversation.ask(line)
    try:
        with _interruptible(engine):
            finished = _stream(engine, _messages(conversation))
    except FitError as error:
        conversation.undo()
        print(f"{error.message}; /clear begins a new conversation", file=sys.stderr)
        return
    answer = conversation.begin_answer()
    conversation.extend(answer.id, finished.text)
    conversation.finish(answer.id, "complete")
    print()
    _tell(finished)


def _command(engine: Engine, conversation: Conversation, line: str) -> None:
    match line.split():
        case ["/help"]:
            print(_CHAT_HELP, file=sys.stderr)
        case ["/clear"]:
            conversation.clear()
            print("a new conversation", file=sys.stderr)
        case ["/memory", ("on" | "off") as state]:
            _switch_memory(engine, conversation, state == "on")
        case ["/memory", *_]:
            print(f"{report.title(engine)}; /memory on or off", file=sys.stderr)
        case _:
            print(f"unknown command {line}; /help lists them", file=sys.stderr)


def _switch_memory(engine: Engine, conversation: Conversation, on: bool) -> None:
    try:
        engine.use_memory(on)
    except EngramError as error:
        print(error.message, file=sys.stderr)
        return
    conversation.clear()
    print(report.title(engine), file=sys.stderr)
