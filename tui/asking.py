"""Requests of which one event is the answer."""

from __future__ import annotations

from typing import TypeVar

from engram_local.worker.protocol import Event, Request
from tui.engine_link import EngineLink

Answer = TypeVar("Answer")


async def answer_to(
    link: EngineLink, request: Request, kind: type[Answer]
) -> Answer | None:
    """Do a request; return its last event of a class, None if there was none.

    Raises what `EngineLink.ask` does.
    """
    answer: Answer | None = None
    async for event in link.ask(request):
        answer = _as(event, kind) or answer
    return answer


def _as(event: Event, kind: type[Answer]) -> Answer | None:
    return event if isinstance(event, kind) else None
