"""Forward passes: what a scheduler asks of a model, and transformers' own way of doing it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from agentkit.engine.kv_cache import KVCache

__all__ = ["Backend", "DraftCost", "Row", "TransformersBackend"]


@dataclass(slots=True)
class Row:
    """One sequence's share of a forward pass."""

    cache: KVCache
    """Of the sequence so far; it grows by :attr:`token_ids`."""
    token_ids: Sequence[int]
    """Tokens to be read now, at least one."""
    keep: int = 1
    """Logits wanted: those at the last ``keep`` of the tokens, at least one."""


@dataclass(frozen=True, slots=True)
class DraftCost:
    """What it costs to read drafted tokens along, as fractions of a pass that reads one token."""

    start: float = 0.1
    """For a draft of any length: a matrix times several vectors is another operation."""
    token: float = 0.1
    """For each token besides."""


class Backend(Protocol):
    """Runs a model over rows. Called from one thread only.

    Two attributes more may be there. ``draft_cost`` is a :class:`DraftCost`, which prompt lookup
    goes by. ``batched`` is false where rows do not share the cost of a pass.
    """

    def forward(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """One pass over all rows; each of another sequence, of any length.

        Returns:
            For each row the logits of the tokens that come next, shape ``(keep, vocabulary)``.

        Raises:
            Exception: Whatever went wrong. Each row's cache then holds what it held before, or
                all of the row as well, or nothing (``token_ids`` is empty).
        """
        ...


class TransformersBackend:
    """Rows one after another through a model of transformers.

    Args:
        model: A causal language model.
    """

    batched = False
    """Rows are read one after another."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        # Measured with a model of 135M parameters in float32; a GPU waits for launches anyway.
        on_cpu = self._device.type == "cpu"
        self.draft_cost = DraftCost(0.8, 0.06) if on_cpu else DraftCost(0.05, 0.01)
        # transformers renamed the argument in 5.x.
        parameters = inspect.signature(model.forward).parameters
        self._cache_argument = "cache" if "cache" in parameters else "past_key_values"

    @torch.inference_mode()
    def forward(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """See :meth:`Backend.forward`."""
        return [self._read(row) for row in rows]

    def _read(self, row: Row) -> torch.Tensor:
        if not row.token_ids:
            raise ValueError("a row needs at least one token to read")
        try:
            output = self._model(
                input_ids=torch.tensor([list(row.token_ids)], device=self._device),
                use_cache=True,
                logits_to_keep=row.keep,
                **{self._cache_argument: row.cache.state},
            )
        except BaseException:
            # Some layers may hold the tokens and others not: nothing in it can be trusted.
            row.cache.clear()
            raise
        row.cache.token_ids += row.token_ids
        logits: torch.Tensor = output.logits[0]
        return logits
