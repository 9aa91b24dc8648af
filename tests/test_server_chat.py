"""``/v1/chat/completions`` and ``/v1/models``, as the official client sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk

from agentkit import ScriptedModel, ToolCall, UserMessage
from agentkit.messages import AssistantMessage, Generation, SystemMessage, ToolMessage
from agentkit.models.base import CallDelta, CallParsed, ModelResponse, TokenLogprob, Usage
from agentkit.parsing import parse_output
from agentkit.server import ServerOptions, create_app
from agentkit.server.chat_response import CompletionWriter
from server_support import openai_client, running

ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
USER: Any = [{"role": "user", "content": "hello"}]
SCORED = ModelResponse(
    text="Hi!",
    usage=Usage(
        prefilled_tokens=2, reused_tokens=7, sampled_tokens=2, forced_tokens=1, lookup_tokens=1
    ),
    finish_reason="length",
    logprobs=(
        TokenLogprob(
            token_id=1,
            text="Hi",
            logprob=-0.5,
            top=((1, "Hi", -0.5), (3, "é", float("-inf"))),
        ),
        TokenLogprob(token_id=2, text="!", forced=True),
    ),
)


class Served:
    def __init__(self, client: OpenAI, model: ScriptedModel) -> None:
        self.client = client
        self.model = model
        self.create: Any = client.chat.completions.create


@pytest.fixture
def serve() -> Iterator[Any]:
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(*steps: Any, **options: Any) -> Served:
            model = ScriptedModel(steps)
            app = create_app(model, options=ServerOptions(**options))
            return Served(openai_client(stack.enter_context(running(app))), model)

        yield start


def test_a_whole_answer(serve: Any) -> None:
    served = serve("Hello wide world.")
    answer = served.create(
        model="scripted",
        messages=[{"role": "system", "content": "Be brief."}, *USER],
        max_completion_tokens=7,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        stop=["###"],
        extra_body={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1},
    )
    assert answer.choices[0].message.content == "Hello wide world."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 3
    request = served.model.requests[0]
    assert list(request.messages) == [SystemMessage("Be brief."), UserMessage("hello")]
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (7, 0.5, 0.9)
    assert (sampling.seed, sampling.stop, sampling.top_k) == (3, ("###",), 5)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.1, 1.1)


def test_a_streamed_answer(serve: Any) -> None:
    served = serve("Hello wide world.")
    chunks = list(
        served.create(
            model="scripted", messages=USER, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "Hello wide world."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 3
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_without_usage_has_none(serve: Any) -> None:
    chunks = list(serve("Hi.").create(model="scripted", messages=USER, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_calls_and_their_results(serve: Any) -> None:
    served = serve(ToolCall(name="add", arguments={"a": 1, "b": 2}), "It is 3.")
    first = served.create(model="scripted", messages=USER, tools=[ADD])
    assert first.choices[0].finish_reason == "tool_calls"
    message = first.choices[0].message
    call = message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 1, "b": 2})
    second = served.create(
        model="scripted",
        messages=[*USER, message, {"role": "tool", "tool_call_id": call.id, "content": "3"}],
        tools=[ADD],
    )
    assert second.choices[0].message.content == "It is 3."
    _, asked, told = served.model.requests[1].messages
    assert asked.tool_calls[0].id == call.id
    assert told == ToolMessage("3", call.id)


def test_calls_in_a_stream(serve: Any) -> None:
    calls = [ToolCall(name="add", arguments={"a": n, "b": 2}) for n in (1, 5)]
    served = serve(calls)
    found: dict[int, list[str]] = {}
    for chunk in served.create(model="scripted", messages=USER, tools=[ADD], stream=True):
        for delta in chunk.choices[0].delta.tool_calls or ():
            if delta.function.name:
                assert delta.id
                found[delta.index] = [delta.function.name, ""]
            found[delta.index][1] += delta.function.arguments or ""
        last = chunk.choices[0].finish_reason
    assert last == "tool_calls"
    assert [json.loads(found[i][1]) for i in (0, 1)] == [{"a": 1, "b": 2}, {"a": 5, "b": 2}]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
    ],
)
def test_tool_choice(serve: Any, choice: Any, expected: str) -> None:
    served = serve("Hi.")
    options = {} if choice is None else {"tool_choice": choice}
    served.create(
        model="scripted", messages=USER, tools=[ADD], parallel_tool_calls=False, **options
    )
    request = served.model.requests[0]
    assert (request.tool_choice, request.parallel_tool_calls) == (expected, False)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}},
            {"type": "integer"},
        ),
    ],
)
def test_response_format(serve: Any, form: Any, expected: Any) -> None:
    served = serve("1")
    served.create(model="scripted", messages=USER, response_format=form)
    assert served.model.requests[0].response_schema == expected


def test_logprobs_and_usage(serve: Any) -> None:
    served = serve(SCORED, SCORED)
    options = {"logprobs": True, "top_logprobs": 2}
    answer = served.create(model="scripted", messages=USER, **options)
    first, second = answer.choices[0].logprobs.content
    assert (first.token, first.logprob, first.bytes) == ("Hi", -0.5, [72, 105])
    assert (first.top_logprobs[1].token, first.top_logprobs[1].logprob) == ("é", -9999.0)
    assert (second.logprob, second.top_logprobs) == (0.0, [])
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.prompt_tokens == 9
    assert answer.usage.prompt_tokens_details.cached_tokens == 7
    assert answer.usage.completion_tokens == 3
    assert served.model.requests[0].sampling.logprobs == 2
    chunks: list[ChatCompletionChunk] = list(
        served.create(model="scripted", messages=USER, stream=True, **options)
    )
    scored = [c.choices[0].logprobs for c in chunks if c.choices[0].logprobs]
    assert [s.token for s in scored[0].content or ()] == ["Hi", "!"]


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"n": 2}, "n", "only one answer"),
        ({"model": "gpt-5"}, "model", "there are scripted"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"max_tokens": 99_999}, "max_tokens", "at most 4096"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty", "repetition_penalty"),
        ({"messages": []}, "messages", "at least 1"),
        ({"stop": [""]}, "stop", "none of them empty"),
        ({"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
        ({"extra_body": {"temprature": 1}}, "temprature", "no field 'temprature'"),
        ({"tools": [ADD, ADD]}, "tools", "same name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 1}}}]},
            "tools.0.function",
            "tool 'f'",
        ),
        ({"tool_choice": "required"}, None, "there are no tools"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format",
            "must hold a schema",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "a",
                        "strict": True,
                        "schema": {"type": "array", "uniqueItems": True},
                    },
                }
            },
            "response_format.json_schema.schema",
            "uniqueItems",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            None,
            "only text parts",
        ),
    ],
)
def test_what_cannot_be_done_is_said(
    serve: Any, options: dict[str, Any], param: str | None, words: str
) -> None:
    served = serve("unused")
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as caught:
        served.create(**{"model": "scripted", "messages": USER, **options})
    assert caught.value.param == param
    assert words in caught.value.message
    assert served.model.requests == []


def test_a_failure_before_the_first_token_has_a_status(serve: Any) -> None:
    from agentkit import ContextLengthError

    served = serve(ContextLengthError("the prompt has 9000 tokens"))
    with pytest.raises(openai.BadRequestError) as caught:
        served.create(model="scripted", messages=USER, stream=True)
    assert caught.value.code == "context_length_exceeded"


def test_a_failure_within_a_stream_is_an_event() -> None:
    class Failing:
        name = "failing"

        async def stream(self, request: Any) -> Any:
            from agentkit import ModelError, TextDelta

            yield TextDelta("Hel")
            raise ModelError("out of memory")

        async def aclose(self) -> None: ...

    with running(create_app(Failing())) as server:
        client = openai_client(server)
        chunks = client.chat.completions.create(model="failing", messages=USER, stream=True)
        with pytest.raises(openai.APIError, match="out of memory"):
            list(chunks)


def test_what_nobody_foresaw_tells_no_secrets() -> None:
    class Broken:
        name = "broken"

        async def stream(self, request: Any) -> Any:
            raise RuntimeError("the password is hunter2")
            yield

        async def aclose(self) -> None: ...

    with running(create_app(Broken())) as server:
        with pytest.raises(openai.InternalServerError) as caught:
            openai_client(server).chat.completions.create(model="broken", messages=USER)
        assert "hunter2" not in str(caught.value)
        assert caught.value.code == "internal_error"


def test_models(serve: Any) -> None:
    served = serve("Hi.", served_names=("gpt-4o-mini",))
    assert [m.id for m in served.client.models.list()] == ["scripted", "gpt-4o-mini"]
    assert served.client.models.retrieve("gpt-4o-mini").owned_by == "agentkit"
    with pytest.raises(openai.NotFoundError):
        served.client.models.retrieve("other")
    assert served.create(model="gpt-4o-mini", messages=USER).model == "gpt-4o-mini"


def test_turns_get_their_tokens_back(serve: Any) -> None:
    written = Generation(text="Hi there", token_ids=(5, 6), tokenizer="t")
    response = ModelResponse(text="Hi there", generation=written)
    served = serve(response, "Fine.")
    first = served.create(model="scripted", messages=USER)
    served.create(
        model="scripted",
        messages=[*USER, first.choices[0].message, {"role": "user", "content": "and?"}],
    )
    turn = served.model.requests[1].messages[1]
    assert isinstance(turn, AssistantMessage)
    assert turn.generation == written


def test_arguments_stream_as_they_are_written() -> None:
    text = '\n{"name": "add", "arguments": {"a": "}\\"", "b": [1]}}\n'
    _, (call,) = parse_output(f"<tool_call>{text}</tool_call>")
    writer = CompletionWriter(model="m", include_usage=False)
    events = [CallDelta(piece) for piece in text] + [CallParsed(call)]
    chunks = [json.loads(c[6:]) for event in events for c in writer.write(event)]
    deltas = [c["choices"][0]["delta"]["tool_calls"][0] for c in chunks]
    assert deltas[0]["function"] == {"name": "add", "arguments": ""}
    assert len(deltas) > 5
    arguments = "".join(d["function"]["arguments"] for d in deltas)
    assert json.loads(arguments) == call.arguments
