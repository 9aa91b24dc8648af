"""The hand-laid pass behind the interface of backends."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import torch

from agentkit.engine.backend import DraftCost, Row
from agentkit.engine.eager.buckets import MOST_TOKENS, Shape, fitting, shape_for
from agentkit.engine.eager.graphs import Capture, CudaCapture, Graphs
from agentkit.engine.eager.model import EagerModel
from agentkit.engine.eager.padded import PaddedPass
from agentkit.engine.eager.ragged import RaggedPast
from agentkit.engine.eager.slots import Slots
from agentkit.engine.eager.step import run_pass
from agentkit.engine.kv_cache import kv_bytes_per_token

__all__ = ["EagerBackend"]

_log = logging.getLogger(__name__)


class EagerBackend:
    """Reads all rows in one pass.

    On a CPU each row's past is where its own cache has it. On a GPU rows of a few tokens are
    gathered in a static cache, whose passes are captured in CUDA graphs; long stretches of prompts
    are read into their own caches, and move to a slot when they are decoded from.

    Args:
        model: A causal language model of transformers.
        static: Whether to gather rows in a static cache; on GPUs if not given.
        capture: Records passes over the static cache; CUDA graphs on GPUs if not given.
        slot_tokens: What the static cache may hold, in tokens of all slots together; on a GPU
            half of the free memory if not given.

    Raises:
        Unsupported: The model has a part that is not known here.
    """

    batched = True
    """Rows share a pass: the weights come from memory once for all of them."""

    def __init__(
        self,
        model: Any,
        *,
        static: bool | None = None,
        capture: Capture | None = None,
        slot_tokens: int | None = None,
    ) -> None:
        self._model = EagerModel(model)
        on_gpu = self._model.device.type == "cuda"
        self._static = on_gpu if static is None else static
        self._slots = Slots(self._model)
        self._generation = 0
        self.graphs = Graphs(self._new_pass, capture or (CudaCapture() if on_gpu else None))
        """Passes over the static cache."""
        self._slot_tokens = slot_tokens or (self._half_of_memory() if on_gpu else sys.maxsize)
        # As measured on a CPU with matrices of 135M parameters; a GPU waits for memory.
        self.draft_cost = DraftCost(0.05, 0.01) if on_gpu else DraftCost(0.1, 0.1)

    @property
    def identity(self) -> str:
        """Differs between models whose caches differ; see :mod:`agentkit.engine.prefixes`."""
        return f"eager-{self._model.fingerprint()}"

    @torch.inference_mode()
    def forward(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Read the rows' tokens; see :class:`agentkit.engine.backend.Backend`."""
        if any(not row.token_ids for row in rows):
            raise ValueError("a row needs at least one token to read")
        ends = [len(row.cache.token_ids) + len(row.token_ids) for row in rows]
        self._reach(max(ends))
        places = self._place(rows, ends)
        results: dict[int, torch.Tensor] = {}
        for numbers in (list(places), [i for i in range(len(rows)) if i not in places]):
            chosen = [rows[i] for i in numbers]
            if not chosen:
                continue
            try:
                if numbers[0] in places:
                    logits = self._padded(chosen, list(places.values()))
                else:
                    logits = self._ragged(chosen)
            except BaseException:
                # Some layers may hold the tokens and others not: nothing in it can be trusted.
                for row in chosen:
                    row.cache.clear()
                raise
            for row in chosen:
                row.cache.token_ids += row.token_ids
            results |= zip(numbers, logits, strict=True)
        return [results[i] for i in range(len(rows))]

    def _place(self, rows: Sequence[Row], ends: Sequence[int]) -> dict[int, int]:
        """Bring the rows that suit it into the static cache.

        Returns:
            Their slots, the first ones, by the rows' numbers.
        """
        if not self._static:
            return {}
        short = [
            i
            for i, row in enumerate(rows)
            if len(row.token_ids) <= MOST_TOKENS and row.cache.token_ids
        ]
        short = [short[i] for i in fitting([ends[i] for i in short], self._slot_tokens)]
        for i, row in enumerate(rows):
            if i not in short:
                self._slots.leave(row.cache, room=ends[i])
        if not short:
            return {}
        try:
            slots = self._slots.place([rows[i].cache for i in short], max(ends[i] for i in short))
        except torch.OutOfMemoryError:
            self._slot_tokens //= 2
            _log.warning("no memory for %d sequences side by side; trying fewer", len(short))
            return {}
        if self._slots.generation != self._generation:
            self._generation = self._slots.generation
            self.graphs.clear()
        return dict(zip(short, slots, strict=True))

    def _padded(self, rows: Sequence[Row], slots: Sequence[int]) -> list[torch.Tensor]:
        ends = [len(row.cache.token_ids) + len(row.token_ids) for row in rows]
        shape = shape_for([len(row.token_ids) for row in rows], ends)
        self.graphs.step(shape).fill(rows, slots)
        logits = self.graphs.run(shape)
        results = []
        for row, slot, end in zip(rows, slots, ends, strict=True):
            layers = row.cache.state.layers
            for layer, recurrent in zip(layers, self._model.recurrent, strict=True):
                if not recurrent:
                    layer.extend(end)
            count = len(row.token_ids)
            # The next replay writes to the same place.
            results.append(logits[slot, count - row.keep : count].clone())
        return results

    def _ragged(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        ids: list[int] = []
        positions: list[int] = []
        wanted: list[int] = []
        for row in rows:
            past = len(row.cache.token_ids)
            positions += range(past, past + len(row.token_ids))
            ids += row.token_ids
            wanted += range(len(ids) - row.keep, len(ids))
        device = self._model.device
        logits = run_pass(
            self._model,
            RaggedPast(self._model, rows),
            torch.tensor(ids, device=device),
            torch.tensor(positions, device=device),
            torch.tensor(wanted, device=device) if len(wanted) < len(ids) else None,
        )
        return list(torch.split_with_sizes(logits, [row.keep for row in rows]))

    def _new_pass(self, shape: Shape) -> PaddedPass:
        return PaddedPass(self._model, self._slots, shape)

    def _reach(self, positions: int) -> None:
        if self._model.reach(positions):
            self.graphs.clear()

    def _half_of_memory(self) -> int:
        free = torch.cuda.mem_get_info(self._model.device)[0]
        return int(free // 2 // max(1, kv_bytes_per_token(self._model.config, self._model.dtype)))
