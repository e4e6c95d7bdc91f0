"""The ways of running a model that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engram_local.errors import UsageError
from engram_local.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of running the model."""

    name: str
    tier: str | None = None
    """Where rows are read from; None = no memory."""

    prefetch: bool = True
    reference: bool = False
    cold: bool = False
    """The table is evicted from memory before every turn."""

    def settings(self, settings: Settings) -> Settings:
        """Return the settings of a worker of this arm."""
        if self.tier is None:
            return settings
        return replace(
            settings,
            memory_tier=self.tier,
            prefetch=self.prefetch,
            reference=self.reference,
        )


NONE = Arm(name="none")
NONE_AGAIN = Arm(name="none again")
"""The same once more: what it differs by is the noise."""

WARM_ARMS = (
    Arm(name="mmap", tier="mmap"),
    Arm(name="mmap no prefetch", tier="mmap", prefetch=False),
    Arm(name="ram", tier="ram"),
    Arm(name="direct", tier="direct"),
    Arm(name="reference", tier="mmap", reference=True),
)
COLD_ARMS = (
    Arm(name="mmap cold", tier="mmap", cold=True),
    Arm(name="mmap cold no prefetch", tier="mmap", prefetch=False, cold=True),
    Arm(name="direct cold", tier="direct", cold=True),
)
_CHOICES = {arm.name: arm for arm in (*WARM_ARMS, *COLD_ARMS)}


def choose_arms(names: Sequence[str] | None, *, cold: bool = False) -> tuple[Arm, ...]:
    """Return the arms with a memory that are measured; those without always are.

    names: None = all warm ones. cold: the cold ones too. Raises UsageError for a name
    that is none.
    """
    without = (NONE.name, NONE_AGAIN.name)
    named = [name for name in names or () if name not in without]
    chosen = WARM_ARMS if names is None else tuple(_arm(name) for name in named)
    added = COLD_ARMS if cold else ()
    return tuple(dict.fromkeys((*chosen, *added)))


def _arm(name: str) -> Arm:
    if name not in _CHOICES:
        raise UsageError(
            f"there is no arm {name!r}", hint=f"known are {', '.join(_CHOICES)}"
        )
    return _CHOICES[name]
