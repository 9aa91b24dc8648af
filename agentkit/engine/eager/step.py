"""One forward pass over the tokens of many rows."""

from __future__ import annotations

from typing import Protocol

import torch
from torch.nn import functional

from agentkit.engine.eager.model import EagerModel, Mamba

__all__ = ["Past", "run_pass"]


class Past(Protocol):
    """What the tokens of a pass see of each other and of those before them; it grows by them."""

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """Attention.

        Args:
            layer: Number of the layer.
            qkv: Rotated queries and keys, and values: (tokens, heads + 2 * kv heads, head size).

        Returns:
            Shape (tokens, heads * head size).
        """
        ...

    def recur(
        self, layer: int, mamba: Mamba, channels: torch.Tensor, dt: torch.Tensor
    ) -> torch.Tensor:
        """Mamba's convolution and recurrence.

        Args:
            layer: Number of the layer.
            mamba: Its parts.
            channels: Inputs to the convolution, (tokens, channels).
            dt: Step lengths, float32, (tokens, heads).

        Returns:
            Shape (tokens, heads * head size), float32.
        """
        ...


def run_pass(
    model: EagerModel,
    past: Past,
    ids: torch.Tensor,
    positions: torch.Tensor,
    wanted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Logits of the tokens that come after those read.

    Args:
        model: The model.
        past: What the tokens see.
        ids: All rows' tokens, one row after another, (tokens,).
        positions: Of each in its sequence, (tokens,).
        wanted: Which tokens' logits; all if not given.

    Returns:
        Shape (wanted, vocabulary).
    """
    x = functional.embedding(ids, model.embedding)
    if model.embedding_scale != 1:
        x = x * model.embedding_scale
    rotation = model.rotation(positions)
    width, eps, residual = x.shape[1:], model.eps, model.residual_scale
    for number, layer in enumerate(model.layers):
        y = layer.inward(functional.rms_norm(x, width, layer.input_norm, eps))
        if layer.mamba is None:
            qkv = y.view(len(y), -1, model.head_dim)
            if rotation is not None:
                turned = qkv[:, : model.heads + model.kv_heads]
                _rotate(turned, *rotation)
            y = past.attend(number, qkv)
        else:
            y = _mix(model, layer.mamba, past, number, y)
        x = torch.add(x, layer.outward(y), alpha=residual)
        y = layer.gate_up(functional.rms_norm(x, width, layer.mlp_norm, eps))
        gate, up = y.chunk(2, -1)
        x = torch.add(x, layer.down(functional.silu(gate).mul_(up)), alpha=residual)
    if wanted is not None:
        x = x[wanted]
    logits = model.head(functional.rms_norm(x, width, model.final_norm, eps))
    return logits if model.logits_scale == 1 else logits.mul_(model.logits_scale)


def _rotate(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> None:
    """Rotary embedding, in place."""
    swapped = x.roll(x.shape[-1] // 2, -1)
    x.mul_(cosines).addcmul_(swapped, sines)


def _mix(
    model: EagerModel, mamba: Mamba, past: Past, number: int, inward: torch.Tensor
) -> torch.Tensor:
    """The rest of a Mamba layer: gate, recurrence, and the norm after it."""
    heads = len(mamba.decay)
    inner = heads * mamba.head_dim
    parts = [inner, sum(mamba.widths), heads]
    gate, mixed, dt = torch.split_with_sizes(inward, parts, -1)
    y = past.recur(number, mamba, mixed, functional.softplus(dt.float() + mamba.dt_bias))
    y = y * functional.silu(gate.float())
    grouped = y.view(len(y), mamba.groups, -1)
    normed = functional.rms_norm(grouped, grouped.shape[-1:], None, model.eps).view(y.shape)
    return normed.to(inward.dtype) * mamba.norm
