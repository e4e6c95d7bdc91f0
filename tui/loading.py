"""Load another model, from whatever screen; what is none is refused before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engram_local.errors import UsageError
from engram_local.local_models import require_model
from engram_local.model_files import find_model
from engram_local.worker.protocol import Open

if TYPE_CHECKING:
    from tui.app import EngramApp


async def load_model(app: EngramApp, named: Path) -> bool:
    """Load a file, or the model of that name, in place of the one that is loaded.

    Ends an answer that is being written. Returns False if the engine cannot load it:
    then none is loaded, and the state says why. Raises EngramError if it is no model:
    then all is as it was.
    """
    _require_not_loading(app)
    path = await asyncio.to_thread(_checked, named)
    _require_not_loading(app)
    if app.link.state.phase == "busy":
        app.link.cancel()
    options = replace(app.options, model=path, memory="auto")
    request = Open(
        model=str(path), memory="auto", settings=options.settings, fit=options.fit
    )
    if not await app.link.open(request):
        return False
    app.options = options
    return True


def _require_not_loading(app: EngramApp) -> None:
    if app.link.state.phase in ("starting", "loading"):
        raise UsageError("wait until what is being loaded now is there")


def _checked(named: Path) -> Path:
    path = find_model(named)
    require_model(path)
    return path
