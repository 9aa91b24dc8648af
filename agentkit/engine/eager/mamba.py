"""Mamba-2's convolution and recurrence, over a few or many tokens of several sequences."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["convolve", "scan"]

_CHUNK = 64
"""Tokens taken together: the work within a chunk grows with its square."""


def convolve(window: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Each channel's own causal convolution, then SiLU.

    Args:
        window: The new inputs with the ``kernel - 1`` before them, (rows, channels, kernel - 1 +
            tokens).
        weight: (channels, kernel).
        bias: (channels,), or None.

    Returns:
        Shape (rows, tokens, channels).
    """
    if window.shape[-1] == weight.shape[-1]:
        y = (window * weight).sum(-1)
        return functional.silu(y if bias is None else y + bias)[:, None]
    y = functional.conv1d(window, weight[:, None], bias, groups=len(weight))
    return functional.silu(y).transpose(1, 2)


def scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    decay: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    state: torch.Tensor,
) -> torch.Tensor:
    """The recurrence ``state = exp(dt * decay) * state + dt * x * b``, read out by ``c``.

    Args:
        x: Inputs, float32 like everything here, (rows, tokens, heads, size).
        dt: Step lengths, (rows, tokens, heads); a token whose step is 0 leaves no trace.
        decay: Negative, (heads,).
        b: (rows, tokens, groups, state size).
        c: Likewise.
        state: (rows, heads, size, state size); updated in place.

    Returns:
        Shape (rows, tokens, heads, size).
    """
    share = x.shape[2] // b.shape[2]
    b, c = (t if share == 1 else t.repeat_interleave(share, 2) for t in (b, c))
    if x.shape[1] == 1:
        step = dt[:, 0]
        state.mul_(torch.exp(step * decay)[..., None, None])
        state.add_((x[:, 0] * step[..., None])[..., None] * b[:, 0, :, None])
        return torch.matmul(state, c[:, 0, :, :, None]).squeeze(-1)[:, None]
    outputs = []
    for begin in range(0, x.shape[1], _CHUNK):
        part = slice(begin, begin + _CHUNK)
        outputs.append(_chunk(x[:, part], dt[:, part], decay, b[:, part], c[:, part], state))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


def _chunk(
    x: torch.Tensor,
    dt: torch.Tensor,
    decay: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    state: torch.Tensor,
) -> torch.Tensor:
    """The same for a chunk at once: what its tokens give each other, and what was there before."""
    tokens = x.shape[1]
    x, b, c = (x * dt[..., None]).transpose(1, 2), b.transpose(1, 2), c.transpose(1, 2)
    passed = (dt * decay).cumsum(1).transpose(1, 2)  # (rows, heads, tokens)
    between = passed[..., :, None] - passed[..., None, :]
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).triu_(1)
    weights = torch.exp(between.masked_fill(later, -torch.inf)) * (c @ b.transpose(-1, -2))
    y = weights @ x + torch.exp(passed)[..., None] * (c @ state.transpose(-1, -2))
    left = torch.exp(passed[..., -1:] - passed)
    state.mul_(torch.exp(passed[..., -1])[..., None, None])
    state.add_((x * left[..., None]).transpose(-1, -2) @ b)
    return y.transpose(1, 2)
