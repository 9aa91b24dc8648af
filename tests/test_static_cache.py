"""The static cache of GPU decoding, as far as it can be tested without one: nearly all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentkit.engine.backend import Row
from agentkit.engine.eager.backend import EagerBackend
from agentkit.engine.eager.buckets import Shape, fitting, length_step, row_step, shape_for
from agentkit.engine.eager.slots import Slots
from agentkit.engine.kv_cache import KVCache
from recording import Recorder
from support import plain_logits, random_ids, small_model

CLOSE = {"atol": 2e-4, "rtol": 1e-3}


@pytest.fixture(params=["llama", "granite_hybrid"])
def model(request: pytest.FixtureRequest) -> Any:
    return small_model(request.param)


def begin(model: Any, backend: EagerBackend, *lengths: int) -> list[KVCache]:
    """Caches that have read prompts, and then a token each, which brought them into slots."""
    caches = [KVCache(model.config) for _ in lengths]
    for seed, (cache, length) in enumerate(zip(caches, lengths, strict=True)):
        backend.forward([Row(cache, random_ids(length, seed))])
    backend.forward([Row(cache, [5]) for cache in caches])
    return caches


def check(model: Any, cache: KVCache, logits: torch.Tensor) -> None:
    torch.testing.assert_close(logits[-1], plain_logits(model, cache.token_ids)[-1], **CLOSE)


def decode(model: Any, backend: EagerBackend, caches: list[KVCache], times: int = 1) -> None:
    for number in range(times):
        found = backend.forward([Row(cache, [number + 7]) for cache in caches])
    for cache, logits in zip(caches, found, strict=True):
        check(model, cache, logits)


class TestShapes:
    @given(st.lists(st.tuples(st.integers(1, 16), st.integers(1, 5000)), min_size=1, max_size=40))
    def test_all_rows_fit_and_not_much_is_left(self, rows: list[tuple[int, int]]) -> None:
        counts, lengths = [c for c, _ in rows], [c + past for c, past in rows]
        shape = shape_for(counts, lengths)
        assert len(rows) <= shape.rows < 2 * len(rows)
        assert max(counts) <= shape.tokens < 2 * max(counts)
        assert max(lengths) <= shape.length < max(257, 2 * max(lengths))

    def test_there_are_few(self) -> None:
        found = {
            shape_for([tokens] * rows, [tokens + past] * rows)
            for rows in range(1, 17)
            for tokens in range(1, 17)
            for past in (10, 100, 300, 1000)
        }
        assert len(found) == 5 * 5 * 3
        assert shape_for([1, 3], [40, 300]) == Shape(2, 4, 512)

    @given(st.lists(st.integers(1, 9000), max_size=20), st.integers(0, 40000))
    def test_what_goes_into_a_cache_fits_it(self, lengths: list[int], most: int) -> None:
        kept = fitting(lengths, most)
        assert kept == sorted(set(kept))
        if kept:
            longest = max(lengths[i] for i in kept)
            assert row_step(len(kept)) * length_step(longest) <= most
        left = [length for i, length in enumerate(lengths) if i not in kept]
        assert all(length >= max((lengths[i] for i in kept), default=0) for length in left)
        if left:  # the shortest that was left out would have been too much
            assert row_step(len(kept) + 1) * length_step(min(left)) > most


class TestSlots:
    def test_those_at_work_are_in_the_first(self, model: Any) -> None:
        backend = EagerBackend(model, static=True)
        caches = begin(model, backend, 20, 30, 40, 50)
        decode(model, backend, [caches[3]], 2)
        decode(model, backend, [caches[2], caches[0]], 2)
        decode(model, backend, caches, 2)

    def test_a_cache_stays_where_it_is(self, model: Any) -> None:
        slots = Slots(EagerBackend(model)._model)
        backend = EagerBackend(model)
        caches = begin(model, backend, 20, 30)
        first = slots.place(caches, 100)
        assert sorted(first) == [0, 1]
        assert slots.place(caches[::-1], 100) == first[::-1]
        assert (slots.count, slots.capacity, slots.generation) == (2, 256, 1)

    def test_more_and_longer_sequences_make_it_grow(self, model: Any) -> None:
        backend = EagerBackend(model, static=True, capture=Recorder())
        caches = begin(model, backend, 250)
        decode(model, backend, caches, 10)  # over 256 tokens
        assert backend.graphs.recorded == [Shape(1, 1, 512)]
        caches += begin(model, backend, 20, 30)
        decode(model, backend, caches, 4)
        assert Shape(4, 1, 512) in backend.graphs.recorded
        assert Shape(1, 1, 512) not in backend.graphs.recorded  # its tensors have gone

    def test_others_move_out_and_back(self, model: Any) -> None:
        backend = EagerBackend(model, static=True)
        ones = begin(model, backend, 20, 30)
        others = begin(model, backend, 25, 35)  # there are two slots
        assert backend._slots.count == 2
        for caches in (ones, others, ones, [ones[0], others[1]], others):
            decode(model, backend, caches)

    def test_a_stored_sequence_takes_no_more_than_it_has(self, model: Any) -> None:
        backend = EagerBackend(model, static=True)
        (cache,) = begin(model, backend, 20)
        grown = KVCache(model.config)
        grown.expect(21)
        EagerBackend(model).forward([Row(grown, random_ids(20))])
        EagerBackend(model).forward([Row(grown, [5])])
        assert cache.nbytes == grown.nbytes
        tensors = {name: tensor.clone() for name, tensor in cache.tensors().items()}
        for name, tensor in grown.tensors().items():
            torch.testing.assert_close(tensor, tensors[name], **CLOSE)

    def test_a_chunk_longer_than_the_slot_takes_all_layers_out(self, model: Any) -> None:
        backend = EagerBackend(model, static=True)
        caches = begin(model, backend, 200, 30)
        backend.forward([Row(caches[0], random_ids(100, 9))])
        others = begin(model, backend, 20, 20)  # into the slot that was left
        decode(model, backend, others)
        decode(model, backend, [caches[0]])
        decode(model, backend, [caches[1]])

    def test_a_copy_holds_no_more_than_its_part(self) -> None:
        model = small_model("granite_hybrid")
        backend = EagerBackend(model, static=True)
        fork = begin(model, backend, 20, 20, 20)[0].fork()
        for tensor in fork.tensors().values():
            assert tensor.untyped_storage().nbytes() <= tensor.nbytes

    def test_the_longest_are_left_out_where_memory_is_short(self, model: Any) -> None:
        backend = EagerBackend(model, static=True, slot_tokens=600)
        caches = begin(model, backend, 20, 300, 30)
        decode(model, backend, caches, 3)
        assert (backend._slots.count, backend._slots.capacity) == (2, 256)

    def test_where_there_is_no_memory_it_goes_on_without(
        self, model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def none_left(*_: Any, **__: Any) -> Any:
            raise torch.OutOfMemoryError("none left")

        backend = EagerBackend(model, static=True)
        caches = [*begin(model, backend, 20, 30), KVCache(model.config)]
        backend.forward([Row(caches[2], random_ids(40))])
        with monkeypatch.context() as patch:
            patch.setattr(torch, "zeros_like", none_left)
            found = backend.forward([Row(cache, [6]) for cache in caches])
        for cache, logits in zip(caches, found, strict=True):
            check(model, cache, logits)
        assert "no memory for 3 sequences" in caplog.text
        decode(model, backend, caches)


class TestRecording:
    def test_a_shape_is_recorded_once_it_is_used_again(self, model: Any) -> None:
        recorder = Recorder()
        backend = EagerBackend(model, static=True, capture=recorder)
        caches = begin(model, backend, 20, 30, 40)
        decode(model, backend, caches, 5)
        assert backend.graphs.recorded == [Shape(4, 1, 256)]
        assert (recorder.recorded, recorder.replayed) == (1, 4)

    def test_logits_outlive_the_next_replay(self, model: Any) -> None:
        backend = EagerBackend(model, static=True, capture=Recorder())
        (cache,) = begin(model, backend, 20)
        decode(model, backend, [cache], 3)
        (before,) = backend.forward([Row(cache, [1])])
        kept = before.clone()
        backend.forward([Row(cache, [2])])
        assert torch.equal(before, kept)

    def test_rows_of_different_lengths_share_a_shape(self, model: Any) -> None:
        backend = EagerBackend(model, static=True, capture=Recorder())
        caches = begin(model, backend, 20, 30, 40)
        for times in range(4):
            news = [random_ids(1 + (i + times) % 4, i) for i in range(3)]
            rows = [Row(c, new, len(new)) for c, new in zip(caches, news, strict=True)]
            for cache, logits in zip(caches, backend.forward(rows), strict=True):
                check(model, cache, logits)
        assert backend.graphs.recorded == [Shape(4, 4, 256)]

    def test_a_failed_recording_is_told_once_and_done_without(
        self, model: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(step: Callable[[], torch.Tensor]) -> Any:
            step()
            raise RuntimeError("operation not permitted when stream is capturing")

        backend = EagerBackend(model, static=True, capture=broken)
        caches = begin(model, backend, 20, 30)
        decode(model, backend, caches, 5)
        decode(model, backend, caches[:1], 5)
        assert backend.graphs.recorded == []
        assert caplog.text.count("CUDA graphs cannot be used") == 1
