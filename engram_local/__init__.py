"""Run language models that carry an n-gram memory on one computer.

    from engram_local import Engine, TextChunk

    with Engine.open() as engine:
        for event in engine.generate([{"role": "user", "content": "What is a lemur?"}]):
            if isinstance(event, TextChunk):
                print(event.text, end="", flush=True)

Names are imported when they are first used, so that `--help` needs no llama.cpp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engram_local.engine import Engine
    from engram_local.errors import EngramError
    from engram_local.events import Event, Finished, PromptProgress, TextChunk
    from engram_local.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "Engine",
    "EngramError",
    "Event",
    "Finished",
    "PromptProgress",
    "Settings",
    "TextChunk",
    "__version__",
]

_HOMES = {
    "Engine": "engine",
    "EngramError": "errors",
    "Event": "events",
    "Finished": "events",
    "PromptProgress": "events",
    "Settings": "settings",
    "TextChunk": "events",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
