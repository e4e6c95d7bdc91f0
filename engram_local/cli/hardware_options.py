"""Flags that describe a computer: the one that a model is sized for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from engram_local.errors import UsageError
from engram_local.units import parse_bytes

if TYPE_CHECKING:
    from engram_local.sizing.given import Given

_GIGA = 1e9


def add_hardware_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to compute for in place of this computer."""
    group = parser.add_argument_group("hardware (default: this computer's)")
    group.add_argument(
        "--gpu",
        action="append",
        metavar="NAME",
        help='"RTX 4090", "2x RTX 3090", none; may be given more than once',
    )
    group.add_argument("--vram", metavar="SIZE", help="memory of each GPU: 24G")
    group.add_argument(
        "--cores", type=int, metavar="N", help="physical ones, of a common processor"
    )
    group.add_argument("--ram", metavar="SIZE", help="system memory: 64G")
    group.add_argument("--ram-kind", metavar="NAME", help='"DDR5-5600": two channels')
    group.add_argument("--ram-gbps", type=float, metavar="GB/S", help="its speed")
    group.add_argument(
        "--disk-kind", metavar="NAME", help='"PCIe 4 NVMe", "SATA SSD", "HDD"'
    )
    group.add_argument(
        "--disk-iops", type=float, metavar="N", help="random 4 KiB reads per second"
    )
    group.add_argument(
        "--disk-gbps", type=float, metavar="GB/S", help="sequential reads"
    )


def given_of(args: argparse.Namespace) -> Given:
    """Return what the flags say. Raises UsageError for what cannot be."""
    from engram_local.sizing.given import Given  # psutil and data sheets

    return Given(
        gpus=None if args.gpu is None else tuple(args.gpu),
        vram_bytes=_bytes("--vram", args.vram),
        n_cores=args.cores,
        ram_bytes=_bytes("--ram", args.ram),
        ram_kind=args.ram_kind,
        ram_bytes_per_s=_per_s(args.ram_gbps),
        disk_kind=args.disk_kind,
        disk_reads_per_s=args.disk_iops,
        disk_bytes_per_s=_per_s(args.disk_gbps),
    )


def _bytes(flag: str, text: str | None) -> int | None:
    try:
        return None if text is None else parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def _per_s(gb_per_s: float | None) -> float | None:
    return None if gb_per_s is None else gb_per_s * _GIGA
