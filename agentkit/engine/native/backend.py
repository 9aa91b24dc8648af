"""Forward passes by the native library, and by transformers where it does not serve."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from agentkit.engine.backend import Backend, DraftCost, Row
from agentkit.engine.kv_cache import KVCache
from agentkit.engine.native.library import BF16, F32, INTERLEAVED, Q4_1, Q8_0, Batch, Library
from agentkit.engine.native.model import NativeModel

__all__ = ["NativeBackend"]

# What each token more adds to a pass that reads one, as measured with SmolLM2-135M on two cores:
# the less there is to fetch of the weights, the more the arithmetic counts.
_TOKEN_COST = {F32: 0.06, BF16: 0.22, Q8_0: 0.3, Q4_1: 0.42}
_TOKEN_COST |= {INTERLEAVED[Q8_0]: 0.12, INTERLEAVED[Q4_1]: 0.25}


class NativeBackend:
    """Reads a few tokens of many sequences in one native call.

    Where the weights' rows are side by side, that is so for prompts as well. Otherwise beginnings
    and long stretches of them go to another backend, whose matrix products are then faster.

    Args:
        native: The model.
        lib: The library.
        prefill: Reads what is not read natively.
        most: Tokens of one sequence, up to which the native pass is the faster one.
    """

    batched = True
    """Rows share a pass: the weights come from memory once for all of them."""

    def __init__(
        self, native: NativeModel, lib: Library, *, prefill: Backend, most: int = 24
    ) -> None:
        self._native, self._library, self._prefill = native, lib, prefill
        self._most = min(most, lib.max_tokens)
        self._scratch = torch.empty(0)
        kind = native.struct.layer[0].gate.kind
        self.draft_cost = DraftCost(0.0, _TOKEN_COST[kind])
        self._reads_prompts = kind in INTERLEAVED.values() and not any(native.recurrent)

    @property
    def identity(self) -> str:
        """Differs between models whose caches differ; see :mod:`agentkit.engine.prefixes`."""
        return f"native-{self._native.fingerprint()}"

    @torch.inference_mode()
    def forward(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Read the rows' tokens; see :class:`agentkit.engine.backend.Backend`."""
        results: list[torch.Tensor | None] = [None] * len(rows)
        group: list[int] = []
        tokens = 0

        def flush() -> None:
            nonlocal group, tokens
            if group:
                outputs = self._step([rows[i] for i in group])
                for i, output in zip(group, outputs, strict=True):
                    results[i] = output
            group, tokens = [], 0

        for i, row in enumerate(rows):
            count = len(row.token_ids)
            if not self._is_native(row):
                results[i] = self._prefill.forward([row])[0]
                continue
            if count > self._library.max_tokens:
                results[i] = self._in_pieces(row)
                continue
            if tokens + count > self._library.max_tokens:
                flush()
            group.append(i)
            tokens += count
        flush()
        return [result for result in results if result is not None]

    def _is_native(self, row: Row) -> bool:
        """Whether a row is read natively: its cache is of that kind, and it is faster so."""
        layers, begins = row.cache.state.layers, not row.cache.token_ids
        if not self._reads_prompts and (begins or len(row.token_ids) > self._most):
            return False
        if begins:
            for layer in layers:
                if layer.storage is None:
                    layer.begin(self._native.struct.kv_heads, self._native.head_dim)
        return all(_is_float32(layer) for layer in layers)

    def _in_pieces(self, row: Row) -> torch.Tensor:
        """A row that is too long for one call."""
        size, left = self._library.max_tokens, len(row.token_ids)
        logits = []
        for begin in range(0, left, size):
            piece = row.token_ids[begin : begin + size]
            wanted = row.keep - (left - begin - len(piece))
            (part,) = self._step([Row(row.cache, piece, max(1, min(wanted, len(piece))))])
            if wanted > 0:
                logits.append(part)
        return torch.cat(logits)

    def _step(self, rows: list[Row]) -> list[torch.Tensor]:
        try:
            return self._unsafe_step(rows)
        except BaseException:
            for row in rows:
                row.cache.clear()
            raise

    def _unsafe_step(self, rows: list[Row]) -> list[torch.Tensor]:
        model, layers = self._native, self._native.struct.layers
        ids: list[int] = []
        positions: list[int] = []
        sequence: list[int] = []
        wanted: list[int] = []
        pointers: list[list[int]] = [[], [], [], []]
        capacity: list[int] = []
        for number, row in enumerate(rows):
            begin = len(row.cache.token_ids)
            end = begin + len(row.token_ids)
            wanted += range(len(ids) + len(row.token_ids) - row.keep, len(ids) + len(row.token_ids))
            ids += row.token_ids
            positions += range(begin, end)
            sequence += [number] * (end - begin)
            capacity.append(self._point(row.cache, end, pointers))
        longest = max(positions) + 1
        model.reach(longest)
        threads = torch.get_num_threads()
        needed = self._library.scratch_floats(ctypes.byref(model.struct), longest, threads)
        if self._scratch.numel() < needed:
            self._scratch = torch.empty(2 * needed)
        logits = torch.empty(len(wanted), model.struct.vocabulary)
        arrays = [(ctypes.c_int32 * len(v))(*v) for v in (ids, positions, sequence, wanted)]
        tables = [(ctypes.c_void_p * (len(rows) * layers))(*p) for p in pointers]
        rooms = (ctypes.c_int64 * len(rows))(*capacity)
        batch = Batch(
            tokens=len(ids),
            outputs=len(wanted),
            threads=threads,
            logits=logits.data_ptr(),
            scratch=self._scratch.data_ptr(),
            longest=longest,
        )
        for name, array in zip(
            ("ids", "positions", "sequence", "output_index"), arrays, strict=True
        ):
            setattr(batch, name, ctypes.addressof(array))
        for name, table in zip(("keys", "values", "conv", "state"), tables, strict=True):
            setattr(batch, name, ctypes.addressof(table))
        batch.capacity = ctypes.addressof(rooms)
        self._library.step(ctypes.byref(model.struct), ctypes.byref(batch))
        results, at = [], 0
        for row in rows:
            row.cache.token_ids += row.token_ids
            length = len(row.cache.token_ids)
            for layer, recurrent in zip(row.cache.state.layers, model.recurrent, strict=True):
                if not recurrent:
                    layer.extend(length)
            results.append(logits[at : at + row.keep])
            at += row.keep
        return results

    def _point(self, cache: KVCache, end: int, pointers: list[list[int]]) -> int:
        """Add the addresses of a cache's tensors; returns its capacity in tokens."""
        keys, values, conv, state = pointers
        capacity = 0
        for layer, recurrent in zip(cache.state.layers, self._native.recurrent, strict=True):
            if recurrent:
                conv.append(layer.conv_states[0].data_ptr())
                state.append(layer.recurrent_states[0].data_ptr())
                keys.append(0)
                values.append(0)
                continue
            layer.reserve(end)
            stores = layer.storage
            capacity = stores[0].shape[-2]
            keys.append(stores[0].data_ptr())
            values.append(stores[1].data_ptr())
            conv.append(0)
            state.append(0)
        return capacity


def _is_float32(layer: Any) -> bool:
    storage = getattr(layer, "storage", None)
    if storage is not None:
        return bool(storage[0].dtype == torch.float32)
    states = (*getattr(layer, "conv_states", {}).values(),)
    states += (*getattr(layer, "recurrent_states", {}).values(),)
    return bool(states) and all(s is not None and s.dtype == torch.float32 for s in states)
