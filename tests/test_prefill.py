"""A turn that is written on from a given beginning equals one that was written in one go."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from agentkit import (
    ModelRequest,
    ModelResponse,
    Sampling,
    ToolDefinition,
    TransformersModel,
    UserMessage,
)
from agentkit.models.base import CallDelta, CallParsed, TextDelta, generate

TOOL = ToolDefinition(
    name="get_weather",
    description="Get the current weather of a city",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
    },
)


def make(tool_choice: str = "required", max_tokens: int = 140, **options: object) -> ModelRequest:
    return ModelRequest(
        messages=[UserMessage("What is the weather in Oslo and in Rome?")],
        tools=[TOOL],
        tool_choice=tool_choice,
        sampling=Sampling(max_tokens=max_tokens),
        **options,  # type: ignore[arg-type]
    )


def calls_of(model: TransformersModel, request: ModelRequest) -> list[CallParsed]:
    async def collect() -> list[CallParsed]:
        return [event async for event in model.stream(request) if isinstance(event, CallParsed)]

    return asyncio.run(collect())


@pytest.mark.parametrize("index", [0, 1])
def test_greedy_decoding_goes_on_as_before(model: TransformersModel, index: int) -> None:
    whole = asyncio.run(generate(model, make()))
    events = calls_of(model, make())
    if index >= len(events):
        pytest.skip("this model wrote one call only")
    event = events[index]
    again = asyncio.run(generate(model, make(prefill=event.before)))
    assert again.generation == whole.generation
    assert again.calls == whole.calls
    assert again.text == whole.text
    # What stands before is in the cache, but for the rows of a recurrent state.
    assert event.before is not None
    assert again.usage.generated_tokens <= whole.usage.generated_tokens - len(
        event.before.token_ids
    )
    if model.engine.prefill([1])[0].croppable:
        assert again.usage.prefilled_tokens == 1


def test_a_call_says_what_the_turn_took_so_far(model: TransformersModel) -> None:
    events = calls_of(model, make())
    whole = asyncio.run(generate(model, make()))
    assert 0 < events[0].usage.generated_tokens <= whole.usage.generated_tokens
    assert events[0].usage.prompt_tokens == whole.usage.prompt_tokens


def test_events_tell_only_what_is_new(model: TransformersModel) -> None:
    codec = model.engine.codec
    start = make("none", 24)
    whole: ModelResponse = asyncio.run(generate(model, start))
    assert whole.generation is not None
    ids = whole.generation.token_ids[:9]
    begun = type(whole.generation)(
        text=codec.decode(ids), token_ids=ids, tokenizer=codec.fingerprint
    )

    async def collect() -> tuple[str, ModelResponse]:
        text, response = "", whole
        async for event in model.stream(make("none", 24, prefill=begun)):
            assert not isinstance(event, CallDelta)
            text += event.text if isinstance(event, TextDelta) else ""
            response = event if isinstance(event, ModelResponse) else response
        return text, response

    text, again = asyncio.run(collect())
    assert again.generation == whole.generation
    assert again.text == whole.text
    assert whole.text.rstrip().endswith(text.rstrip())
    assert len(text) < len(whole.text)


def test_a_beginning_of_another_tokenizer_is_encoded_anew(granite: TransformersModel) -> None:
    from agentkit.messages import Generation

    begun = Generation(text="The weather", token_ids=(1, 2), tokenizer="another")
    again = asyncio.run(generate(granite, make("auto", 12, prefill=begun)))
    assert again.generation is not None
    assert again.generation.text.startswith("The weather")


def test_tokens_that_were_given_have_no_figures(granite: TransformersModel) -> None:
    event = calls_of(granite, make())[0]
    first = asyncio.run(generate(granite, make("auto", 12)))
    assert first.generation is not None
    ids = first.generation.token_ids[:4]
    begun = dataclasses.replace(
        first.generation, token_ids=ids, text=granite.engine.codec.decode(ids)
    )
    request = dataclasses.replace(
        make("auto", prefill=begun), sampling=Sampling(max_tokens=12, logprobs=1)
    )
    response = asyncio.run(generate(granite, request))
    assert response.generation is not None
    assert response.logprobs is not None
    assert [p.token_id for p in response.logprobs] == list(response.generation.token_ids)
    assert [p.logprob is None for p in response.logprobs][:5] == [True] * 4 + [False]
    assert event.before is not None
