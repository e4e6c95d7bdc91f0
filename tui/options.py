"""How the app is started: what the command line says, resolved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engram_local.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class TuiOptions:
    """What to open first."""

    model: Path | None
    """None = the default model."""

    memory: Path | Literal["auto"] | None
    """A file; "auto" = one that fits; None = without."""

    settings: Settings
    fit: bool = True
    """False: load it even if it does not seem to fit."""

    session: str | None = None
    """The id of a session to go on with."""

    resume: bool = False
    """True: go on with the newest session."""

    theme: str | None = None
    """Before the config file's."""
