"""`engram-local tui`: the chat app. The only place that imports it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engram_local.chat.session import Session
from engram_local.cli import options, session_options
from engram_local.errors import SessionError, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `tui`."""
    parser.add_argument(
        "model", nargs="?", type=Path, metavar="MODEL", help="GGUF (default: SmolLM2)"
    )
    parser.add_argument(
        "--theme", metavar="NAME", help="colours (default: the config file's tui.theme)"
    )
    session_options.add_session_arguments(parser)
    parser.add_argument("--system", help="system prompt in place of the model's own")
    options.add_model_arguments(parser)
    options.add_sampling_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the app until the user quits."""
    _require_terminal()
    session = _session(args)
    if session is not None:
        session_options.use_model_of(args, session)
    settings = options.settings_of(args)
    model, memory = options.model_of(args), options.memory_of(args)

    from tui.app import run_app
    from tui.options import TuiOptions

    return run_app(
        TuiOptions(
            model=model,
            memory=memory,
            settings=settings,
            fit=not args.no_fit,
            session=None if session is None else session.id,
            sampling=session_options.sampling_flags(args),
            system=args.system,
            keep=not args.no_save,
            theme=args.theme,
        )
    )


def _require_terminal() -> None:
    """Textual would draw into a file, and wait for keys from a pipe.

    It draws on stderr, and asks stdout for the size.
    """
    streams = {"stdin": sys.stdin, "stdout": sys.stdout, "stderr": sys.stderr}
    for name, stream in streams.items():
        if not stream or not stream.isatty():
            raise UsageError(
                f"the chat app needs a terminal, and {name} is none",
                hint="`engram-local run` answers without one",
            )


def _session(args: argparse.Namespace) -> Session | None:
    """Return the session to go on with; None = a new one. The app opens it itself."""
    if not args.resume and args.session is None:
        return None
    with session_options.open_store(args, _on_lost) as store:
        return session_options.asked_session(args, store)


def _on_lost(error: SessionError) -> None:
    raise error
