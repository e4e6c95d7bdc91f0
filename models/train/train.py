"""Train a memory for a frozen backbone, on the CPU.

`python -m models.train.train --model GGUF --chats FILE... --handbook DIR --work DIR`

Every epoch ends with a checkpoint, an evaluation and a memory file that can be run. Run
again with the same arguments, it goes on after the last finished epoch.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engram_local.formats.header import Header, read_header
from models.train.backbone import Backbone, load_backbone
from models.train.data import (
    Batch,
    Data,
    Judged,
    Sizes,
    load_data,
    load_judged,
    split_terms,
)
from models.train.examples import Tokenizer
from models.train.export import export, new_memory
from models.train.losses import NO_PREFIX, batch_loss, mean_nll, run_prefix
from models.train.memory import Memory

_WARM_UP_STEPS = 40
_LAST_RATE = 0.05  # of the first
_LOG_STEPS = 10
_MOST_WEIGHT = 1.0  # of chats and general text: beyond it, terms are hardly learned


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a memory is trained."""

    n_epochs: int
    row_rate: float = 0.01
    rate: float = 0.002
    clip: float = 1.0
    guard_weight: float = 0.5
    """Of chats and of general text in the loss; a term's answer counts 1."""

    guard_limit: float = 0.01
    """The weight doubles when validation text gets worse by more than this share."""

    seed: int = 0


class Trainer:
    """Owns the memory, its optimizers and the files in the work folder."""

    def __init__(
        self, backbone: Backbone, header: Header, data: Data, options: Options
    ) -> None:
        torch.manual_seed(options.seed)
        self.backbone, self.data, self.options = backbone, data, options
        self.header, self.sizes = header, Sizes()
        self.memory = new_memory(header)
        tables = [layer.table.weight for layer in self.memory.memory_layers()]
        self._small = [
            weight
            for name, weight in self.memory.named_parameters()
            if not name.endswith("table.weight")
        ]
        self._optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.SparseAdam(tables, options.row_rate), options.row_rate),
            (torch.optim.AdamW(self._small, options.rate), options.rate),
        ]
        self.guard_weight = options.guard_weight
        self.n_done = 0
        """Finished epochs."""

    @property
    def n_steps(self) -> int:
        """Steps of the whole training."""
        return self.data.n_steps(self.sizes) * self.options.n_epochs

    def step(self, batch: Batch, number: int) -> dict[str, float]:
        """Learn from one batch; `number` counts from the start of the training."""
        for optimizer, rate in self._optimizers:
            optimizer.param_groups[0]["lr"] = rate * self._rate_share(number)
            optimizer.zero_grad()
        loss, parts = self._loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._small, self.options.clip)
        for optimizer, _ in self._optimizers:
            optimizer.step()
        return parts

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        backbone, memory = self.backbone, self.memory
        prefix = run_prefix(self.data.prefix_ids, backbone, memory)
        terms = batch_loss(batch.terms, prefix, backbone, memory)
        chats = batch_loss(batch.chats, prefix, backbone, memory)
        windows = batch_loss(batch.windows, NO_PREFIX, backbone, memory)
        parts = {
            "terms": float(terms.mean.detach()),
            "chats": float(chats.mean.detach()),
            "windows": float(windows.mean.detach()),
            "gate_terms": terms.gate,
            "gate_chats": chats.gate,
            "gate_windows": windows.gate,
        }
        return terms.mean + self.guard_weight * (chats.mean + windows.mean), parts

    def _rate_share(self, number: int) -> float:
        """Warm-up, then half a cosine."""
        share = 0.5 + 0.5 * math.cos(math.pi * number / self.n_steps)
        share = _LAST_RATE + (1 - _LAST_RATE) * share
        return share * min(1.0, (number + 1) / _WARM_UP_STEPS)

    def save(self, path: Path) -> None:
        """Write everything that `load` needs, or nothing."""
        state = {
            "memory": self.memory.state_dict(),
            "optimizers": [each.state_dict() for each, _ in self._optimizers],
            "n_done": self.n_done,
            "guard_weight": self.guard_weight,
            "options": asdict(self.options),
        }
        part = path.with_name(path.name + ".part")
        torch.save(state, part)
        os.replace(part, path)

    def load(self, path: Path) -> None:
        """Go on where `save` was called; only the number of epochs may differ."""
        state: dict[str, Any] = torch.load(path, weights_only=True)
        before = Options(**state["options"])
        if replace(before, n_epochs=self.options.n_epochs) != self.options:
            raise ValueError(f"{path} was made with {before}")
        self.memory.load_state_dict(state["memory"])
        for (optimizer, _), saved in zip(
            self._optimizers, state["optimizers"], strict=True
        ):
            optimizer.load_state_dict(saved)
        self.n_done = state["n_done"]
        self.guard_weight = min(state["guard_weight"], _MOST_WEIGHT)


