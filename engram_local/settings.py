"""Settings: flags > environment > config file > defaults. Unknown keys are refused.

Every field may stand in the config file under its own name, and in the environment as
`ENGRAM_LOCAL_` + its name in capitals. The config file's table `tui` is the chat app's.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil

from engram_local.errors import FileError, UsageError

ENV_PREFIX = "ENGRAM_LOCAL_"
TIERS = ("auto", "ram", "mmap", "direct")
MEMORY_WEIGHTS = ("int8", "bf16", "f32")
FLASH_ATTENTION = ("auto", "on", "off")
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a model is run. `None` stands for a default that depends on the machine."""

    n_ctx: int = 4096
    """Context length; never more than the model was trained for, 0 = all of that."""

    n_batch: int = 512
    """Prompt tokens per decode call."""

    n_ubatch: int = 512
    """Of those, tokens computed at once; never more than `n_batch`."""

    n_threads: int | None = None
    """None = physical cores that this process may use."""

    n_gpu_layers: int | None = None
    """None = all, where the build of llama.cpp has a GPU."""

    n_cpu_moe: int = 0
    """Layers, from the first on, whose experts stay in RAM; without a GPU nothing."""

    flash_attention: str = "auto"
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    memory_tier: str = "auto"
    """Where the table is read from: ram, mmap, direct. auto = mmap, but that the
    command line takes ram for a model's own table where there is room for it."""

    prefetch: bool = True
    """False: rows are read when the forward pass asks for them."""

    mlock: bool = False
    """True: a model's own table is locked in RAM, or the model is refused; in the tier
    ram only."""

    verify_rows: bool = False
    """True: what llama.cpp gathers from a model's own table is compared with ours."""

    memory_weights: str = "int8"
    """How the memory's projections are kept: int8, bf16, or f32 as in the file."""

    reference: bool = False
    """True: the memory in plain numpy, slow and obvious, for comparison."""

    temperature: float = 0.8
    """0 = always the most likely token."""

    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int | None = None
    """None = another one every time."""

    max_tokens: int = -1
    """Tokens to generate at most; negative = until the model ends or the context is
    full."""

    def __post_init__(self) -> None:
        _within("n_ctx", self.n_ctx, 0, 2**31 - 1)
        _within("n_batch", self.n_batch, 1, 2**20)
        _within("n_ubatch", self.n_ubatch, 1, 2**20)
        _within("n_threads", self.n_threads, 1, 1024)
        _within("n_cpu_moe", self.n_cpu_moe, 0, 1024)
        _within("temperature", self.temperature, 0, 100)
        _within("top_k", self.top_k, 0, 2**31 - 1)
        _within("top_p", self.top_p, 0, 1)
        _within("min_p", self.min_p, 0, 1)
        _within("seed", self.seed, 0, 2**32 - 2)
        _one_of("memory_tier", self.memory_tier, TIERS)
        _one_of("memory_weights", self.memory_weights, MEMORY_WEIGHTS)
        _one_of("flash_attention", self.flash_attention, FLASH_ATTENTION)
        _one_of("cache_type_k", self.cache_type_k, CACHE_TYPES)
        _one_of("cache_type_v", self.cache_type_v, CACHE_TYPES)
        if self.mlock and self.memory_tier != "ram":
            raise UsageError(
                f"mlock locks a table in RAM, memory_tier is {self.memory_tier!r}",
                hint="add --memory-tier ram, or leave --mlock out",
            )
        if self.flash_attention == "off" and self.cache_type_v.startswith("q"):
            raise UsageError(
                f"cache_type_v {self.cache_type_v} needs flash attention, which is off",
                hint="use -fa on, or -ctv f16",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TuiSettings:
    """The table `tui` of the config file: how the chat app looks and is driven."""

    theme: str | None = None
    """None = the app's own."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys, separated by commas, by what they do: `"chat.copy" = "ctrl+y"`."""


def resolve(
    flags: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings for the given flags; a flag that is None was not given.

    defaults: in place of this module's own, weaker than all that the user says.
    Raises UsageError for an unknown key or a value out of range, FileError for a
    config file that cannot be read.
    """
    path = config_path(environ)
    values = dict(defaults or {}) | _known_values(_from_file(path), path)
    values |= _from_environment(environ)
    values |= {key: value for key, value in flags.items() if value is not None}
    return Settings(**values)


def resolve_tui(environ: Mapping[str, str] = os.environ) -> TuiSettings:
    """Return what the config file says about the chat app.

    Whether its theme and its keys exist, the app knows. Raises UsageError for an
    unknown key or a value of another type, FileError for a file that cannot be read.
    """
    path = config_path(environ)
    table = _table(_from_file(path).get(_TUI, {}), _TUI, path)
    known = [one.name for one in fields(TuiSettings)]
    for key in table:
        if key not in known:
            raise UsageError(
                f"{path} sets {_TUI}.{key}, which is no setting",
                hint=f"known are {', '.join(f'{_TUI}.{name}' for name in known)}",
            )
    theme = table.get("theme")
    if theme is not None and not isinstance(theme, str):
        raise UsageError(f"{path} sets {_TUI}.theme to {theme!r}, which is no str")
    return TuiSettings(theme=theme, keys=_keys(table.get("keys", {}), path))


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the config file lies, whether it exists or not."""
    base = environ.get("XDG_CONFIG_HOME")
    folder = Path(base) if base else Path.home() / ".config"
    return folder / "engram-local" / "config.toml"


def default_threads() -> int:
    """Return the least of physical cores, allowed processors and the cgroup's quota.

    More threads than that wait for each other by spinning.
    """
    logical = os.cpu_count() or 1
    allowed = len(psutil.Process().cpu_affinity()) if _HAS_AFFINITY else logical
    physical = psutil.cpu_count(logical=False) or logical
    return max(1, min(allowed, physical, _cgroup_cpus() or logical))


def _cgroup_cpus() -> int | None:
    """Return the processors that a container may use; None where nothing is set."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return None


_HAS_AFFINITY = hasattr(psutil.Process, "cpu_affinity")  # not on macOS
_FIELDS = {one.name: one.type for one in fields(Settings)}
_TUI = "tui"


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error


def _known_values(values: dict[str, Any], path: Path) -> dict[str, Any]:
    values = {key: value for key, value in values.items() if key != _TUI}
    for key, value in values.items():
        _check_known(key, str(path))
        _check_type(key, value, str(path))
    return values


def _keys(table: object, path: Path, prefix: str = "") -> dict[str, str]:
    """Return keys by action; TOML makes tables of actions with a dot, unquoted."""
    found: dict[str, str] = {}
    for name, value in _table(table, f"{_TUI}.keys", path).items():
        if isinstance(value, str):
            found[prefix + name] = value
        else:
            found |= _keys(value, path, f"{prefix}{name}.")
    return found


def _table(value: object, name: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path} sets {name} to {value!r}, which is no table")
    return value


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX):
            key = name.removeprefix(ENV_PREFIX).lower()
            _check_known(key, f"the environment ({name})")
            values[key] = parse(key, text, name)
    return values


def _check_known(key: str, where: str) -> None:
    if key not in _FIELDS:
        raise UsageError(
            f"{where} sets {key}, which is no setting",
            hint=f"known are {', '.join(_FIELDS)}",
        )


def _check_type(key: str, value: object, where: str) -> None:
    wanted = {"int": int, "float": float, "bool": bool, "str": str}[_kind(key)]
    fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
    if not fits or (wanted is not bool and isinstance(value, bool)):
        raise UsageError(f"{where} sets {key} to {value!r}, which is no {_kind(key)}")


def parse(key: str, text: str, name: str) -> Any:
    """Return the value of a setting from its text; raise UsageError if it is none.

    name: what the setting is called where the text comes from. The range is checked by
    Settings.
    """
    kind = _kind(key)
    try:
        if kind == "bool":
            return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        raise UsageError(f"{name} is {text!r}, which is no {kind}") from None


def _kind(key: str) -> str:
    return str(_FIELDS[key]).removesuffix(" | None")


def _within(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise UsageError(f"{name} is {value}, {low} to {high} are possible")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{name} is {value!r}, possible are {', '.join(known)}")
