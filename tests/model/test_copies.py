"""Copies to a device, with the processor as the device."""

from __future__ import annotations

import pytest

from engram_local.errors import BackboneError
from engram_local.llama.copies import measure_copies
from engram_local.units import MIB, TIB

pytestmark = pytest.mark.model


def test_copies_have_a_rate() -> None:
    rate = measure_copies("CPU", n_bytes=8 * MIB, n_rounds=2)
    assert 1e8 < rate < 1e13  # slower than a drive, faster than any memory: not a copy


def test_a_device_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(BackboneError, match=r"no device CUDA99, but .*CPU"):
        measure_copies("CUDA99")


def test_more_than_a_device_has_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing of it is touched: the array is not made, and ggml gives no buffer.
    monkeypatch.setattr("numpy.ones", lambda *_: None)
    with pytest.raises(BackboneError, match="left"):
        measure_copies("CPU", n_bytes=1000 * TIB)
