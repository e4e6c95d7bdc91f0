"""What is typed on the size screen -> a sizing report. For threads of their own."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from engram_local import __version__
from engram_local.errors import FileError, UsageError
from engram_local.units import parse_bytes

if TYPE_CHECKING:
    from engram_local.hardware import Hardware
    from engram_local.model_spec import ModelSpec
    from engram_local.sizing.report import Report
    from engram_local.sizing.request import Request

Look = Callable[[Path], "Hardware"]
"""Gives the computer, with the drive of a path."""

EXPORTS = (".md", ".json", ".html", ".csv", ".txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is asked, as it was typed; empty = the default."""

    model: str
    """A file, a name that `ls` shows, or a card; empty = the default model."""

    n_ctx: str = ""
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    tier: str = ""
    gpu: str = ""
    """Names with commas between them, or "none"."""

    ram: str = ""

    @property
    def command(self) -> str:
        """The command line that says the same."""
        flags = (
            ("-c", self.n_ctx, ""),
            ("-ctk", self.cache_type_k, "f16"),
            ("-ctv", self.cache_type_v, "f16"),
            ("--memory-tier", self.tier, ""),
            *(("--gpu", name, "") for name in self.gpus),
            ("--ram", self.ram, ""),
        )
        words = [
            word
            for flag, text, usual in flags
            if text != usual
            for word in (flag, text)
        ]
        return shlex.join(["engram-local", "size", *filter(None, [self.model]), *words])

    @property
    def gpus(self) -> tuple[str, ...]:
        """The names of GPUs."""
        return tuple(name.strip() for name in self.gpu.split(",") if name.strip())


def make_report(wishes: Wishes, look: Look) -> Report:
    """Return the report on one model, as `engram-local size` makes it.

    Takes 0.1 to 0.3 s. Raises EngramError that says what was typed wrong.
    """
    from engram_local.sizing.assume import assume_drive
    from engram_local.sizing.given import Given, apply
    from engram_local.sizing.report import Report, report_model

    given = Given(gpus=wishes.gpus or None, ram_bytes=_ram_bytes(wishes.ram))
    request = _request(wishes)
    spec = find_spec(wishes.model)
    hardware = assume_drive(apply(look(Path(spec.origin)), given))
    return Report(
        hardware=hardware,
        request=request,
        models=(report_model(spec, request, hardware),),
        date=today(),
        command=wishes.command,
        version=__version__,
    )


def verdict_of(model: Path, look: Look) -> str:
    """Return whether a model fits as `run` takes it, in a line. Raises EngramError."""
    from engram_local.sizing.assume import assume_drive
    from engram_local.sizing.choice import choose_plan
    from engram_local.sizing.render.sections import verdict_line
    from engram_local.sizing.request import Request
    from engram_local.sizing.verdict import judge

    spec, request = find_spec(str(model)), Request()
    hardware = assume_drive(look(model))
    plan = choose_plan(spec, request, hardware)
    return verdict_line(spec, plan, judge(spec, plan, request, hardware))


def find_spec(word: str) -> ModelSpec:
    """Return the model of a file, a card's name, or a name that `ls` shows.

    Empty = the default model. Raises FileError.
    """
    from engram_local.catalog import default_model
    from engram_local.model_files import find_model_files, resolve_name
    from engram_local.sizing.sources import open_spec

    word = word or str(default_model())
    try:
        return open_spec(word)
    except FileError:
        try:
            path = resolve_name(word, find_model_files())
        except FileError:
            path = None
        if path is None or str(path) == word:
            raise
    return open_spec(str(path))


def write_report(report: Report, path: Path) -> None:
    """Write a report in the format of the file's ending; never over another file.

    Raises UsageError for an ending that is none, FileError where that is not possible.
    """
    content = _as_text(report, path.suffix.lower())
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError as error:
        raise FileError(f"{path} is there already", hint="name another") from error
    except OSError as error:
        raise FileError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="name a file in a folder that exists and may be written",
        ) from error


def _as_text(report: Report, ending: str) -> str:
    if ending == ".md":
        from engram_local.sizing.render.markdown import render_markdown

        return render_markdown(report)
    if ending == ".json":
        from engram_local.sizing.render.json_report import render_json

        return render_json(report) + "\n"
    if ending == ".html":
        from engram_local.sizing.render.html_page import render_html

        return render_html(report)
    if ending == ".csv":
        from engram_local.sizing.render.csv_grid import render_csv

        return render_csv(report)
    if ending == ".txt":
        from engram_local.sizing.render.text import render_text

        return render_text(report)
    raise UsageError(
        f"{ending!r} is no format", hint=f"it is one of {', '.join(EXPORTS)}"
    )


def today() -> str:
    """Return the date of a report."""
    return date.today().isoformat()


def _request(wishes: Wishes) -> Request:
    from engram_local.sizing.request import Request, Tier

    return Request(
        n_ctx=_number(wishes.n_ctx),
        cache_type_k=wishes.cache_type_k,
        cache_type_v=wishes.cache_type_v,
        tier=Tier(wishes.tier) if wishes.tier else None,
    )


def _number(text: str) -> int | None:
    digits = text.replace(",", "").strip()
    if not digits:
        return None
    if not digits.isascii() or not digits.isdigit():
        raise UsageError(
            f"{text!r} is no number of tokens",
            hint="0 is what the model was trained for",
        )
    return int(digits[:12])


def _ram_bytes(text: str) -> int | None:
    try:
        return parse_bytes(text) if text.strip() else None
    except ValueError as error:
        raise UsageError(str(error)) from None
