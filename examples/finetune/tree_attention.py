"""Attention over a pack: each branch sees the trunk and itself, and nothing else is computed.

With a mask over the whole pack, attention would spend most of its time on pairs that are masked.
Registered with transformers, so that any model that goes through its attention interface can be
trained on packs.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface

NAME = "tree"
"""What transformers knows it by (`attn_implementation`)."""

_Part = tuple[int, torch.Tensor]
_parts: ContextVar[list[_Part]] = ContextVar("parts")


def use_tree(branch: torch.Tensor, *, device: str = "cpu") -> None:
    """Say which tokens belong together, before a pack goes through the model.

    Args:
        branch: The number of each token's conversation [T], rising; 0 is the trunk.
        device: Where the model is.
    """
    _, counts = torch.unique_consecutive(branch, return_counts=True)
    parts, trunk, start = list[_Part](), 0, 0
    for end in counts.cumsum(0).tolist():
        size = end - start
        later = torch.ones(size, size, dtype=torch.bool, device=device).triu(1)
        parts.append((end, torch.nn.functional.pad(later, (trunk, 0))))
        trunk, start = trunk or end, end
    _parts.set(parts)  # made once, and used by every layer


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it.

    Args:
        module: The attention layer.
        query: [1, heads, T, width].
        key: [1, KV heads, T, width].
        value: As `key`.
        attention_mask: Not used; see :func:`use_tree`.
        scaling: Of the scores; one over the root of the width if not given.

    Returns:
        [1, T, heads, width], and no weights.
    """
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Query heads that share keys are read as more rows: [KV heads, groups, T, width].
    q = (query[0] * scale).unflatten(0, (-1, groups))
    k, v = key[0], value[0]
    parts, trunk, start = [], 0, 0
    for end, hidden in _parts.get():
        size, rows = end - start, q[:, :, start:end].flatten(1, 2)
        keys, values = k[:, start:end], v[:, start:end]
        if trunk:
            keys = torch.cat([k[:, :trunk], keys], dim=1)
            values = torch.cat([v[:, :trunk], values], dim=1)
        scores = (rows @ keys.transpose(1, 2)).unflatten(1, (groups, size))
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        parts.append((weights.flatten(1, 2) @ values).unflatten(1, (groups, size)))
        trunk, start = trunk or end, end
    out = torch.cat(parts, dim=2).flatten(0, 1)
    return out.transpose(0, 1)[None].contiguous(), None


AttentionInterface.register(NAME, tree_attention)
