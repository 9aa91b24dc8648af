"""Every backend against transformers' own arithmetic, alone and in company."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from agentkit import UserError
from agentkit.engine.backend import Backend, Row, TransformersBackend
from agentkit.engine.choosing import pick_backend
from agentkit.engine.eager.backend import EagerBackend
from agentkit.engine.kv_cache import KVCache
from agentkit.engine.native.backend import NativeBackend
from agentkit.engine.native.library import library
from recording import Recorder
from support import plain_logits, random_ids, small_model


def _native(model: Any) -> Backend:
    if library() is None:
        pytest.skip("needs a C compiler")
    return pick_backend(model)


def _recorded(model: Any) -> Backend:
    return EagerBackend(model, static=True, capture=Recorder())


MAKERS: dict[str, Callable[[Any], Backend]] = {
    "native": _native,
    "eager": EagerBackend,
    "recorded": _recorded,
}
CLOSE = {"atol": 2e-4, "rtol": 1e-3}


@pytest.fixture(params=["llama", "old_granite", "granite", "granite_hybrid"])
def model(request: pytest.FixtureRequest) -> Any:
    return small_model(request.param)


@pytest.fixture(params=MAKERS)
def backend(request: pytest.FixtureRequest, model: Any) -> Backend:
    return MAKERS[request.param](model)


def test_tokens_read_one_by_one_and_some_at_a_time(model: Any, backend: Backend) -> None:
    tokens = random_ids(320)
    cache = KVCache(model.config)
    logits = [backend.forward([Row(cache, tokens[:30])])[0]]
    for begin, end in ((30, 31), (31, 32), (32, 40), (40, 41), (41, 60), (60, 318), (318, 320)):
        logits.append(backend.forward([Row(cache, tokens[begin:end], keep=end - begin)])[0])
    torch.testing.assert_close(torch.cat(logits), plain_logits(model, tokens)[29:], **CLOSE)
    assert cache.token_ids == tokens


def test_a_sequence_of_one_token(model: Any, backend: Backend) -> None:
    cache = KVCache(model.config)
    logits = [backend.forward([Row(cache, [token])])[0] for token in (7, 8, 9, 10, 11)]
    expected = plain_logits(model, [7, 8, 9, 10, 11])
    torch.testing.assert_close(torch.cat(logits), expected, **CLOSE)


def test_more_tokens_than_fit_one_native_call(model: Any, backend: Backend) -> None:
    caches = [KVCache(model.config) for _ in range(10)]
    for cache in caches:
        backend.forward([Row(cache, random_ids(30))])
    more = random_ids(20, seed=1)
    expected = plain_logits(model, random_ids(30) + more)[-1]
    for logits in backend.forward([Row(cache, more) for cache in caches]):
        torch.testing.assert_close(logits[0], expected, **CLOSE)


def test_a_fork_and_its_origin_go_separate_ways(model: Any, backend: Backend) -> None:
    tokens = random_ids(40)
    cache = KVCache(model.config)
    backend.forward([Row(cache, tokens)])
    backend.forward([Row(cache, [4])])
    fork = cache.fork()
    for token in (5, 6, 7):
        backend.forward([Row(cache, [token])])
    logits = backend.forward([Row(fork, [9])])[0][0]
    torch.testing.assert_close(logits, plain_logits(model, [*tokens, 4, 9])[-1], **CLOSE)


def test_sequences_come_and_go_and_are_cut_and_copied(model: Any, backend: Backend) -> None:
    """As a scheduler does it, with everything that caches allow."""
    rng = random.Random(1)
    tokens = [random_ids(rng.randint(1, 60), seed=i) for i in range(6)]
    caches = [KVCache(model.config) for _ in tokens]
    backend.forward([Row(*pair) for pair in zip(caches, tokens, strict=True)])
    logits = [torch.empty(0)] * len(tokens)
    for _ in range(25):
        chosen = rng.sample(range(6), rng.randint(1, 6))
        news = [random_ids(rng.choice([1, 1, 1, 3, 8, 40]), rng.randrange(99)) for _ in chosen]
        rows = [Row(caches[i], new, len(new)) for i, new in zip(chosen, news, strict=True)]
        for i, new, found in zip(chosen, news, backend.forward(rows), strict=True):
            tokens[i] = tokens[i] + new
            logits[i] = found
            assert caches[i].token_ids == tokens[i]
        other = rng.randrange(6)
        if rng.random() < 0.3:
            caches[other] = caches[other].fork()
        if caches[other].croppable and rng.random() < 0.3:
            keep = max(1, len(tokens[other]) - 5)
            caches[other].truncate(keep)
            tokens[other], logits[other] = tokens[other][:keep], torch.empty(0)
        if rng.random() < 0.1:
            tokens[other], caches[other] = [3], KVCache(model.config)
            logits[other] = backend.forward([Row(caches[other], [3])])[0]
    for found, known in zip(logits, tokens, strict=True):
        if len(found):
            torch.testing.assert_close(found, plain_logits(model, known)[-len(found) :], **CLOSE)


def test_a_failed_pass_leaves_nothing_half_read(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = EagerBackend(model, static=True)
    caches = [KVCache(model.config) for _ in range(2)]
    backend.forward([Row(cache, random_ids(20)) for cache in caches])

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(nn.functional, "silu", broken)
        with pytest.raises(RuntimeError, match="out of luck"):
            backend.forward([Row(caches[0], [1])])
    assert caches[0].token_ids == []
    logits = backend.forward([Row(caches[0], [1, 2, 3]), Row(caches[1], [4])])
    torch.testing.assert_close(logits[0][0], plain_logits(model, [1, 2, 3])[-1], **CLOSE)
    expected = plain_logits(model, [*random_ids(20), 4])[-1]
    torch.testing.assert_close(logits[1][0], expected, **CLOSE)


class TestChoice:
    def test_the_compiled_one_comes_first(self) -> None:
        kind = EagerBackend if library() is None else NativeBackend
        assert isinstance(pick_backend(small_model("llama")), kind)

    @pytest.mark.parametrize(
        ("name", "kind"), [("eager", EagerBackend), ("transformers", TransformersBackend)]
    )
    def test_one_can_be_named(
        self, name: str, kind: type[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AGENTKIT_BACKEND", name)
        assert isinstance(pick_backend(small_model("llama")), kind)

    def test_an_unknown_name_is_the_users_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AGENTKIT_BACKEND", "fast")
        with pytest.raises(UserError, match="'fast'; it must be one of native, eager, transf"):
            pick_backend(small_model("llama"))

    def test_one_that_cannot_run_the_model_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AGENTKIT_BACKEND", "eager")
        model = small_model("llama")
        model.config.hidden_act = "gelu"
        with pytest.raises(UserError, match="cannot run LlamaForCausalLM: it has another activ"):
            pick_backend(model)

    def test_unknown_models_are_left_to_transformers(self) -> None:
        model = small_model("granite")
        model.config.hidden_act = "gelu"
        assert isinstance(pick_backend(model), TransformersBackend)
        odd = small_model("granite")
        odd.model.layers[0].self_attn.q_proj = nn.Sequential(odd.model.layers[0].self_attn.q_proj)
        assert isinstance(pick_backend(odd), TransformersBackend)

    def test_weights_that_c_does_not_know_go_through_torch(self) -> None:
        assert isinstance(pick_backend(small_model("llama").half()), EagerBackend)


def test_taking_a_model_over_changes_nothing_about_it(model: Any) -> None:
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):  # the second finds the matrices joined
        EagerBackend(model)
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
