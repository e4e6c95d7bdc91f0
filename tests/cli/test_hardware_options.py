"""Flags that describe a computer."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from engram_local.cli.hardware_options import add_hardware_arguments, given_of
from engram_local.errors import UsageError
from engram_local.sizing.given import Given
from engram_local.units import GIB


def given(*words: str) -> Given:
    parser = argparse.ArgumentParser()
    add_hardware_arguments(parser)
    return given_of(parser.parse_args(words))


def test_without_flags_nothing_is_given() -> None:
    assert given() == Given()


def test_all_flags() -> None:
    words = "--gpu|2x RTX 3090|--gpu|4090|--vram|24G|--ram|64GiB|--ram-kind|DDR5-5600"
    more = "--ram-gbps|80|--disk-kind|HDD|--disk-iops|60000|--disk-gbps|3.5"
    assert given(*words.split("|"), *more.split("|")) == Given(
        gpus=("2x RTX 3090", "4090"),
        vram_bytes=24 * GIB,
        ram_bytes=64 * GIB,
        ram_kind="DDR5-5600",
        ram_bytes_per_s=80e9,
        disk_kind="HDD",
        disk_reads_per_s=60_000,
        disk_bytes_per_s=3.5e9,
    )


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--vram", "much"),
        ("--vram", "-24G"),
        ("--vram", "0"),
        ("--ram", ""),
        ("--ram", "64 apples"),
        ("--ram", "9" * 500),
        ("--ram-gbps", "0"),
        ("--disk-iops", "nan"),
        ("--disk-gbps", "-3"),
    ],
)
def test_what_cannot_be_names_its_flag(flag: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag}"):
        given(f"{flag}={text}")


def test_declaring_flags_imports_nothing_heavy() -> None:
    code = (
        "import sys, argparse\n"
        "from engram_local.cli.hardware_options import add_hardware_arguments\n"
        "add_hardware_arguments(argparse.ArgumentParser())\n"
        "print([m for m in ('numpy', 'llama_cpp', 'psutil') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
