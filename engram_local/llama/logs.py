"""llama.cpp's log -> the logger `llama.cpp`.

llama-cpp-python's own way of being quiet points file descriptors 1 and 2 at /dev/null
while a model loads, which freezes a terminal app; a log callback does not.
"""

from __future__ import annotations

import ctypes
import logging
from collections import deque

import llama_cpp

logger = logging.getLogger("llama.cpp")

_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_ERROR_LEVEL = 4
_CONTINUES = 5  # the line before goes on

recent_errors: deque[str] = deque(maxlen=8)
"""The last error lines, for the message when something fails."""


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _on_line(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    line = text.decode("utf-8", "replace").rstrip("\n")
    if level == _ERROR_LEVEL and line:
        recent_errors.append(line)
    if line.strip(". ") and level != _CONTINUES:
        logger.log(_LEVELS.get(level, logging.DEBUG), "%s", line)


def capture() -> None:
    """Send llama.cpp's messages to Python's logging from now on."""
    recent_errors.clear()
    llama_cpp.llama_log_set(_on_line, ctypes.c_void_p(0))


def last_error() -> str:
    """Return llama.cpp's last error line, or an empty string."""
    return recent_errors[-1] if recent_errors else ""


def load_error() -> str:
    """Return why a model was not loaded; its last line says only that it was not."""
    for line in reversed(recent_errors):
        _, found, reason = line.partition("error loading model: ")
        if found:
            return reason
    return last_error()
