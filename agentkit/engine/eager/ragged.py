"""Rows of any length, each in the cache that is its own: nothing is padded, nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from agentkit.engine.backend import Row
from agentkit.engine.eager.mamba import convolve, scan
from agentkit.engine.eager.model import EagerModel, Mamba

__all__ = ["RaggedPast"]

_FOLDED = 32
"""Tokens of a row up to which the heads that share keys are read as one with more queries."""


@dataclass(frozen=True, slots=True)
class _Span:
    """One row's tokens within the pass."""

    begin: int
    end: int
    layers: Sequence[Any]
    """Of the row's cache."""
    mask: torch.Tensor | None
    """What is added to attention scores, (tokens, all tokens of the sequence)."""


class RaggedPast:
    """The rows' own caches.

    Args:
        model: The model.
        rows: The rows of the pass.
    """

    def __init__(self, model: EagerModel, rows: Sequence[Row]) -> None:
        self._model = model
        self._spans: list[_Span] = []
        begin = 0
        for row in rows:
            end = begin + len(row.token_ids)
            past = len(row.cache.token_ids)
            self._spans.append(
                _Span(begin, end, row.cache.state.layers, self._mask(past, end - begin))
            )
            begin = end

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """See :class:`agentkit.engine.eager.step.Past`."""
        results = [self._attend(span, span.layers[layer], qkv) for span in self._spans]
        return results[0] if len(results) == 1 else torch.cat(results)

    def recur(
        self, layer: int, mamba: Mamba, channels: torch.Tensor, dt: torch.Tensor
    ) -> torch.Tensor:
        """See :class:`agentkit.engine.eager.step.Past`."""
        results = []
        for span in self._spans:
            part = slice(span.begin, span.end)
            results.append(_recur(span.layers[layer], mamba, channels[part], dt[part]))
        return results[0] if len(results) == 1 else torch.cat(results)

    def _attend(self, span: _Span, layer: Any, qkv: torch.Tensor) -> torch.Tensor:
        heads, kv_heads = self._model.heads, self._model.kv_heads
        own = qkv[span.begin : span.end].transpose(0, 1)[None]
        q, k, v = torch.split_with_sizes(own, [heads, kv_heads, kv_heads], 1)
        keys, values = layer.update(k, v)
        count, scale = span.end - span.begin, self._model.attention_scale
        if count > _FOLDED:
            y = functional.scaled_dot_product_attention(
                q, keys, values, span.mask, scale=scale, enable_gqa=heads != kv_heads
            )
            return y[0].transpose(0, 1).reshape(count, -1)
        folded = q.reshape(1, kv_heads, -1, q.shape[-1])  # a group's heads, one below another
        y = functional.scaled_dot_product_attention(folded, keys, values, span.mask, scale=scale)
        return y.reshape(heads, count, -1).transpose(0, 1).reshape(count, -1)

    def _mask(self, past: int, count: int) -> torch.Tensor | None:
        if count == 1:
            return None
        model = self._model
        mask = torch.full((count, past + count), -torch.inf, dtype=model.dtype, device=model.device)
        mask.triu_(past + 1)
        if count <= _FOLDED:
            mask = mask.repeat(model.heads // model.kv_heads, 1)
        return mask


def _recur(layer: Any, mamba: Mamba, channels: torch.Tensor, dt: torch.Tensor) -> torch.Tensor:
    count, kernel = len(channels), mamba.conv_weight.shape[1]
    known = layer.update_conv_state(channels.t()[None], conv_kernel_size=kernel)
    needed = count + kernel - 1
    window = known[..., -needed:]
    window = functional.pad(window, (needed - window.shape[-1], 0))
    mixed = convolve(window, mamba.conv_weight, mamba.conv_bias).float()
    x, b, c = torch.split_with_sizes(mixed, mamba.widths, -1)
    x = x.view(1, count, -1, mamba.head_dim)
    state: torch.Tensor | None = layer.recurrent_states[0]
    if state is None:
        shape = (1, len(mamba.decay), mamba.head_dim, mamba.state)
        state = layer.update_recurrent_state(x.new_zeros(shape))
    b, c = (t.view(1, count, mamba.groups, mamba.state) for t in (b, c))
    y = scan(x, dt[None], mamba.decay, b, c, state)
    return (y + x * mamba.skip).reshape(count, -1)
