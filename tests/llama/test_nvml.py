"""NVIDIA's driver, faked: whatever it answers, nothing fails."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from engram_local.llama import nvml
from engram_local.llama.nvml import Cards, cards

ERROR = 999


class Driver:
    """The functions of libnvidia-ml that are called."""

    def __init__(self, *names: bytes, failing: str = "") -> None:
        self.names, self.failing = names, failing
        self.is_open = False

    def _result(self, name: str) -> int:
        return ERROR if name == self.failing else 0

    def nvmlInit_v2(self) -> int:
        self.is_open = self._result("init") == 0
        return self._result("init")

    def nvmlShutdown(self) -> int:
        self.is_open = False
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len(self.names)
        return self._result("count")

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:
        handle._obj.value = index + 1
        return self._result("handle")

    def nvmlDeviceGetName(self, handle: Any, buffer: Any, size: Any) -> int:
        buffer.value = self.names[handle.value - 1][: size.value - 1]
        return self._result("name")

    def nvmlSystemGetDriverVersion(self, buffer: Any, size: Any) -> int:
        buffer.value = b"570.86.10"
        return self._result("driver")


def install(monkeypatch: pytest.MonkeyPatch, driver: object) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)


def test_cards_and_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(b"NVIDIA L4", b"NVIDIA GeForce RTX 3090")
    install(monkeypatch, driver)
    names = ("NVIDIA L4", "NVIDIA GeForce RTX 3090")
    assert cards() == Cards(driver="570.86.10", names=names)
    assert not driver.is_open


@pytest.mark.parametrize("failing", ["init", "count"])
def test_a_driver_that_fails_has_no_cards(
    monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    driver = Driver(b"NVIDIA L4", failing=failing)
    install(monkeypatch, driver)
    assert cards() is None
    assert not driver.is_open


@pytest.mark.parametrize("failing", ["handle", "name"])
def test_a_card_that_does_not_answer_is_counted(
    monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    install(monkeypatch, Driver(b"NVIDIA L4", failing=failing))
    found = cards()
    assert found is not None and found.names == ("NVIDIA card",)


def test_an_old_driver_without_these_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, object())
    assert cards() is None


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_LIBRARY", "libnone-of-this-name.so")
    assert cards() is None
