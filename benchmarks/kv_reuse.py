"""A six-step tool run with the KV cache kept, against prefilling everything at each step."""

from __future__ import annotations

import asyncio
import time

import torch

from agentkit import (
    AssistantMessage,
    Message,
    ModelRequest,
    Sampling,
    SystemMessage,
    ToolDefinition,
    ToolMessage,
    TransformersModel,
    UserMessage,
)
from agentkit.models.base import generate
from benchmarks.baseline import generate_tokens, plain_model
from benchmarks.report import Figure

STEPS, STEP_TOKENS = 6, 30
TOOL = ToolDefinition(
    name="look_up",
    description="Look a word up in the encyclopedia " * 6,
    parameters={"type": "object", "properties": {"word": {"type": "string", "maxLength": 40}}},
)
SYSTEM = "You are an assistant that looks things up, one after another, with care. " * 28
OBSERVATION = "The encyclopedia says that this is a thing of some interest to many people. " * 8


def run() -> list[Figure]:
    """Both ways run the same conversation: some 700 tokens, then 120 a step, 30 written a step."""
    model = TransformersModel("embedded-base").load()
    try:
        engine = model.engine
        asyncio.run(generate(model, _request([UserMessage("hi")])))
        engine.caches.clear()
        begin = time.perf_counter()
        conversation, prefilled = asyncio.run(_with_cache(model))
        ours = time.perf_counter() - begin

        # float32: without AVX-512 it reads prompts several times as fast as bfloat16.
        generator = plain_model(torch.float32)
        generate_tokens(generator, engine.tokenizer(SYSTEM)["input_ids"][:64], 4)
        begin = time.perf_counter()
        plain = 0
        for length in range(2, len(conversation) + 1, 2):
            prompt = engine.codec.encode(
                engine.chat_format.render(conversation[:length], tools=[TOOL])
            )
            plain += len(prompt)
            generate_tokens(generator, prompt, STEP_TOKENS)
        baseline = time.perf_counter() - begin
        return [
            Figure(
                what=f"{STEPS}-step run against generate() on the whole conversation at each step",
                ours=ours,
                baseline=baseline,
                unit="s",
                at_least=3.5,
            ),
            Figure(
                what="tokens read over the run",
                ours=prefilled,
                baseline=plain,
                unit="tokens",
                at_least=3.0,
            ),
        ]
    finally:
        model.close()


async def _with_cache(model: TransformersModel) -> tuple[list[Message], int]:
    conversation: list[Message] = [SystemMessage(SYSTEM), UserMessage("Look up ten words.")]
    prefilled = 0
    for step in range(STEPS):
        response = await generate(model, _request(conversation))
        prefilled += response.usage.prefilled_tokens
        if step < STEPS - 1:
            message = response.to_message()
            conversation += [
                AssistantMessage(message.content, message.tool_calls, message.generation),
                ToolMessage(OBSERVATION, "call"),
            ]
    return conversation, prefilled


def _request(conversation: list[Message]) -> ModelRequest:
    return ModelRequest(
        messages=conversation,
        tools=[TOOL],
        tool_choice="none",
        sampling=Sampling(max_tokens=STEP_TOKENS),
    )
