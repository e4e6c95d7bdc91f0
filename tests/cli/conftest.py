"""What tests of commands share."""

from __future__ import annotations

from typing import Any

import pytest

from engram_local.cli import options
from tests.cli.fakes import FakeEngine, Open


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Put a scripted engine in place of the real one."""

    def open_fake(**script: Any) -> FakeEngine:
        engine = FakeEngine(**script)
        monkeypatch.setattr(options, "open_engine", lambda *_: engine)
        return engine

    return open_fake
