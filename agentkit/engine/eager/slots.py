"""A static cache for many sequences: tensors that stay where they are, a slot for each sequence.

A :class:`~agentkit.engine.kv_cache.KVCache` that is placed in a slot goes on as before: its layers
hold views of the slot. It can be cut, copied, stored and found again there, and costs nothing to
be taken up again. When others need the slot, what it holds is copied out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, ref

import torch

from agentkit.engine.eager.buckets import length_step, row_step
from agentkit.engine.eager.model import EagerModel
from agentkit.engine.kv_cache import KVCache

__all__ = ["Slots"]


@dataclass(frozen=True, slots=True)
class _Tenant:
    state: ReferenceType[Any]
    """The cache's ``state``; a cache that is cleared gets another."""
    storage: Any
    """What its first attention layer held when it moved in."""


class Slots:
    """The tensors, and who is where.

    Args:
        model: The model.
    """

    def __init__(self, model: EagerModel) -> None:
        self._model = model
        self.count = 0
        """Slots there are."""
        self.capacity = 0
        """Tokens that each has room for."""
        self.generation = 0
        """Counts how often the tensors were made anew."""
        layers = len(model.layers)
        self.keys: list[torch.Tensor] = [torch.empty(0)] * layers
        """For each attention layer (slots * capacity + 1, kv heads, head size). The last row is
        where tokens go that only fill a shape up."""
        self.values: list[torch.Tensor] = [torch.empty(0)] * layers
        """Likewise."""
        self.conv: list[torch.Tensor] = [torch.empty(0)] * layers
        """For each recurrent layer (slots, channels, kernel): the last inputs."""
        self.states: list[torch.Tensor] = [torch.empty(0)] * layers
        """For each recurrent layer (slots, heads, head size, state size), float32."""
        self._tenants: list[_Tenant | None] = []
        attention = [i for i, recurrent in enumerate(model.recurrent) if not recurrent]
        self._first = attention[0] if attention else None

    def place(self, caches: Sequence[KVCache], room: int) -> list[int]:
        """Have caches in the first slots, in any order.

        Args:
            caches: Different ones, that have read something.
            room: Tokens that each slot must be able to hold.

        Returns:
            The slot of each.
        """
        if len(caches) > self.count or room > self.capacity:
            self._resize(
                max(self.count, row_step(len(caches))), max(self.capacity, length_step(room))
            )
        count = len(caches)
        places = [self._where(cache) for cache in caches]
        taken = {place for place in places if place is not None}
        vacant = [slot for slot in range(count) if slot not in taken]
        spare = [s for s in range(count, self.count) if s not in taken and self._held(s) is None]
        for i, cache in enumerate(caches):
            place = places[i]
            if place is not None and place < count:
                continue
            target = vacant.pop(0)
            self._vacate(target, spare)
            self._move_in(cache.state, target)
            if place is not None:
                self._tenants[place] = None
                spare.append(place)
            places[i] = target
        return [place for place in places if place is not None]

    def leave(self, cache: KVCache, *, room: int) -> None:
        """Have a cache move out if its slot cannot hold ``room`` tokens.

        Attention layers that grow would leave the slot by themselves, recurrent ones would not.
        """
        if room > self.capacity and (slot := self._where(cache)) is not None:
            self._vacate(slot, [])

    def view(self, layer: int, slot: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A slot's keys and values, or its convolution's inputs and its state; with a first
        dimension of one, as a cache's layers have them."""
        if self._model.recurrent[layer]:
            part = slice(slot, slot + 1)
            return self.conv[layer][part], self.states[layer][part]
        part = slice(slot * self.capacity, (slot + 1) * self.capacity)
        keys, values = self.keys[layer][part], self.values[layer][part]
        return keys.transpose(0, 1)[None], values.transpose(0, 1)[None]

    def _where(self, cache: KVCache) -> int | None:
        for slot in range(self.count):
            if self._held(slot) is cache.state:
                return slot
        return None

    def _held(self, slot: int) -> Any:
        """The state that is in a slot; None if it was dropped, or has grown out of it."""
        tenant = self._tenants[slot]
        state = tenant.state() if tenant is not None else None
        if tenant is None or state is None:
            return None
        if self._first is not None and state.layers[self._first].storage is not tenant.storage:
            return None
        return state

    def _move_in(self, state: Any, slot: int) -> None:
        for number, layer in enumerate(state.layers):
            _move(layer, self.view(number, slot), lent=True)
        self._note(state, slot)

    def _note(self, state: Any, slot: int) -> None:
        storage = None if self._first is None else state.layers[self._first].storage
        self._tenants[slot] = _Tenant(ref(state), storage)

    def _vacate(self, slot: int, spare: list[int]) -> None:
        """Have a tenant move to a spare slot, or out."""
        state = self._held(slot)
        if state is not None:
            if spare:
                self._move_in(state, spare.pop(0))
            else:
                for number, layer in enumerate(state.layers):
                    _move(layer, _own(layer, self.view(number, slot)), lent=False)
        self._tenants[slot] = None

    def _resize(self, count: int, capacity: int) -> None:
        model = self._model
        held = {slot: self._held(slot) for slot in range(self.count)}
        living = {slot: state for slot, state in held.items() if state is not None}
        self.count, self.capacity = count, capacity
        self.generation += 1
        self._tenants = [None] * count
        try:
            for number, layer in enumerate(model.layers):
                if layer.mamba is None:
                    shape = (count * capacity + 1, model.kv_heads, model.head_dim)
                    # Zeros: what is masked is multiplied by nothing, which mends no NaN.
                    self.keys[number] = torch.zeros(shape, dtype=model.dtype, device=model.device)
                    self.values[number] = torch.zeros_like(self.keys[number])
                else:
                    mamba = layer.mamba
                    conv = (count, *mamba.conv_weight.shape)
                    self.conv[number] = torch.zeros(conv, dtype=model.dtype, device=model.device)
                    self.states[number] = torch.zeros(
                        (count, len(mamba.decay), mamba.head_dim, mamba.state), device=model.device
                    )
                # Layer by layer, so that the old tensors go as the new ones come.
                for slot, state in living.items():
                    _move(state.layers[number], self.view(number, slot), lent=True)
        except BaseException:
            # Caches hold the old tensors where they did not get to the new ones.
            self.count = self.capacity = 0
            self._tenants = []
            raise
        for slot, state in living.items():
            self._note(state, slot)


def _own(layer: Any, like: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """New tensors for what a layer holds."""
    if hasattr(layer, "conv_states"):
        return torch.empty_like(like[0]), torch.empty_like(like[1])
    length = layer.get_seq_length()
    first, second = (t.new_empty((*t.shape[:2], length, t.shape[3])) for t in like)
    return first, second


def _move(layer: Any, target: tuple[torch.Tensor, torch.Tensor], *, lent: bool) -> None:
    if not hasattr(layer, "conv_states"):
        layer.move(target, lent=lent)
        return
    conv, state = target
    conv.copy_(layer.conv_states[0])
    state.copy_(layer.recurrent_states[0])
    layer.conv_states[0], layer.recurrent_states[0] = conv, state
