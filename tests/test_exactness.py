"""With every feature on, greedy answers are token for token those of ``generate()``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from agentkit import (
    Message,
    ModelRequest,
    ModelResponse,
    Sampling,
    SystemMessage,
    ToolDefinition,
    ToolMessage,
    TransformersModel,
    UserMessage,
)
from agentkit.engine.eager.backend import EagerBackend
from agentkit.models.base import generate
from recording import Recorder
from support import granite_tokenizer, small_model

QUOTE = "The lighthouse keeper counted the ships that passed on the evening of the storm. "
SYSTEM = SystemMessage("You look things up, and quote what you have found word for word. " * 3)
TOOL = ToolDefinition(
    name="look_up",
    description="Look a word up in the encyclopedia",
    parameters={
        "type": "object",
        "properties": {"word": {"type": "string", "maxLength": 8}},
        "required": ["word"],
    },
)
TOKENS = 16


MODELS = ["llama", "old_granite", "granite", "granite_hybrid"]
BACKENDS = ["", "eager", "recorded"]


@pytest.fixture(
    params=[
        *((model, backend) for model in MODELS for backend in BACKENDS),
        *(pytest.param(("embedded", b), marks=pytest.mark.model) for b in BACKENDS[:2]),
    ],
    ids=lambda param: "-".join(filter(None, param)),
)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TransformersModel]:
    """Batched, with lookup, its own store, and prefixes that another process has written."""
    kind, backend = request.param
    if kind in ("llama", "old_granite"):
        tokenizer: Any = granite_tokenizer()
        weights = small_model(kind, len(tokenizer))
    else:
        engine = request.getfixturevalue(kind).engine
        weights, tokenizer = engine.model, engine.tokenizer
    for _ in range(2):
        stored = TransformersModel.from_loaded(weights, tokenizer)
        if backend:
            static = {"static": True, "capture": Recorder()} if backend == "recorded" else {}
            stored.engine.backend = EagerBackend(weights, **static)
        stored.engine.keep_prefixes(tmp_path, max_bytes=1 << 30)
        if not list(tmp_path.iterdir()):
            ask(stored, [make_request([SYSTEM, UserMessage("hi")])])
            stored.close()
    yield stored
    stored.close()


def make_request(messages: Sequence[Message], **options: Any) -> ModelRequest:
    options.setdefault("tool_choice", "none")
    options.setdefault("sampling", Sampling(max_tokens=TOKENS))
    return ModelRequest(messages=messages, tools=[TOOL], **options)


def ask(model: TransformersModel, asked: Sequence[ModelRequest]) -> list[ModelResponse]:
    async def go() -> list[ModelResponse]:
        return await asyncio.gather(*(generate(model, one) for one in asked))

    return asyncio.run(go())


def reference(model: TransformersModel, messages: Sequence[Message]) -> list[int]:
    engine = model.engine
    prompt = engine.codec.encode(engine.chat_format.render(messages, tools=[TOOL]))
    output = engine.model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=TOKENS,
        do_sample=False,
        eos_token_id=list(engine.eos_ids),
        pad_token_id=engine.eos_ids[0],
    )
    return [t for t in output[0, len(prompt) :].tolist() if t not in engine.eos_ids]


def test_all_features_together_change_no_token(model: TransformersModel) -> None:
    questions = [
        UserMessage(f"Repeat: {QUOTE * 2}"),
        UserMessage(f"What is in this? {QUOTE}"),
        UserMessage("one two three one two three one two"),
    ]
    # Calls whose tokens were forced; their conversations go on from the cache.
    call = ask(
        model,
        [
            make_request(
                [SYSTEM, questions[1]],
                tool_choice="look_up",
                parallel_tool_calls=False,
                sampling=Sampling(max_tokens=60),
            )
        ],
    )[0]
    assert call.usage.reused_tokens > 50  # from the disk
    assert call.usage.forced_tokens > 5
    after = [
        SYSTEM,
        questions[1],
        call.to_message(),
        ToolMessage(QUOTE, call.calls[0].id, "look_up"),
    ]
    conversations = [after, *([SYSTEM, question] for question in questions)]
    expected = [reference(model, messages) for messages in conversations]
    for _ in range(2):  # at first afresh, then with everything known
        answers = ask(model, [make_request(messages) for messages in conversations])
        for answer, tokens in zip(answers, expected, strict=True):
            written = list(answer.generation.token_ids) if answer.generation else []
            # A turn with tools may not write a call or a result here, which generate() may.
            assert written == tokens or "<tool_" in model.engine.codec.decode(tokens)
        assert all(answer.usage.reused_tokens > 50 for answer in answers)
