"""Answers in the form of a JSON Schema: the engine's grammar, the agent's option."""

from __future__ import annotations

import json
import random

import jsonschema
import pydantic
import pytest

from agentkit import (
    Agent,
    ModelRequest,
    Sampling,
    SchemaError,
    ScriptedModel,
    ToolDefinition,
    TransformersModel,
    UserError,
    UserMessage,
    tool,
)
from agentkit.models.base import ModelResponse, TextDelta, generate
from support import random_schema

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
}
WEATHER = ToolDefinition(
    name="get_weather",
    description="Weather of a city.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    },
)


def ask(**options: object) -> ModelRequest:
    sampling = options.pop("sampling", Sampling(max_tokens=160))
    return ModelRequest(
        messages=[UserMessage("Ann is 32 and likes tea. Describe her as JSON.")],
        sampling=sampling,  # type: ignore[arg-type]
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_sampled_follows_the_schema(
    granite: TransformersModel, seed: int
) -> None:
    # Random weights at a high temperature: without the grammar nothing of it would be JSON.
    schema = random_schema(random.Random(seed))
    sampling = Sampling(max_tokens=400, temperature=1.5, seed=seed)
    response = await generate(granite, ask(response_schema=schema, sampling=sampling))
    jsonschema.validate(json.loads(response.text), schema)
    assert response.calls == ()
    assert response.finish_reason == "stop"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/Colours", "$defs": {"Colours": {"type": "array", "minItems": 2}}},
        {"enum": ["red", "blue"]},
        {"type": "integer", "minimum": 3, "maximum": 5},
        {"anyOf": [{"type": "null"}, {"const": "x"}]},
    ],
)
async def test_answers_need_not_be_objects(
    granite: TransformersModel, schema: dict[str, object]
) -> None:
    sampling = Sampling(max_tokens=120, temperature=1.5, seed=1)
    response = await generate(granite, ask(response_schema=schema, sampling=sampling))
    jsonschema.validate(json.loads(response.text), schema)


@pytest.mark.parametrize("seed", range(10))
async def test_an_answer_is_whole_however_few_tokens_there_are(
    granite: TransformersModel, seed: int
) -> None:
    for max_tokens in (70, 90, 120):
        sampling = Sampling(max_tokens=max_tokens, temperature=1.5, seed=seed)
        response = await generate(granite, ask(response_schema=PERSON, sampling=sampling))
        jsonschema.validate(json.loads(response.text), PERSON)
        assert response.usage.generated_tokens <= max_tokens


async def test_too_few_tokens_for_any_answer_are_refused(granite: TransformersModel) -> None:
    with pytest.raises(UserError, match="max_tokens is 3, but the shortest answer"):
        await generate(granite, ask(response_schema=PERSON, sampling=Sampling(max_tokens=3)))


async def test_an_answer_or_calls(granite: TransformersModel) -> None:
    kinds = set()
    for seed in range(16):
        sampling = Sampling(max_tokens=160, temperature=3.0, seed=seed)
        response = await generate(
            granite, ask(response_schema=PERSON, tools=[WEATHER], sampling=sampling)
        )
        if response.calls:
            kinds.add("calls")
            assert response.text == ""
            assert response.finish_reason == "tool_calls"
            for call in response.calls:
                jsonschema.validate(call.arguments, WEATHER.parameters)
        else:
            kinds.add("answer")
            jsonschema.validate(json.loads(response.text), PERSON)
    assert kinds == {"answer", "calls"}


@pytest.mark.model
@pytest.mark.parametrize("tools", [(), (WEATHER,)])
async def test_a_tag_within_an_answer_is_no_call(tools: tuple[ToolDefinition, ...]) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"const": "<tool_call>"}, "b": {"type": "null"}},
        "required": ["a", "b"],
    }
    # The base, which begins no call here: between a brace and a tag, the trained one takes the tag.
    model = TransformersModel("embedded-base", dtype="float32")
    try:
        response = await generate(model, ask(response_schema=schema, tools=tools))
    finally:
        await model.aclose()
    assert (response.text, response.calls) == ('{"a": "<tool_call>", "b": null}', ())


async def test_a_required_call_comes_before_the_schema(granite: TransformersModel) -> None:
    response = await generate(
        granite, ask(response_schema=PERSON, tools=[WEATHER], tool_choice="get_weather")
    )
    assert [call.name for call in response.calls] == ["get_weather"]
    assert response.text == ""


async def test_events_add_up(granite: TransformersModel) -> None:
    pieces, last = [], None
    async for event in granite.stream(ask(response_schema=PERSON)):
        if isinstance(event, TextDelta):
            pieces.append(event.text)
        last = event
    assert isinstance(last, ModelResponse)
    assert "".join(pieces) == last.text


@pytest.mark.model
async def test_the_embedded_model_fills_the_form(embedded: TransformersModel) -> None:
    response = await generate(embedded, ask(response_schema=PERSON))
    said = json.loads(response.text)
    assert (said["name"], said["age"]) == ("Ann", 32)
    assert response.usage.forced_tokens > 5


def test_what_is_no_schema_is_refused() -> None:
    with pytest.raises(UserError, match="must be a JSON Schema"):
        ask(response_schema="object")
    with pytest.raises(SchemaError, match=r"response_schema is not usable at \$\.type"):
        Agent(ScriptedModel([]), response_schema={"type": "text"})
    with pytest.raises(UserError, match="the class int"):
        Agent(ScriptedModel([]), response_schema=int)


async def test_a_schema_without_a_grammar_is_the_callers_mistake(
    granite: TransformersModel,
) -> None:
    with pytest.raises(SchemaError, match="no grammar could be made for the answer"):
        await generate(granite, ask(response_schema={"$ref": "https://example.org/schema"}))


class Person(pydantic.BaseModel):
    name: str
    age: int


async def test_an_agents_turns_have_the_form() -> None:
    @tool
    def age_of(name: str) -> int:
        """The age of somebody."""
        return 32

    call = '<tool_call>\n{"name": "age_of", "arguments": {"name": "Ann"}}\n</tool_call>'
    model = ScriptedModel([call, '{"name": "Ann", "age": 32}'])
    result = await Agent(model, [age_of], response_schema=Person).run("How old is Ann?")
    assert Person.model_validate_json(result.output) == Person(name="Ann", age=32)
    assert [r.response_schema for r in model.requests] == [Person.model_json_schema()] * 2