class Log:
    """One JSON object a line in a file, a short sentence on stderr."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = time.monotonic()

    def write(self, kind: str, **fields: object) -> None:
        """Append one line."""
        elapsed_s = round(time.monotonic() - self._start, 1)
        line = json.dumps({"kind": kind, "elapsed_s": elapsed_s, **fields})
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, file=sys.stderr, flush=True)


def evaluate(
    backbone: Backbone, memory: Memory | None, data: Data, judged: Judged
) -> dict[str, tuple[float, float]]:
    """Return (mean NLL, mean gate) of each kind of text."""
    none, prefix = data.prefix_ids[:0], data.prefix_ids
    kinds = {
        "trained": (judged.trained, prefix),
        "heldout": (judged.heldout, prefix),
        "general": (judged.general, none),
        "everyday": (judged.everyday, none),
        "validation_chats": (data.validation_chats, prefix),
        "validation_windows": (data.validation_windows, none),
    }
    return {
        kind: mean_nll(examples, ids, backbone, memory)
        for kind, (examples, ids) in kinds.items()
    }


def run(trainer: Trainer, judged: Judged, work: Path) -> None:
    """Train epoch by epoch until all are done."""
    log, checkpoint = Log(work / "log.jsonl"), work / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    log.write("start", n_done=trainer.n_done, options=asdict(trainer.options))
    plain = evaluate(trainer.backbone, None, trainer.data, judged)
    log.write("off", **plain)
    while trainer.n_done < trainer.options.n_epochs:
        _run_epoch(trainer, log)
        found = evaluate(trainer.backbone, trainer.memory, trainer.data, judged)
        _guard(trainer, plain, found)
        trainer.n_done += 1
        trainer.save(checkpoint)
        path = work / f"memory-epoch{trainer.n_done}.gguf"
        export(trainer.memory, trainer.header, path)
        log.write("epoch", n_done=trainer.n_done, weight=trainer.guard_weight, **found)


def _run_epoch(trainer: Trainer, log: Log) -> None:
    n_steps, start_s = trainer.data.n_steps(trainer.sizes), time.monotonic()
    first = trainer.n_done * n_steps
    for number, batch in enumerate(trainer.data.epoch(trainer.n_done, trainer.sizes)):
        parts = trainer.step(batch, first + number)
        if number % _LOG_STEPS == _LOG_STEPS - 1 or number == n_steps - 1:
            step_s = (time.monotonic() - start_s) / (number + 1)
            left = trainer.n_steps - first - number - 1
            rounded = {name: round(value, 3) for name, value in parts.items()}
            log.write(
                "step",
                step=first + number + 1,
                step_s=round(step_s, 2),
                eta_s=round(left * step_s),
                **rounded,
            )


def _guard(
    trainer: Trainer,
    plain: dict[str, tuple[float, float]],
    found: dict[str, tuple[float, float]],
) -> None:
    """Give general text more weight if the memory makes it worse."""
    for kind in ("validation_windows", "validation_chats"):
        if found[kind][0] > plain[kind][0] * (1 + trainer.options.guard_limit):
            trainer.guard_weight = min(2 * trainer.guard_weight, _MOST_WEIGHT)
            return


def make_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="backbone GGUF")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--handbook", type=Path, required=True, help="HTML, en-US")
    parser.add_argument("--chats", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True, help="for all output")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--terms", type=int, help="only the first so many, for a try")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the command line."""
    args = make_parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer, header = Tokenizer(args.model), read_header(args.model)
    data = load_data(
        tokenizer,
        terms=split_terms(args.wordnet)[0][: args.terms],
        chats=args.chats,
        handbook=args.handbook,
        sizes=Sizes(),
    )
    options = Options(n_epochs=args.epochs)
    trainer = Trainer(load_backbone(args.model), header, data, options)
    run(trainer, load_judged(tokenizer, args.terms), args.work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
