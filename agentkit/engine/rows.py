"""A forward pass over many rows, of which one that fails takes no other with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentkit.engine.backend import Row

if TYPE_CHECKING:
    import torch

    from agentkit.engine.backend import Backend

__all__ = ["forward_rows"]

logger = logging.getLogger(__name__)

_CHUNK = 512
"""Tokens read in one go where a sequence must be read anew."""


def forward_rows(backend: Backend, rows: Sequence[Row]) -> list[torch.Tensor | Exception]:
    """One pass; where it fails, each row once more by itself.

    Args:
        backend: What runs the model.
        rows: Each of another cache.

    Returns:
        For each row its logits, or what went wrong with it; its cache is then empty.
    """
    if not rows:
        return []
    # Lists only grow while a pass lasts, and a cache that is emptied gets a new one: lengths are
    # enough to know what each cache held, without copying it at every token.
    before = [(row.cache.token_ids, len(row.cache.token_ids)) for row in rows]
    try:
        return list(backend.forward(rows))
    except Exception as error:
        if len(rows) == 1:
            rows[0].cache.clear()
            return [error]
        logger.warning(
            "a pass over %d sequences failed (%r); each is tried alone", len(rows), error
        )
    return [
        _alone(backend, row, held[:length])
        for row, (held, length) in zip(rows, before, strict=True)
    ]


def _alone(backend: Backend, row: Row, before: list[int]) -> torch.Tensor | Exception:
    cache = row.cache
    try:
        if len(cache.token_ids) == len(before) + len(row.token_ids) and cache.croppable:
            cache.truncate(len(before))  # It was read, but its logits are lost.
        if len(cache.token_ids) != len(before):
            cache.clear()
            for start in range(0, len(before), _CHUNK):
                backend.forward([Row(cache, before[start : start + _CHUNK])])
        return backend.forward([row])[0]
    except Exception as error:
        cache.clear()
        return error
