"""What a process that runs an engine and the process that started it have in common."""

from __future__ import annotations

import os
import signal
import sys
from typing import TextIO, TypedDict

from engram_local.errors import EngramError


class ErrorValues(TypedDict):
    """An EngramError as JSON."""

    code: str
    exit_code: int
    message: str
    hint: str | None


def take_stdout() -> TextIO:
    """Keep stdout for answers: whatever else is printed goes to stderr.

    Also by native code: the file descriptor itself is another one afterwards.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def values_of(error: EngramError) -> ErrorValues:
    """Return what `relayed` makes an error of, in another process."""
    return {
        "code": error.code,
        "exit_code": error.exit_code,
        "message": error.message,
        "hint": error.hint,
    }


def relayed(values: ErrorValues) -> EngramError:
    """Return an error of another process, with its own code and exit code."""
    error = EngramError(values["message"], hint=values["hint"])
    error.code, error.exit_code = values["code"], values["exit_code"]
    return error


def how_it_ended(returncode: int) -> str:
    """Return the end of a process in words; negative numbers are signals."""
    if returncode >= 0:
        return f"ended with code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-returncode}"
