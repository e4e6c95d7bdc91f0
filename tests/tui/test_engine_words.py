"""Why there is no engine, in words."""

from __future__ import annotations

from engram_local.errors import FileError
from tests.tui.fakes import MODEL, lost
from tui.engine_words import why_no_engine
from tui.state import EngineState


def test_there_is_a_reason_whenever_no_model_is_loaded() -> None:
    assert why_no_engine(EngineState(phase="ready", model=MODEL)) is None
    ended = EngineState(phase="lost", model=MODEL, error=lost())
    assert "F9 starts it again" in str(why_no_engine(ended))
    for phase in ("starting", "loading"):
        assert "being loaded" in str(why_no_engine(EngineState(phase=phase)))
    assert "F6" in str(why_no_engine(EngineState(phase="none")))


def test_what_went_wrong_is_said_and_what_to_do() -> None:
    error = FileError("\x1b.gguf does not exist", hint="name another")
    assert why_no_engine(EngineState(phase="none", error=error)) == (
        "No model is loaded:\n\\x1b.gguf does not exist\nname another"
    )
