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


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Arms that are compared with each other."""

    base: Arm
    """Always runs: what all others are set against."""

    again: Arm
    """The same once more: what it differs by is the noise."""

    default: tuple[Arm, ...]
    """Those that run where none is named."""

    cold: tuple[Arm, ...]
    """Those that --cold adds."""

    slow: frozenset[str] = frozenset()
    """Arms whose distance to `base` the others are to close."""

    def choose(
        self, names: Sequence[str] | None, *, cold: bool = False
    ) -> tuple[Arm, ...]:
        """Return the arms that are measured beside `base` and `again`.

        names: None = those of `default`. cold: those of `cold`, too. Raises UsageError
        for a name that is none.
        """
        always = (self.base.name, self.again.name)
        named = [name for name in names or () if name not in always]
        chosen = self.default if names is None else tuple(map(self._arm, named))
        added = self.cold if cold else ()
        return tuple(dict.fromkeys((*chosen, *added)))

    def _arm(self, name: str) -> Arm:
        known = {arm.name: arm for arm in (*self.default, *self.cold)}
        if name not in known:
            raise UsageError(
                f"there is no arm {name!r}", hint=f"known are {', '.join(known)}"
            )
        return known[name]


ATTACHED = Suite(
    base=Arm(name="none"),
    again=Arm(name="none again"),
    default=(
        Arm(name="mmap", tier="mmap"),
        Arm(name="mmap no prefetch", tier="mmap", prefetch=False),
        Arm(name="ram", tier="ram"),
        Arm(name="direct", tier="direct"),
        Arm(name="reference", tier="mmap", reference=True),
    ),
    cold=(
        Arm(name="mmap cold", tier="mmap", cold=True),
        Arm(name="mmap cold no prefetch", tier="mmap", prefetch=False, cold=True),
        Arm(name="direct cold", tier="direct", cold=True),
    ),
)
"""A memory beside a model, against the model without it."""

_LAZY = Arm(name="llama.cpp lazy", tier="mmap", prefetch=False)
_LAZY_COLD = replace(_LAZY, name="llama.cpp lazy cold", cold=True)
_MMAP = Arm(name="mmap", tier="mmap")
_MMAP_COLD = replace(_MMAP, name="mmap cold", cold=True)

NATIVE = Suite(
    base=Arm(name="resident", tier="ram"),
    again=Arm(name="resident again", tier="ram"),
    default=(_LAZY, _MMAP),
    cold=(_LAZY_COLD, _MMAP_COLD),
    slow=frozenset({_LAZY.name, _LAZY_COLD.name}),
)
"""A model with a table of its own: all of it in RAM, read lazily by llama.cpp alone,
and the same with our reading ahead."""

NATIVE_ON_DRIVE = Suite(
    base=_LAZY_COLD,
    again=replace(_LAZY_COLD, name="llama.cpp lazy cold again"),
    default=(_MMAP_COLD,),
    cold=(_MMAP_COLD,),
)
"""The same where the table does not fit into RAM."""
