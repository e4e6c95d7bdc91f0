"""The GPUs that llama.cpp sees, with a fake registry and with the real one."""

from __future__ import annotations

from typing import Any

import pytest

from engram_local.errors import BackboneError
from engram_local.llama import devices, ggml
from engram_local.llama.devices import Kind, gpus
from engram_local.units import GIB

CPU, GPU, INTEGRATED, ACCELERATOR = range(4)


class Registry:
    """What ggml's libraries answer."""

    def __init__(self, *rows: tuple[bytes | None, bytes | None, int, int, int]) -> None:
        self.rows = rows

    def count(self) -> int:
        return len(self.rows)

    def get(self, index: int) -> int:
        return index

    def name(self, handle: int) -> bytes | None:
        return self.rows[handle][0]

    def text(self, handle: int) -> bytes | None:
        return self.rows[handle][1]

    def type(self, handle: int) -> int:
        return self.rows[handle][2]

    def memory(self, handle: int, free: Any, total: Any) -> None:
        free._obj.value, total._obj.value = self.rows[handle][3:]


def seen(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> list[devices.Device]:
    monkeypatch.setattr(devices, "_libraries", lambda: registry)
    return list(gpus())


def test_processors_and_their_helpers_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = seen(
        monkeypatch,
        Registry(
            (b"BLAS", b"OpenBLAS", ACCELERATOR, 0, 0),
            (b"CUDA0", b"NVIDIA GeForce RTX 4090", GPU, 20 * GIB, 24 * GIB),
            (b"CPU", b"AMD EPYC", CPU, 8, 8),
        ),
    )
    assert [(device.name, device.kind) for device in found] == [("CUDA0", Kind.GPU)]
    assert found[0].description == "NVIDIA GeForce RTX 4090"
    assert (found[0].free_bytes, found[0].total_bytes) == (20 * GIB, 24 * GIB)


def test_integrated_gpus_count_where_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As llama.cpp chooses: a model beside a card does not go to system RAM."""
    own = (b"Vulkan0", b"AMD Radeon RX 7900 XTX", GPU, 20 * GIB, 24 * GIB)
    shared = (b"Vulkan1", b"AMD Radeon Graphics", INTEGRATED, 8 * GIB, 16 * GIB)
    both = seen(monkeypatch, Registry(shared, own))
    assert [device.name for device in both] == ["Vulkan0"]
    (alone,) = seen(monkeypatch, Registry(shared))
    assert alone.kind is Kind.INTEGRATED


def test_names_may_be_missing_or_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    (device,) = seen(monkeypatch, Registry((None, b"\xff ", GPU, 0, 0)))
    assert (device.name, device.description) == ("", "\ufffd")


def test_never_more_is_free_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    (device,) = seen(monkeypatch, Registry((b"a", b"b", GPU, 9, 5)))
    assert device.free_bytes == 5


def test_the_real_registry_answers() -> None:
    for device in gpus():  # none on most machines that test
        assert device.name and 0 <= device.free_bytes <= device.total_bytes


def test_the_real_registry_knows_the_processor() -> None:
    libraries = devices._libraries()
    kinds = [libraries.type(libraries.get(index)) for index in range(libraries.count())]
    assert CPU in kinds


def test_a_library_that_is_gone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ggml, "library_path", lambda name="": "/no/such/library.so")
    with pytest.raises(BackboneError, match="cannot be loaded") as caught:
        gpus()
    assert "llama-cpp-python" in (caught.value.hint or "")


def test_a_library_without_these_functions_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = ggml.library_path()  # has the devices, not the registry
    monkeypatch.setattr(ggml, "library_path", lambda name="": path)
    with pytest.raises(BackboneError, match="ggml_backend_dev_count"):
        gpus()
