"""The memory that a container or a service may use: cgroup v2 and v1."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from engram_local.sizing.mounts import Mount, mounts


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """The tightest limits between this process's group and the root."""

    limit_bytes: int
    free_bytes: int
    """Until a limit is reached. Pages of files count as free: the kernel drops them
    first, also those that were used twice, as a model's that was loaded before."""


class _Files(NamedTuple):
    limit: str
    used: str
    pages: frozenset[str]
    """The lines of memory.stat that count pages of files."""


_V2 = _Files(
    "memory.max", "memory.current", frozenset({"active_file", "inactive_file"})
)
_V1 = _Files(
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    frozenset({"total_active_file", "total_inactive_file"}),
)


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """Return what limits this process's memory; None where nothing does.

    root: the folder that holds proc/ and sys/.
    """
    groups = [*_folders(root, "cgroup2", _V2), *_folders(root, "cgroup", _V1)]
    found = [limit for folder, files in groups if (limit := _limit(folder, files))]
    if not found:
        return None
    return MemoryLimit(
        limit_bytes=min(limit.limit_bytes for limit in found),
        free_bytes=min(limit.free_bytes for limit in found),
    )


def _folders(root: Path, kind: str, files: _Files) -> list[tuple[Path, _Files]]:
    """Return the folders of this process's group and of all groups around it."""
    path = _group(root, kind)
    for mount in mounts(root):
        if path is None or mount.file_system != kind or not _has_memory(mount, kind):
            continue
        base = root / mount.point.relative_to("/")
        inside = _inside(path, mount.root)
        return [(base / part, files) for part in (inside, *inside.parents)]
    return []


def _has_memory(mount: Mount, kind: str) -> bool:
    return kind == "cgroup2" or "memory" in mount.options


def _group(root: Path, kind: str) -> PurePosixPath | None:
    """Return the path of this process's group; v2 names no controllers."""
    with suppress(OSError):
        text = (root / "proc/self/cgroup").read_text("utf-8", "replace")
        for line in text.splitlines():
            controllers, _, path = line.partition(":")[2].partition(":")
            names = controllers.split(",")
            wanted = names == [""] if kind == "cgroup2" else "memory" in names
            if wanted and path.startswith("/"):
                return PurePosixPath(path)
    return None


def _inside(path: PurePosixPath, mounted: PurePosixPath) -> PurePosixPath:
    """Return a group's path below the mount, whose own root may be a group."""
    with suppress(ValueError):
        path = path.relative_to(mounted)
        if ".." not in path.parts:
            return path
    return PurePosixPath(".")  # of another namespace: the mount is all there is to see


def _limit(folder: Path, files: _Files) -> MemoryLimit | None:
    limit = _number(folder / files.limit)
    if limit is None:
        return None
    used = max(
        0, (_number(folder / files.used) or 0) - _file_pages(folder, files.pages)
    )
    return MemoryLimit(limit_bytes=limit, free_bytes=max(0, limit - used))


def _number(path: Path) -> int | None:
    """Return a file's count of bytes; None for "max", garbage and no file."""
    with suppress(OSError, ValueError):
        number = int(path.read_text("utf-8", "replace"))
        return number if number >= 0 else None
    return None


def _file_pages(folder: Path, names: frozenset[str]) -> int:
    with suppress(OSError, ValueError):
        text = (folder / "memory.stat").read_text("utf-8", "replace")
        words = [line.partition(" ") for line in text.splitlines()]
        return sum(max(0, int(number)) for name, _, number in words if name in names)
    return 0
