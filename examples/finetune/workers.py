"""Processes that train together: each takes some of a step's packs, and gradients are added up.

On a CPU this is faster than threads within each product, and does not falter when something else
wants a core for a while.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist


class Workers:
    """The processes of a run, seen from one of them.

    Args:
        rank: Which one this is.
        count: How many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        """Whether this one writes files and shows progress."""
        return self.rank == 0

    def share(self, packs: Sequence[Any]) -> list[Any]:
        """This one's packs; the longest go to different processes."""
        longest = sorted(packs, key=lambda pack: -pack.input_ids.numel())
        rounds = [longest[i : i + self.count] for i in range(0, len(longest), self.count)]
        # There and back again, so that nobody always has the longer one of a round.
        turned = [r if i % 2 == 0 else r[::-1] for i, r in enumerate(rounds)]
        return [r[self.rank] for r in turned if self.rank < len(r)]

    def add_up(self, weights: Sequence[torch.nn.Parameter], loss: float) -> float:
        """Replace the gradients by their sums over all processes, and give the sum of losses."""
        if self.count == 1:
            return loss
        gradients = [w.grad if w.grad is not None else torch.zeros_like(w) for w in weights]
        flat = torch.cat([g.flatten() for g in gradients] + [torch.tensor([loss])])
        dist.all_reduce(flat)
        parts = flat[:-1].split([g.numel() for g in gradients])
        for weight, part in zip(weights, parts, strict=True):
            weight.grad = part.view_as(weight)
        return float(flat[-1])

    def most(self, value: float) -> float:
        """The highest that any of them has."""
        if self.count == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return float(told.item())


def run_workers(
    count: int, work: Callable[..., None], recipe: Any, output: Any, how: dict[str, Any]
) -> None:
    """Run `work(recipe, output, workers=…, **how)` in so many processes, and wait for all."""
    if count == 1:
        work(recipe, output, **how)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(
        _worker, args=(count, port, work, recipe, output, how), nprocs=count
    )


def _worker(
    rank: int, count: int, port: int, work: Callable[..., None], recipe: Any, output: Any,
    how: dict[str, Any],
) -> None:  # fmt: skip
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=count)
    work(recipe, output, workers=Workers(rank, count), **how)
    dist.destroy_process_group()
