"""No malformed call can be generated: the model's output under the grammar of the schemas."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import jsonschema
import pytest

from agentkit import (
    ModelRequest,
    ModelResponse,
    Sampling,
    ToolDefinition,
    TransformersModel,
    UserError,
    UserMessage,
)
from agentkit.engine.decoding import Turn
from agentkit.models.base import generate
from support import granite_model, random_schema

PROMPTS = ["hi", "What is 日本?", "Add 2 and 3.", '"}]}</tool_call>', "x" * 40]


def random_request(rng: random.Random, seed: int, *, max_tokens: int, depth: int) -> ModelRequest:
    tools = [
        ToolDefinition(name=f"tool_{k}", parameters=random_schema(rng, depth))
        for k in range(rng.randint(1, 3))
    ]
    return ModelRequest(
        messages=[UserMessage(rng.choice(PROMPTS))],
        tools=tools,
        tool_choice=rng.choice(["required", "required", tools[0].name]),
        parallel_tool_calls=rng.random() < 0.3,
        sampling=Sampling(
            max_tokens=max_tokens, temperature=rng.choice([0.0, 1.0, 1.5]), seed=seed
        ),
    )


def assert_calls_are_valid(request: ModelRequest, response: ModelResponse) -> None:
    assert response.calls
    assert response.text == ""
    schemas = {tool.name: dict(tool.parameters) for tool in request.tools}
    for call in response.calls:
        assert call.error is None, call
        assert call.repairs == (), call
        jsonschema.Draft202012Validator(
            schemas[call.name or ""], format_checker=jsonschema.FormatChecker()
        ).validate(call.arguments)
        if request.tool_choice != "required":
            assert call.name == request.tool_choice


def test_calls_of_a_random_granite_are_valid_for_1000_random_schemas() -> None:
    # One layer: what is tested is the grammar, and random weights are as random in one.
    model = granite_model(hybrid=False, layers=1)
    engine = model.engine
    try:
        for seed in range(1000):
            request = random_request(random.Random(seed), seed, max_tokens=240, depth=1)
            *_, response = Turn(engine, request).run()
            assert isinstance(response, ModelResponse)
            assert_calls_are_valid(request, response)
            assert response.usage.generated_tokens <= 240
    finally:
        model.close()


def test_calls_of_a_random_hybrid_granite_are_valid(granite_hybrid: Any) -> None:
    for seed in range(10):
        request = random_request(random.Random(seed), seed, max_tokens=240, depth=1)
        assert_calls_are_valid(request, asyncio.run(generate(granite_hybrid, request)))


@pytest.mark.model
def test_calls_of_the_embedded_model_are_valid() -> None:
    model = TransformersModel("embedded")
    for seed in range(12):
        request = random_request(random.Random(seed), seed, max_tokens=150, depth=0)
        assert_calls_are_valid(request, asyncio.run(generate(model, request)))
    model.close()


def test_a_call_is_brought_to_its_end_before_the_token_limit(granite: Any) -> None:
    tool = ToolDefinition(
        name="note",
        parameters={
            "type": "object",
            "properties": {"text": {"type": "string"}, "tag": {"enum": ["a", "b"]}},
            "required": ["text", "tag"],
        },
    )
    for limit in (60, 61, 90, 200):
        request = ModelRequest(
            messages=[UserMessage("hi")],
            tools=[tool],
            tool_choice="note",
            sampling=Sampling(max_tokens=limit),
        )
        response = asyncio.run(generate(granite, request))
        assert_calls_are_valid(request, response)
        assert response.finish_reason == "tool_calls"
        assert response.usage.generated_tokens <= limit


def test_a_limit_that_no_call_fits_is_refused_with_the_number_needed(granite: Any) -> None:
    request = ModelRequest(
        messages=[UserMessage("hi")],
        tools=[ToolDefinition(name="note")],
        tool_choice="required",
        sampling=Sampling(max_tokens=3),
    )
    with pytest.raises(UserError, match=r"max_tokens is 3, but the shortest call .* takes \d+"):
        asyncio.run(generate(granite, request))


def test_numbers_stay_within_what_a_float_can_hold(granite: Any) -> None:
    tool = ToolDefinition(
        name="f",
        parameters={
            "type": "object",
            "properties": {"x": {"type": "number"}, "n": {"type": "integer"}},
            "required": ["x", "n"],
        },
    )
    for seed in range(15):
        request = ModelRequest(
            messages=[UserMessage("hi")],
            tools=[tool],
            tool_choice="f",
            sampling=Sampling(max_tokens=300, temperature=1.0, seed=seed),
        )
        (call,) = asyncio.run(generate(granite, request)).calls
        assert call.arguments is not None
        assert abs(call.arguments["x"]) < 1e140  # 40 digits, and an exponent of two
        assert abs(call.arguments["n"]) < 10**60


def test_one_call_only_where_parallel_calls_are_off(granite: Any) -> None:
    for seed in range(10):
        request = ModelRequest(
            messages=[UserMessage("hi")],
            tools=[ToolDefinition(name="now")],
            tool_choice="required",
            parallel_tool_calls=False,
            sampling=Sampling(temperature=1.0, seed=seed),
        )
        response = asyncio.run(generate(granite, request))
        assert [call.name for call in response.calls] == ["now"]
        assert response.generation is not None
        assert response.generation.text.endswith("</tool_call>")


def test_a_schema_that_no_grammar_can_follow_still_gives_well_formed_calls(granite: Any) -> None:
    tool = ToolDefinition(
        name="odd",
        parameters={
            "type": "object",
            "properties": {"xs": {"type": "array", "uniqueItems": True, "maxItems": 2}},
            "not": {"required": ["forbidden"]},
        },
    )
    request = ModelRequest(
        messages=[UserMessage("hi")],
        tools=[tool],
        tool_choice="odd",
        sampling=Sampling(max_tokens=200),
    )
    response = asyncio.run(generate(granite, request))
    assert [call.error for call in response.calls] == [None] * len(response.calls)
    assert response.calls[0].name == "odd"
