"""Prompt lookup: the same answers in fewer passes, and never much for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentkit import (
    ModelRequest,
    ModelResponse,
    Sampling,
    ToolDefinition,
    TransformersModel,
    UserMessage,
)
from agentkit.engine.backend import DraftCost, Row
from agentkit.engine.decoding import Turn
from agentkit.engine.engine import InferenceEngine
from agentkit.engine.kv_cache import KVCache
from agentkit.engine.loading import LoadedModel
from agentkit.engine.lookup import PromptLookup, SuffixIndex
from agentkit.models.base import generate

CHEAP = DraftCost(0, 0.05)
TOKENS = st.lists(st.integers(0, 2), max_size=40)
SENTENCE = "The lighthouse keeper counted the ships that passed on the evening of the storm. "
TOOL = ToolDefinition(
    name="note",
    parameters={
        "type": "object",
        "properties": {"text": {"type": "string", "maxLength": 40}, "n": {"type": "integer"}},
        "required": ["text", "n"],
    },
)


@given(TOKENS)
def test_the_longest_earlier_match_is_found(tokens: list[int]) -> None:
    start, length = SuffixIndex(tokens).longest_match()
    lengths = [0]
    for end in range(1, len(tokens)):
        n = 0
        while n < end and n < 32 and tokens[end - 1 - n] == tokens[-1 - n]:
            n += 1
        lengths.append(n)
    longest = max(lengths)
    if longest < 3:
        assert (start, length) == (0, 0)
    else:
        assert 3 <= length == lengths[start]
        # Only the latest places are compared.
        assert length == longest or sum(n >= 3 for n in lengths) > 8


@given(TOKENS, st.lists(st.one_of(st.none(), st.integers(0, 2)), max_size=30))
def test_taking_back_is_as_never_having_written(tokens: list[int], steps: list[int | None]) -> None:
    index, plain = SuffixIndex(tokens), list(tokens)
    for step in steps:
        if step is not None:
            index.extend([step])
            plain.append(step)
        elif plain:
            index.pop()
            plain.pop()
    assert index.longest_match() == SuffixIndex(plain).longest_match()
    assert len(index) == len(plain)


def test_what_followed_is_repeated_past_the_end() -> None:
    index = SuffixIndex([1, 2, 3, 1, 2, 3])
    start, match = index.longest_match()
    assert (start, match) == (3, 3)
    assert index.following(start, 7) == [1, 2, 3, 1, 2, 3, 1]


@pytest.mark.parametrize("cost", [DraftCost(0, 0.02), DraftCost(0.8, 0.06), DraftCost(0.3, 1)])
def test_wrong_guesses_cost_little(cost: DraftCost) -> None:
    lookup = PromptLookup([1, 2, 3, 4] * 50)
    spent, passes = 0.0, 400
    for _ in range(passes):
        draft = lookup.propose(limit=100, cost=cost)
        spent += (cost.start + cost.token * len(draft)) if draft else 0
        lookup.extend([1, 2, 3, 4])
    assert 0 < spent <= 1.2 + 0.02 * passes


def test_right_guesses_make_longer_ones() -> None:
    lookup = PromptLookup([*range(100), 4, 5, 6, 7])
    lengths = []
    for _ in range(4):
        draft = lookup.propose(limit=100, cost=CHEAP)
        lengths.append(len(draft))
        for _ in draft:
            lookup.accept()
        lookup.extend([*draft, 8 + sum(lengths) - 1][: len(draft)])
    assert lengths == sorted(lengths)
    assert lengths[-1] == 16
    assert len(lookup.propose(limit=2, cost=CHEAP)) <= 2


def test_tokens_that_end_a_turn_are_not_guessed() -> None:
    lookup = PromptLookup([8, 1, 2, 3, 4, 0, 9, 9, 8, 1, 2, 3], never=[0])
    assert lookup.propose(limit=10, cost=CHEAP) == [4]


class QuotingBackend:
    """Logits that quote a text, whatever was read; right at every position of a draft."""

    def __init__(self, engine: InferenceEngine, prompt: int, script: Sequence[int]) -> None:
        self._backend = engine.backend
        self._prompt, self._script = prompt, [*script, engine.eos_ids[0]]
        self.passes = 0

    def forward(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        (row,) = rows
        logits = self._backend.forward(rows)[0].mul(1e-3)
        self.passes += 1
        for i in range(row.keep):
            at = len(row.cache.token_ids) - row.keep + i + 1 - self._prompt
            if 0 <= at < len(self._script):
                logits[i, self._script[at]] += 10
        return [logits]


def quoting(granite: Any, *, lookup: bool) -> tuple[ModelResponse, int, KVCache]:
    shared = granite.engine
    engine = InferenceEngine(
        LoadedModel(shared.model, shared.tokenizer, shared.device, torch.float32),
        shared.chat_format,
        cache_bytes=10**8,
        lookup=lookup,
    )
    request = ModelRequest(
        messages=[UserMessage(f"Repeat this: {SENTENCE * 2}")], sampling=Sampling(max_tokens=100)
    )
    turn = Turn(engine, request)
    turn.prepare()
    script = engine.codec.encode_text(SENTENCE + "That is what it says.")
    engine.backend = backend = QuotingBackend(engine, len(turn.prompt_ids), script)
    *_, response = turn.run()
    assert isinstance(response, ModelResponse)
    assert response.generation is not None
    assert list(response.generation.token_ids) == script
    # What was read ahead and not written is not in the cache.
    cache = engine.caches.take([*turn.prompt_ids, *script, 0])
    assert cache.token_ids == [*turn.prompt_ids, *script][: len(cache.token_ids)]
    assert len(cache.token_ids) >= len(turn.prompt_ids) + len(script) - 1
    return response, backend.passes, cache


def test_quotes_take_fewer_passes(granite: TransformersModel) -> None:
    plain, plain_passes, plain_cache = quoting(granite, lookup=False)
    quick, quick_passes, quick_cache = quoting(granite, lookup=True)
    assert quick.generation == plain.generation
    assert plain_passes == plain.usage.sampled_tokens
    assert plain.usage.lookup_tokens == 0
    assert quick.usage.sampled_tokens == plain.usage.sampled_tokens
    assert quick_passes == quick.usage.sampled_tokens - quick.usage.lookup_tokens
    assert quick_passes < 0.7 * plain_passes
    # Rejected drafts have left no trace in keys and values.
    length = min(len(quick_cache.token_ids), len(plain_cache.token_ids))
    for ours, theirs in zip(quick_cache.state.layers, plain_cache.state.layers, strict=True):
        torch.testing.assert_close(
            ours.keys[..., :length, :], theirs.keys[..., :length, :], atol=1e-4, rtol=1e-4
        )


def requests() -> list[ModelRequest]:
    text = SENTENCE * 3 + "aaa bbb aaa bbb aaa bbb"
    sampled = Sampling(max_tokens=60, temperature=0.7, seed=3)
    free = [
        ModelRequest(messages=[UserMessage(text)], sampling=sampling)
        for sampling in (
            Sampling(max_tokens=60),
            sampled,
            Sampling(max_tokens=60, repetition_penalty=1.2),
        )
    ]
    calls = [
        ModelRequest(
            messages=[UserMessage(text)], tools=[TOOL], tool_choice="required", sampling=sampling
        )
        for sampling in (Sampling(max_tokens=150), sampled, Sampling(max_tokens=90))
    ]
    return free + calls


@pytest.mark.parametrize(
    "name", ["granite", "granite_hybrid", pytest.param("embedded", marks=pytest.mark.model)]
)
def test_answers_are_the_same_with_and_without(name: str, request: pytest.FixtureRequest) -> None:
    model: TransformersModel = request.getfixturevalue(name)
    answers: dict[bool, list[ModelResponse]] = {}
    try:
        for lookup in (False, True):
            model.engine.lookup = lookup
            model.engine.caches.clear()
            asked = requests()[:: 3 if name == "embedded" else 1]
            answers[lookup] = [asyncio.run(generate(model, one)) for one in asked]
    finally:
        model.engine.lookup = True
    for plain, quick in zip(answers[False], answers[True], strict=True):
        assert quick.generation == plain.generation
        assert quick.usage.generated_tokens == plain.usage.generated_tokens
    guessed = sum(answer.usage.lookup_tokens for answer in answers[True])
    assert (guessed > 0) == (name != "granite_hybrid")


@pytest.mark.parametrize("lookup", [False, True])
def test_logprobs_are_those_of_the_model(granite: TransformersModel, lookup: bool) -> None:
    engine = granite.engine
    asked = ModelRequest(
        messages=[UserMessage(SENTENCE * 3)],
        tools=[TOOL],
        tool_choice="note",
        sampling=Sampling(max_tokens=120, logprobs=2),
    )
    engine.lookup = lookup
    try:
        response = asyncio.run(generate(granite, asked))
    finally:
        engine.lookup = True
    assert response.generation is not None
    assert response.logprobs is not None
    written = list(response.generation.token_ids)
    assert [score.token_id for score in response.logprobs] == written
    assert response.logprobs[0].text == engine.codec.decode(written[:1])
    forced = [score.forced for score in response.logprobs]
    assert sum(forced) == response.usage.forced_tokens
    prompt = engine.codec.encode(engine.chat_format.render(asked.messages, tools=asked.tools))
    with torch.inference_mode():
        logits = engine.model(torch.tensor([prompt + written])).logits[0]
    expected = logits.log_softmax(-1)
    for i, score in enumerate(response.logprobs):
        row = expected[len(prompt) + i - 1]
        if score.logprob is None:
            assert all(forced[i:])  # at the end of the turn, which no pass has read
            continue
        assert score.logprob == pytest.approx(float(row[score.token_id]), abs=1e-3)
        assert [t for t, _, _ in score.top] == row.topk(2).indices.tolist()
    assert response.logprobs[0].logprob is not None
    assert response.logprobs[0].forced


def test_logprobs_are_given_only_when_asked_for(granite: TransformersModel) -> None:
    asked = [
        ModelRequest(
            messages=[UserMessage("hi")], sampling=Sampling(max_tokens=5, logprobs=logprobs)
        )
        for logprobs in (None, 0)
    ]
    without, bare = [asyncio.run(generate(granite, one)) for one in asked]
    assert without.logprobs is None
    assert bare.logprobs is not None
    assert all(score.top == () and score.logprob is not None for score in bare.logprobs)
