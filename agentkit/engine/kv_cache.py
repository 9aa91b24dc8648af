"""Keys and values of tokens that the model has read, kept from one step to the next."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakSet

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

__all__ = ["CacheStore", "KVCache", "common_prefix", "kv_bytes_per_token"]


class _GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Attention keys and values in storage that doubles when full.

    transformers' own layer copies everything it holds for each new token.
    """

    def __init__(self) -> None:
        self._storage: tuple[torch.Tensor, torch.Tensor] | None = None
        self._length = 0
        self._lent = False  # The storage is part of somebody's, who counts it.
        self.expected = 0
        """Tokens that will come, as far as is known; no more room is taken ahead than for them."""
        super().__init__()

    # Views are made when asked for: the native forward pass works on the storage itself.
    @property
    def keys(self) -> torch.Tensor | None:
        return None if self._storage is None else self._storage[0][..., : self._length, :]

    @keys.setter
    def keys(self, value: torch.Tensor | None) -> None:
        assert value is None

    @property
    def values(self) -> torch.Tensor | None:
        return None if self._storage is None else self._storage[1][..., : self._length, :]

    @values.setter
    def values(self, value: torch.Tensor | None) -> None:
        assert value is None

    @property
    def storage(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Keys and values, each of shape (1, heads, capacity, head size); None before any."""
        return self._storage

    def get_seq_length(self) -> int:
        return self._length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        begin, end = self._length, self._length + key_states.shape[-2]
        if self._storage is None or self._storage[0].shape[-2] < end:
            self._grow((key_states, value_states), end)
        assert self._storage is not None
        for store, states in zip(self._storage, (key_states, value_states), strict=True):
            store[..., begin:end, :] = states
        self._length = end
        keys, values = self.keys, self.values
        assert keys is not None
        assert values is not None
        return keys, values

    def reserve(self, length: int) -> None:
        """Make room for ``length`` tokens in all; needs storage to be there already."""
        assert self._storage is not None
        if self._storage[0].shape[-2] < length:
            self._grow(self._storage, length)

    def begin(self, heads: int, head_dim: int) -> None:
        """Make storage for a sequence of which nothing was read, in float32 on the CPU."""
        empty = torch.empty(1, heads, 0, head_dim)
        self._grow((empty, empty), 1)

    def extend(self, length: int) -> None:
        """Count tokens up to ``length`` as held: they were written into the storage."""
        self._length = length

    def truncate(self, length: int) -> None:
        """Forget everything past the first ``length`` tokens; the storage stays."""
        self._length = min(self._length, length)

    def move(self, storage: tuple[torch.Tensor, torch.Tensor], *, lent: bool) -> None:
        """Copy what is held into other storage, and go on there.

        Args:
            storage: Keys and values, with room for what is held.
            lent: The storage is part of a larger one.
        """
        for new, old in zip(storage, self._storage or (), strict=False):
            new[..., : self._length, :] = old[..., : self._length, :]
        self._storage, self._lent = storage, lent

    def fork(self, length: int, expected: int) -> _GrowingLayer:
        """A layer of its own with a copy of the first ``length`` tokens."""
        layer = _GrowingLayer()
        layer.expected = expected
        keys, values = self.keys, self.values
        if keys is not None and values is not None and length:
            layer.update(keys[..., :length, :], values[..., :length, :])
        return layer

    @property
    def nbytes(self) -> int:
        held = (self.keys, self.values) if self._lent else self._storage or ()
        return sum(tensor.nbytes for tensor in held if tensor is not None)

    def _grow(self, like: tuple[torch.Tensor, torch.Tensor], needed: int) -> None:
        capacity = max(256, 2 * needed)
        if needed <= self.expected:
            capacity = min(capacity, self.expected)
        self.device, self.dtype, self.is_initialized = like[0].device, like[0].dtype, True
        keys, values = (s.new_empty((*s.shape[:-2], capacity, s.shape[-1])) for s in like)
        self.move((keys, values), lent=False)


class KVCache:
    """What the model has read of one sequence: the tokens, and the state they left.

    Args:
        config: The model's configuration; it says which layers attend and which keep a state.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        self.token_ids: list[int] = []
        """The tokens whose state is held, in order."""
        self.state = self._empty_state()
        """The form that the model takes."""

    def _empty_state(self) -> DynamicCache:
        state = DynamicCache(config=self._config)
        state.layers = [
            _GrowingLayer() if type(layer) is DynamicLayer else layer for layer in state.layers
        ]
        return state

    def clear(self) -> None:
        """Forget everything, for instance what a failed pass has left behind."""
        self.token_ids = []  # A new one: who looks at a failure still has the old.
        self.state = self._empty_state()

    @property
    def croppable(self) -> bool:
        """Whether the end can be taken back: true for attention, false for recurrent layers."""
        return all(isinstance(layer, _GrowingLayer) for layer in self.state.layers)

    @property
    def nbytes(self) -> int:
        """Bytes that the state occupies."""
        total = 0
        for layer in self.state.layers:
            if isinstance(layer, _GrowingLayer):
                total += layer.nbytes
                continue
            for name in ("conv_states", "recurrent_states"):
                states = getattr(layer, name, None) or {}
                total += sum(t.nbytes for t in states.values() if t is not None)
            held = (getattr(layer, "keys", None), getattr(layer, "values", None))
            total += sum(t.nbytes for t in held if t is not None)
        return total

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state as named tensors; the reverse of :meth:`restore`.

        Raises:
            TypeError: Some layer is of a kind that has no such form.
        """
        found: dict[str, torch.Tensor] = {}
        for i, layer in enumerate(self.state.layers):
            if isinstance(layer, _GrowingLayer):
                keys, values = layer.keys, layer.values
                assert keys is not None
                assert values is not None
                found[f"{i}.keys"], found[f"{i}.values"] = keys.contiguous(), values.contiguous()
                continue
            if hasattr(layer, "keys") or not hasattr(layer, "conv_states"):
                raise TypeError(f"a {type(layer).__name__} cannot be stored")
            for kind in ("conv_states", "recurrent_states"):
                for key, state in getattr(layer, kind).items():
                    if state is not None:
                        found[f"{i}.{kind}.{key}"] = state.contiguous()
        return found

    def restore(self, token_ids: Sequence[int], tensors: Mapping[str, torch.Tensor]) -> None:
        """Take a state over, into an empty cache.

        Args:
            token_ids: What the state was left by.
            tensors: As :meth:`tensors` gave them; not to be used again.

        Raises:
            ValueError: They are of another number of tokens.
            KeyError: Some are missing.
        """
        for i, layer in enumerate(self.state.layers):
            if isinstance(layer, _GrowingLayer):
                keys, values = tensors[f"{i}.keys"], tensors[f"{i}.values"]
                if keys.shape[-2] != len(token_ids) or values.shape[-2] != len(token_ids):
                    raise ValueError(f"layer {i} holds {keys.shape[-2]} of {len(token_ids)} tokens")
                layer.expected = len(token_ids)
                layer.update(keys, values)
                continue
            for key in layer.conv_states:
                conv, state = tensors[f"{i}.conv_states.{key}"], f"{i}.recurrent_states.{key}"
                layer.update_conv_state(conv, state_idx=key)
                if state in tensors:
                    layer.update_recurrent_state(tensors[state], state_idx=key)
        self.token_ids = list(token_ids)

    def truncate(self, length: int) -> None:
        """Keep the first ``length`` tokens only; needs :attr:`croppable`."""
        for layer in self.state.layers:
            layer.truncate(length)
        del self.token_ids[length:]

    def expect(self, tokens: int) -> None:
        """Say how many tokens the cache is going to hold, so that it takes no room for more."""
        for layer in self.state.layers:
            if isinstance(layer, _GrowingLayer):
                layer.expected = tokens

    def fork(self, length: int | None = None, *, expected: int = 0) -> KVCache:
        """An independent copy, of the first ``length`` tokens where the cache is croppable.

        Args:
            length: Tokens to copy; all if not given.
            expected: See :meth:`expect`; if not given, there is room for no more than is copied.
        """
        other = copy.copy(self)
        other.state = copy.copy(self.state)
        other.token_ids = self.token_ids[:length]
        keep = len(other.token_ids)
        other.state.layers = [
            layer.fork(keep, max(expected, keep))
            if isinstance(layer, _GrowingLayer)
            else _copied(layer)
            for layer in self.state.layers
        ]
        return other


class CacheStore:
    """Caches of past sequences, found again by their tokens.

    A sequence that goes on from a stored one takes its cache over. One that shares only the
    beginning gets a copy of that part, and the stored one stays for its own continuation.
    Caches that are lent out at the time can be copied from as well.

    Args:
        config: The model's configuration.
        max_bytes: What the stored caches may occupy together; the least recently used go first.
        min_shared: Shared tokens below which copying is not worth it.
    """

    def __init__(self, config: Any, *, max_bytes: int, min_shared: int = 16) -> None:
        self._config = config
        self._max_bytes = max_bytes
        self._min_shared = min_shared
        self._entries: list[KVCache] = []  # least recently used first
        self._lent: WeakSet[KVCache] = WeakSet()

    @property
    def nbytes(self) -> int:
        """Bytes that the stored caches occupy; those lent out are not counted."""
        return sum(entry.nbytes for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def known(self, token_ids: Sequence[int]) -> int:
        """How many tokens the cache holds that :meth:`take` would give."""
        return self._find(token_ids)[1]

    def take(self, token_ids: Sequence[int], *, expected: int = 0) -> KVCache:
        """The cache that holds the longest usable prefix of ``token_ids``.

        At least the last token is left to be read, since its logits are needed.
        The cache belongs to the caller until it is given back with :meth:`put`.

        Args:
            token_ids: The sequence.
            expected: Tokens that it will have in the end, as far as is known.
        """
        best, shared = self._find(token_ids)
        if best is None:
            cache = KVCache(self._config)
        elif best not in self._lent and best.croppable and shared >= len(best.token_ids) - 1:
            self._entries.remove(best)
            best.truncate(shared)
            cache = best
        else:
            if best not in self._lent:
                # Used, but not up: move it to the recently used end. A state that cannot be cut
                # back is worth keeping where it is, for the next conversation that comes by.
                self._entries.remove(best)
                self._entries.append(best)
            cache = best.fork(shared, expected=expected)
        cache.expect(expected)
        self._lent.add(cache)
        return cache

    def put(self, cache: KVCache) -> None:
        """Store a cache for sequences to come; drops others if the budget is exceeded."""
        self._lent.discard(cache)
        if not cache.token_ids:
            return
        self._entries = [entry for entry in self._entries if not _covers(cache, entry)]
        self._entries.append(cache)
        while self._entries and self.nbytes > self._max_bytes:
            self._entries.pop(0)

    def clear(self) -> None:
        """Drop everything that is not lent out."""
        self._entries.clear()

    def _find(self, token_ids: Sequence[int]) -> tuple[KVCache | None, int]:
        best, shared = None, 0
        # Stored ones first: of equals, one that can be taken over is better than one to copy.
        for entry in (*reversed(self._entries), *self._lent):
            length = min(common_prefix(entry.token_ids, token_ids), len(token_ids) - 1)
            usable = length if entry.croppable or length == len(entry.token_ids) else 0
            if usable > shared:
                best, shared = entry, usable
        if best is None:
            return None, 0
        whole = best not in self._lent and best.croppable and shared >= len(best.token_ids) - 1
        return (best, shared) if whole or shared >= self._min_shared else (None, 0)


def kv_bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Bytes that each token adds to a cache: keys and values of all attention layers."""
    layers = sum(isinstance(layer, _GrowingLayer) for layer in KVCache(config).state.layers)
    config = config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(layers * 2 * (getattr(config, "num_key_value_heads", None) or heads) * width) * (
        dtype.itemsize
    )


def _copied(layer: Any) -> Any:
    """A copy of a recurrent layer; of a larger tensor no more than its part."""
    if hasattr(layer, "keys") or not hasattr(layer, "conv_states"):
        return copy.deepcopy(layer)
    other = copy.copy(layer)
    for name, value in vars(layer).items():
        if isinstance(value, dict):
            states = {k: v.clone() if torch.is_tensor(v) else v for k, v in value.items()}
            setattr(other, name, states)
    return other


def _covers(cache: KVCache, other: KVCache) -> bool:
    """Whether ``cache`` is as good as ``other`` for every sequence to come."""
    held, theirs = cache.token_ids, other.token_ids
    if len(held) < len(theirs) or (len(held) > len(theirs) and not cache.croppable):
        return False
    return common_prefix(theirs, held) == len(theirs)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences have in common from the start."""
    if type(a) is not type(b):  # Slices of a list and of a tuple are never equal.
        a, b = list(a), list(b)
    # Slices are compared many times as fast as the items of a loop.
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
