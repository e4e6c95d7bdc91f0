"""How much may be locked: limits, the capability, what is locked already."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import pytest

from engram_local import memlock
from engram_local.memlock import lockable_bytes, locked_bytes
from engram_local.units import KIB

resource = pytest.importorskip("resource")
HARD = 64 * KIB

Limits = Callable[..., list[tuple[int, int]]]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Put limits in place of this process's; return the list of those that are set."""

    def put(
        soft: int, hard: int, *, locked: int = 0, capability: bool = False
    ) -> list[tuple[int, int]]:
        held = [(soft, hard)]
        fields = {
            "VmLck": f"\t{locked // KIB:8} kB",
            "CapEff": f"\t{(1 << 14) * capability:016x}",
        }
        monkeypatch.setattr(resource, "getrlimit", lambda _: held[-1])
        monkeypatch.setattr(resource, "setrlimit", lambda _, new: held.append(new))
        monkeypatch.setattr(memlock, "_status_field", fields.get)
        return held

    return put


def test_the_soft_limit_is_raised_to_the_hard_one(limits: Limits) -> None:
    held = limits(KIB, HARD)
    assert lockable_bytes() == HARD
    assert held[-1] == (HARD, HARD)


def test_what_is_locked_already_counts(limits: Limits) -> None:
    limits(HARD, HARD, locked=16 * KIB)
    assert lockable_bytes() == HARD - 16 * KIB
    limits(HARD, HARD, locked=2 * HARD)
    assert lockable_bytes() == 0


def test_without_a_limit_anything_may_be_locked(limits: Limits) -> None:
    limits(KIB, resource.RLIM_INFINITY)
    assert lockable_bytes() == math.inf


def test_no_limit_holds_with_the_capability(limits: Limits) -> None:
    held = limits(KIB, HARD, capability=True)
    assert lockable_bytes() == math.inf
    assert len(held) == 1


def test_a_limit_that_cannot_be_raised_holds(
    limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(KIB, HARD)

    def refuse(*_: object) -> None:
        raise OSError("not permitted")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert lockable_bytes() == KIB


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_the_system_tells_what_is_locked() -> None:
    assert locked_bytes() == 0
    assert memlock._status_field("CapEff") is not None
    assert memlock._status_field("NoSuchField") is None
