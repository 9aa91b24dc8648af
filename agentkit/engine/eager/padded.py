"""Rows in the first slots of a static cache, filled up to a shape: no tensor ever moves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from agentkit.engine.backend import Row
from agentkit.engine.eager.buckets import Shape
from agentkit.engine.eager.mamba import convolve, scan
from agentkit.engine.eager.model import EagerModel, Mamba
from agentkit.engine.eager.slots import Slots
from agentkit.engine.eager.step import run_pass

__all__ = ["PaddedPass"]


class PaddedPass:
    """A pass of one shape, with inputs that stay at their place in memory.

    What is filled up does no harm: its keys and values go to a place of their own, and its steps
    are of length zero, which leaves Mamba's states as they are. A pass over nothing but filling
    (:meth:`clear`) can be run any number of times.

    Args:
        model: The model.
        slots: The static cache; the pass is void once its ``generation`` has changed.
        shape: Of the pass.
    """

    def __init__(self, model: EagerModel, slots: Slots, shape: Shape) -> None:
        self._model, self._slots, self._shape = model, slots, shape
        size = (4, shape.rows * shape.tokens)
        self._inputs = torch.zeros(size, dtype=torch.int64, device=model.device)
        self._ids, self._positions, self._places, self._valid = self._inputs
        self._mask = torch.empty(0)
        self._steps = torch.empty(0)
        self._window = torch.empty(0)
        self._numbers = torch.arange(shape.length, device=model.device)
        self._rows = slice(0, shape.rows)
        self.clear()

    def fill(self, rows: Sequence[Row], places: Sequence[int]) -> None:
        """Set the inputs.

        Args:
            rows: What to read.
            places: The slot of each row.
        """
        width, capacity = self._shape.tokens, self._slots.capacity
        filling = self._slots.count * capacity
        total = self._shape.rows * width
        ids, positions, targets, valid = [0] * total, [0] * total, [filling] * total, [0] * total
        for row, place in zip(rows, places, strict=True):
            past, count, at = len(row.cache.token_ids), len(row.token_ids), place * width
            ids[at : at + count] = row.token_ids
            positions[at : at + count] = range(past, past + count)
            begin = place * capacity + past
            targets[at : at + count] = range(begin, begin + count)
            valid[at : at + count] = [1] * count
        host = torch.tensor([ids, positions, targets, valid])
        self._inputs.copy_(host)

    def clear(self) -> None:
        """Set the inputs to nothing but filling."""
        self.fill([], [])

    def run(self) -> torch.Tensor:
        """Do the pass.

        Returns:
            The logits after every token, (rows, tokens, vocabulary).
        """
        rows, tokens, _ = self._dimensions
        model = self._model
        positions = self._positions.view(rows, 1, tokens, 1)
        group = model.heads // model.kv_heads
        self._mask = (self._numbers <= positions).repeat(1, 1, group, 1)
        if any(model.recurrent):
            self._steps = self._valid.view(rows, tokens, 1).float()
            read = self._valid.view(rows, 1, tokens).sum(-1, keepdim=True)
            kernel = next(c.shape[-1] for c in self._slots.conv if c.dim() == 3)
            self._window = read + torch.arange(kernel, device=model.device)
        logits = run_pass(model, self, self._ids, self._positions)
        return logits.view(rows, tokens, -1)

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """See :class:`agentkit.engine.eager.step.Past`."""
        model, slots = self._model, self._slots
        rows, tokens, _ = self._dimensions
        q, k, v = torch.split_with_sizes(qkv, [model.heads, model.kv_heads, model.kv_heads], 1)
        keys = self._write(slots.keys[layer], k)
        values = self._write(slots.values[layer], v)
        # Heads that share keys, one below another, as if they were more tokens.
        folded = q.reshape(rows, tokens, model.kv_heads, -1, model.head_dim)
        folded = folded.permute(0, 2, 3, 1, 4).reshape(rows, model.kv_heads, -1, model.head_dim)
        y = functional.scaled_dot_product_attention(
            folded, keys, values, self._mask, scale=model.attention_scale
        )
        y = y.reshape(rows, model.heads, tokens, model.head_dim)
        return y.transpose(1, 2).reshape(rows * tokens, -1)

    def recur(
        self, layer: int, mamba: Mamba, channels: torch.Tensor, dt: torch.Tensor
    ) -> torch.Tensor:
        """See :class:`agentkit.engine.eager.step.Past`."""
        rows, tokens, _ = self._dimensions
        conv, state = self._slots.conv[layer][self._rows], self._slots.states[layer][self._rows]
        new = channels.view(rows, tokens, -1).transpose(1, 2)
        window = torch.cat((conv, new), -1)
        kept = window.gather(-1, self._window.expand(rows, len(mamba.conv_weight), -1))
        mixed = convolve(window[..., 1:], mamba.conv_weight, mamba.conv_bias).float()
        conv.copy_(kept)
        x, b, c = torch.split_with_sizes(mixed, mamba.widths, -1)
        x = x.reshape(rows, tokens, -1, mamba.head_dim)
        b, c = (t.reshape(rows, tokens, mamba.groups, mamba.state) for t in (b, c))
        y = scan(x, dt.view(rows, tokens, -1) * self._steps, mamba.decay, b, c, state)
        return (y + x * mamba.skip).reshape(rows * tokens, -1)

    def _write(self, store: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Put new keys or values where they belong; returns all rows' as attention takes them."""
        model, slots = self._model, self._slots
        rows, _, length = self._dimensions
        store.index_copy_(0, self._places, new)
        whole = store[:-1].view(slots.count, slots.capacity, model.kv_heads, model.head_dim)
        return whole[:rows, :length].transpose(1, 2)

    @property
    def _dimensions(self) -> tuple[int, int, int]:
        return self._shape.rows, self._shape.tokens, self._shape.length
