"""What has been read is not read again: counters, and equality with reading it all afresh."""

from __future__ import annotations

import asyncio
from typing import Any

import torch

from agentkit import (
    Agent,
    ModelRequest,
    ModelResponse,
    Sampling,
    ToolDefinition,
    ToolMessage,
    TransformersModel,
    UserMessage,
)
from agentkit.models.base import generate

TOOL = ToolDefinition(
    name="get_weather",
    description="Get the current weather of a city",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
    },
)


def ask(model: TransformersModel, *messages: Any, **options: Any) -> ModelResponse:
    options.setdefault("sampling", Sampling(max_tokens=60))
    return asyncio.run(generate(model, ModelRequest(messages=messages, tools=[TOOL], **options)))


def two_steps(model: TransformersModel, city: str) -> tuple[Any, ModelResponse, ModelResponse]:
    question = UserMessage(f"What is the weather in {city}?")
    first = ask(model, question, tool_choice="get_weather")
    call = first.calls[0]
    conversation = [question, first.to_message(), ToolMessage("sunny", call.id, call.name or "")]
    return conversation, first, ask(model, *conversation, sampling=Sampling(max_tokens=8))


def test_a_second_step_reads_only_the_new_tokens(model: TransformersModel) -> None:
    conversation, first, second = two_steps(model, "Paris")
    codec = model.engine.codec
    prompt = codec.encode(model.engine.chat_format.render(conversation, tools=[TOOL]))
    assert first.generation is not None
    before = first.usage.prompt_tokens + first.usage.generated_tokens
    # Tokens chosen last had not been read by the model; everything before them had been.
    assert second.usage.prompt_tokens == len(prompt)
    assert second.usage.reused_tokens >= before - 8
    assert second.usage.prefilled_tokens <= len(prompt) - before + 8


def test_the_logits_of_a_second_step_equal_those_of_a_fresh_prefill(
    model: TransformersModel,
) -> None:
    conversation, _, _ = two_steps(model, "Rome")
    engine = model.engine
    prompt = engine.codec.encode(engine.chat_format.render(conversation, tools=[TOOL]))
    cache = engine.caches.take(prompt)
    assert len(cache.token_ids) > len(prompt) // 2
    kept = engine.forward(cache, prompt[len(cache.token_ids) :])
    _, fresh = engine.prefill(prompt)
    torch.testing.assert_close(kept, fresh, atol=2e-3, rtol=1e-3)
    assert int(kept.argmax()) == int(fresh.argmax())


def test_generated_tokens_are_never_encoded_anew(model: TransformersModel) -> None:
    conversation, first, _ = two_steps(model, "Oslo")
    prompt = model.engine.codec.encode(model.engine.chat_format.render(conversation, tools=[TOOL]))
    generation = first.generation
    assert generation is not None
    start = first.usage.prompt_tokens
    assert tuple(prompt[start : start + len(generation.token_ids)]) == generation.token_ids


def test_greedy_output_equals_that_of_generate(model: TransformersModel) -> None:
    engine = model.engine
    messages = [UserMessage("Tell me about the sea.")]
    request = ModelRequest(messages=messages, sampling=Sampling(max_tokens=24))
    ours = asyncio.run(generate(model, request)).generation
    prompt = engine.codec.encode(engine.chat_format.render(messages))
    output = engine.model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=24,
        do_sample=False,
        eos_token_id=list(engine.eos_ids),
        pad_token_id=engine.eos_ids[0],
    )
    theirs = [t for t in output[0, len(prompt) :].tolist() if t not in engine.eos_ids]
    assert ours is not None
    assert list(ours.token_ids) == theirs


def test_a_run_reports_reuse_step_by_step(granite: TransformersModel) -> None:
    agent = Agent(granite, [lookup], tool_choice="lookup", sampling=Sampling(max_tokens=80))
    first, *others = agent.run_sync("where?").steps
    assert first.usage.prefilled_tokens > 0
    for step in others:
        assert step.usage.reused_tokens > step.usage.prefilled_tokens


def lookup(word: str) -> str:
    """Look a word up."""
    return f"nothing about {word[:10]}"


def test_conversations_that_share_a_beginning_keep_their_own_ends(
    granite: TransformersModel,
) -> None:
    trunk = UserMessage("A long question that both conversations begin with, word for word.")
    root = ask(granite, trunk).to_message()
    left = [trunk, root, UserMessage("Go left.")]
    right = [trunk, root, UserMessage("Turn right, please.")]
    ask(granite, *left)
    forked = ask(granite, *right)
    again = ask(granite, *left)
    assert forked.usage.reused_tokens > 0
    assert again.usage.prefilled_tokens == 1
    alone = TransformersModel.from_loaded(granite.engine.model, granite.engine.tokenizer)
    try:
        assert ask(alone, *right).generation == forked.generation
    finally:
        # The weights belong to the fixture; only the wrapper's own caches go.
        alone.engine.caches.clear()


def test_the_cache_keeps_to_its_budget(granite: TransformersModel) -> None:
    small = TransformersModel.from_loaded(
        granite.engine.model, granite.engine.tokenizer, cache_bytes=2_000_000
    )
    for i in range(20):
        ask(small, UserMessage(f"{i} is the number of this question, and here is some more text"))
    assert len(small.engine.caches) >= 1
    assert small.engine.caches.nbytes <= 2_000_000


def test_the_same_prompt_is_not_read_again(model: TransformersModel) -> None:
    question = UserMessage("How deep is the deepest lake of all, and where is it?")
    first = ask(model, question, sampling=Sampling(max_tokens=4))
    for _ in range(2):
        again = ask(model, question, sampling=Sampling(max_tokens=4))
        assert again.usage.prefilled_tokens == 1
        assert again.generation == first.generation
