"""The hand-laid pass behind the interface of backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from agentkit.engine.backend import DraftCost, Row
from agentkit.engine.eager.model import EagerModel
from agentkit.engine.eager.ragged import RaggedPast
from agentkit.engine.eager.step import run_pass

__all__ = ["EagerBackend"]


class EagerBackend:
    batched = True

    def __init__(self, model: Any) -> None:
        self._model = EagerModel(model)
        self.draft_cost = DraftCost(0.3, 0.1)

    @torch.inference_mode()
    def forward(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        try:
            return self._ragged(rows)
        except BaseException:
            for row in rows:
                row.cache.clear()
            raise

    def _ragged(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        ids, positions, wanted = [], [], []
        for row in rows:
            past = len(row.cache.token_ids)
            positions += range(past, past + len(row.token_ids))
            ids += row.token_ids
            wanted += range(len(ids) - row.keep, len(ids))
        self._model.reach(max(positions) + 1)
        device = self._model.device
        keep = torch.tensor(wanted, device=device) if len(wanted) < len(ids) else None
        logits = run_pass(
            self._model,
            RaggedPast(self._model, rows),
            torch.tensor(ids, device=device),
            torch.tensor(positions, device=device),
            keep,
        )
        for row in rows:
            row.cache.token_ids += row.token_ids
        return list(logits.split([row.keep for row in rows]))
