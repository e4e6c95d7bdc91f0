"""Batches of examples -> negative log-likelihood under backbone and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.train.backbone import Backbone, Past
from models.train.examples import Example, Ids
from models.train.memory import Injector, Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The tokens that all prompts of a batch share, computed once."""

    n_tokens: int
    past: Past | None = None
    histories: list[Tensor] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a batch gave."""

    mean: Tensor
    """Mean NLL of the learned tokens, natural log."""

    gate: float
    """Mean gate at those tokens, over the memory layers; 0 without memory."""

    n_tokens: int
    """Learned tokens."""


NO_PREFIX = Prefix(n_tokens=0)


def run_prefix(token_ids: Ids, backbone: Backbone, memory: Memory | None) -> Prefix:
    """Compute the keys, values and histories of a shared prefix: (n_tokens,)."""
    inject = Injector(memory, memory.row_ids([token_ids], 0)) if memory else None
    _, past = backbone.hidden(torch.from_numpy(token_ids)[None], inject)
    return Prefix(
        n_tokens=len(token_ids),
        past=past,
        histories=inject.histories if inject else None,
    )


def batch_loss(
    examples: Sequence[Example],
    prefix: Prefix,
    backbone: Backbone,
    memory: Memory | None,
) -> Loss:
    """Return the loss on the answers. Every example starts with the prefix."""
    inputs, targets, learned = _pad(examples, prefix.n_tokens)
    inject = None
    if memory:
        sequences = [example.token_ids[:-1] for example in examples]
        rows = memory.row_ids(sequences, prefix.n_tokens)
        inject = Injector(memory, rows, prefix.histories)
    hidden, _ = backbone.hidden(inputs, inject, prefix.past)
    mean = functional.cross_entropy(backbone.logits(hidden[learned]), targets[learned])
    gates = inject.gates if inject else []
    gate = sum(float(each.detach()[learned].mean()) for each in gates)
    return Loss(
        mean=mean,
        gate=gate / max(len(gates), 1),
        n_tokens=int(learned.sum()),
    )


def _pad(examples: Sequence[Example], skip: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, targets and which targets are learned: each (batch, n_tokens).

    Padding follows the sequence, so no real position ever sees it.
    """
    longest = max(len(example.token_ids) for example in examples) - skip
    token_ids = np.zeros((len(examples), longest), np.int64)
    learned = np.zeros((len(examples), longest), np.bool_)
    for line, example in enumerate(examples):
        own = example.token_ids[skip:]
        token_ids[line, : len(own)] = own
        learned[line, example.n_prompt - skip : len(own)] = True
    tensors = (token_ids[:, :-1], token_ids[:, 1:], learned[:, 1:])
    inputs, targets, mask = (torch.from_numpy(part) for part in tensors)
    return inputs, targets, mask


@torch.no_grad()
def mean_nll(
    examples: Sequence[Example],
    prefix_ids: Ids,
    backbone: Backbone,
    memory: Memory | None,
    batch_size: int = 32,
) -> tuple[float, float]:
    """Return mean NLL and mean gate over all learned tokens, without gradients."""
    prefix = NO_PREFIX
    if len(prefix_ids):
        prefix = run_prefix(prefix_ids, backbone, memory)
    ordered = sorted(examples, key=lambda example: len(example.token_ids))
    total, gates, n_tokens = 0.0, 0.0, 0
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        loss = batch_loss(batch, prefix, backbone, memory)
        total += float(loss.mean) * loss.n_tokens
        gates += loss.gate * loss.n_tokens
        n_tokens += loss.n_tokens
    return total / n_tokens, gates / n_tokens
