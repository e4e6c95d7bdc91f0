"""How the app is started: what the command line says, resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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
    """The id of a session to go on with; None = a new one."""

    sampling: Mapping[str, Any] = field(default_factory=dict)
    """What flags say of sampling; stronger than the session's own settings."""

    system: str | None = None
    """System prompt; None = the session's, or the model's own."""

    keep: bool = True
    """False: nothing of what is said is written down."""

    theme: str | None = None
    """Before the config file's."""
