"""OpenAIModel against a server that behaves: what is sent, and what is read."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import (
    Agent,
    AssistantMessage,
    Document,
    Model,
    ModelRequest,
    OpenAIModel,
    Sampling,
    SystemMessage,
    ToolCall,
    ToolDefinition,
    ToolMessage,
    UserError,
    UserMessage,
)
from agentkit.models.base import CallDelta, CallParsed, TextDelta, Usage, generate
from agentkit.models.naming import named_model
from agentkit.remote.constraining import call_schema, is_strict
from agentkit.remote.sse import event_objects
from openai_server import calls, chunk, fake_server, reply, says, stream, usage

STRICT = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
ADD = ToolDefinition(name="add", description="Adds.", parameters=STRICT)
SAY = ToolDefinition(name="say", parameters={"properties": {"text": {"type": "string"}}})
ASK = [UserMessage("What is 1 + 2?")]


@pytest.fixture
async def server():
    async with fake_server() as fake:
        yield fake


async def events_of(model, request):
    return [event async for event in model.stream(request)]


async def test_text_streams_and_usage_tells_what_was_cached(server):
    server.replies.append(says("Hello there"))
    model = OpenAIModel(server.url, "tiny")
    assert isinstance(model, Model)
    *pieces, response = await events_of(model, ModelRequest(messages=ASK))
    assert pieces == [TextDelta("Hello"), TextDelta(" there")]
    assert (response.text, response.finish_reason) == ("Hello there", "stop")
    assert response.usage == Usage(prefilled_tokens=4, reused_tokens=6, sampled_tokens=4)
    body = server.bodies[0]
    assert body["model"] == "tiny"
    assert body["stream_options"] == {"include_usage": True}
    assert body["messages"] == [{"role": "user", "content": "What is 1 + 2?"}]
    assert "authorization" not in server.requests[0]["headers"]
    await model.aclose()


async def test_calls_stream_and_keep_their_ids(server):
    server.replies.append(calls(("add", '{"a": 1, "b": 2}'), ("say", '{"text": "hé"}')))
    model = OpenAIModel(server.url, "tiny")
    events = await events_of(model, ModelRequest(messages=ASK, tools=[ADD, SAY]))
    parsed = [e for e in events if isinstance(e, CallParsed)]
    assert [(e.index, e.call.name, e.call.id) for e in parsed] == [
        (0, "add", "call-0"),
        (1, "say", "call-1"),
    ]
    assert parsed[1].call.arguments == {"text": "hé"}
    for event in parsed:
        deltas = [e.text for e in events if isinstance(e, CallDelta) and e.index == event.index]
        assert "".join(deltas) == event.call.raw
    # The first call is known before the second one begins: its tool can run meanwhile.
    assert events.index(parsed[0]) < events.index(CallDelta('{"name": "say", "arguments": ', 1))
    assert events[-1].finish_reason == "tool_calls"
    tools = server.bodies[0]["tools"]
    assert tools[0]["function"]["strict"] is True
    assert "strict" not in tools[1]["function"]  # OpenAI would refuse its schema


async def test_an_agent_runs_tools_and_sends_what_they_gave(server):
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    # A trailing comma and a number as text: mended, as of any model.
    server.replies += [calls(("add", '{"a": 1, "b": "2",}')), says("It is 3.")]
    async with Agent(OpenAIModel(server.url, "tiny"), [add], system="Be brief.") as agent:
        result = await agent.run("What is 1 + 2?")
    assert result.output == "It is 3."
    (call,) = result.steps[0].calls
    assert (call.status, call.observation) == ("ok", "3")
    sent = server.bodies[1]["messages"]
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "tool"]
    assert sent[2]["content"] is None
    assert sent[2]["tool_calls"][0]["id"] == sent[3]["tool_call_id"] == "call-0"
    assert json.loads(sent[2]["tool_calls"][0]["function"]["arguments"])["a"] == 1


async def test_servers_that_number_no_calls(server):
    def part(name, arguments, **more):
        function = {"name": name, "arguments": arguments}
        return chunk({"tool_calls": [{"function": function, **more}]})

    server.replies += [
        stream(
            part("add", '{"a": 1}', index=0, id="x"),
            part("say", "{}", index=0, id="y"),
            chunk(finish="stop"),
        ),
        stream(part("add", {"a": 1}), part("say", ""), chunk(finish="tool_calls")),
    ]
    model = OpenAIModel(server.url, "tiny")
    for _ in range(2):
        response = await generate(model, ModelRequest(messages=ASK, tools=[ADD, SAY]))
        assert [(c.name, c.arguments) for c in response.calls] == [("add", {"a": 1}), ("say", {})]
        assert response.finish_reason == "tool_calls"


async def test_calls_that_a_server_left_in_the_text(server):
    block = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    server.replies += [says(f"Let me see. {block}"), says(f"The tag is {block}.")]
    model = OpenAIModel(server.url, "tiny")
    response = await generate(model, ModelRequest(messages=ASK, tools=[ADD]))
    assert response.text == "Let me see."
    assert response.calls[0].arguments == {"a": 1, "b": 2}
    plain = await generate(model, ModelRequest(messages=ASK))
    assert plain.text == f"The tag is {block}."


async def test_a_call_cut_off_at_the_limit_is_not_run(server):
    server.replies.append(calls(("say", '{"text": "and so'), finish="length"))
    model = OpenAIModel(server.url, "tiny")
    response = await generate(model, ModelRequest(messages=ASK, tools=[SAY]))
    assert response.finish_reason == "length"
    assert response.calls[0].name == "say"
    assert "cut off" in response.calls[0].error


async def test_sampling_is_sent_and_logprobs_are_read(server):
    score = {
        "token": "3",
        "logprob": -0.1,
        "top_logprobs": [{"token": "3", "logprob": -0.1}, {"token": "4", "logprob": -2.5}],
    }
    server.replies.append(
        stream(chunk({"content": "3"}, "stop", logprobs={"content": [score]}, stop_reason="END"))
    )
    sampling = Sampling(
        max_tokens=9,
        temperature=0.5,
        top_k=4,
        top_p=0.9,
        min_p=0.1,
        repetition_penalty=1.1,
        seed=7,
        stop=("END",),
        logprobs=2,
    )
    model = OpenAIModel(
        server.url, "tiny", extra_body={"user": "me"}, max_tokens_field="max_completion_tokens"
    )
    response = await generate(model, ModelRequest(messages=ASK, sampling=sampling))
    expected = {
        "max_completion_tokens": 9, "temperature": 0.5, "top_k": 4, "top_p": 0.9, "min_p": 0.1,
        "repetition_penalty": 1.1, "seed": 7, "stop": ["END"], "logprobs": True,
        "top_logprobs": 2, "user": "me",
    }  # fmt: skip
    assert expected.items() <= server.bodies[0].items()
    assert response.finish_reason == "stop_string"
    (token,) = response.logprobs
    assert (token.text, token.logprob, token.top[1][1:]) == ("3", -0.1, ("4", -2.5))
    assert response.usage.sampled_tokens == 1  # the server gave no usage


async def test_tool_choices_and_documents(server):
    server.replies += [says("ok")] * 4
    document = Document(text="Cats purr.", doc_id="d1")
    model = OpenAIModel(server.url, "tiny")
    for choice in ("none", "required", "add"):
        await generate(
            model,
            ModelRequest(
                messages=[SystemMessage("Be brief."), *ASK],
                tools=[ADD],
                tool_choice=choice,
                parallel_tool_calls=False,
                documents=[document],
            ),
        )
    choices = [body["tool_choice"] for body in server.bodies]
    assert choices == ["none", "required", {"type": "function", "function": {"name": "add"}}]
    assert server.bodies[0]["parallel_tool_calls"] is False
    system = server.bodies[0]["messages"][0]["content"]
    assert system.startswith("Be brief.\n\n")
    assert "Cats purr." in system
    fielded = OpenAIModel(server.url, "tiny", documents="field")
    await generate(fielded, ModelRequest(messages=ASK, documents=[document]))
    assert server.bodies[3]["documents"][0]["text"] == "Cats purr."
    assert server.bodies[3]["messages"][0]["role"] == "user"


@pytest.mark.parametrize("mode", ["json_schema", "structured_outputs", "guided_json"])
async def test_calls_by_a_schema_for_the_whole_turn(server, mode):
    turn = '[{"name": "add", "arguments": {"a": 1, "b": 2}}, {"name": "say", "arguments": {}}]'
    server.replies += [says(turn), says("Free text.")]
    model = OpenAIModel(server.url, "tiny", calls=mode)
    response = await generate(
        model, ModelRequest(messages=ASK, tools=[ADD, SAY], tool_choice="required")
    )
    assert [c.name for c in response.calls] == ["add", "say"]
    assert response.text == ""
    body = server.bodies[0]
    schema = {
        "json_schema": lambda: body["response_format"]["json_schema"]["schema"],
        "structured_outputs": lambda: body["structured_outputs"]["json"],
        "guided_json": lambda: body["guided_json"],
    }[mode]()
    assert schema["$defs"]["add"] == STRICT
    assert "tools" not in body
    assert '"name": "add"' in body["messages"][0]["content"]
    free = await generate(model, ModelRequest(messages=ASK, tools=[ADD, SAY]))
    assert free.text == "Free text."
    assert not {"response_format", "structured_outputs", "guided_json"} & server.bodies[1].keys()


async def test_calls_by_structural_tags_and_results_as_text(server):
    server.replies += [
        says('<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>')
    ]
    call = ToolCall(name="add", arguments={"a": 0, "b": 0})
    model = OpenAIModel(server.url, "tiny", calls="structural_tag")
    conversation = [
        *ASK,
        AssistantMessage("", (call,)),
        ToolMessage("0", call.id, "add"),
        ToolMessage("1", call.id, "add"),
    ]
    response = await generate(
        model, ModelRequest(messages=conversation, tools=[ADD], tool_choice="required")
    )
    assert response.calls[0].arguments == {"a": 1, "b": 2}
    body = server.bodies[0]
    form = body["response_format"]["format"]
    assert form["at_least_one"]
    assert form["tags"][0]["begin"] == '<tool_call>\n{"name": "add", "arguments": '
    assert form["tags"][0]["content"]["json_schema"] == STRICT
    assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][2]["content"].startswith('<tool_call>\n{"name": "add"')
    assert body["messages"][3]["content"] == (
        "<tool_response>\n0\n</tool_response>\n<tool_response>\n1\n</tool_response>"
    )


async def test_the_only_model_of_a_server_needs_no_name(server):
    server.replies += [says("one")] * 2
    model = OpenAIModel(server.url)
    assert model.name == server.url
    await generate(model, ModelRequest(messages=ASK))
    await generate(model, ModelRequest(messages=ASK))
    assert model.name == "tiny"
    assert [r["path"] for r in server.requests].count("/v1/models") == 1
    server.models = ["a", "b"]
    with pytest.raises(UserError, match=r"2 models \(a, b\); name one"):
        await generate(OpenAIModel(server.url), ModelRequest(messages=ASK))


async def test_a_server_that_does_not_stream(server):
    message = {"role": "assistant", "content": "Whole."}
    server.replies.append(
        reply(
            200,
            {
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": usage(3, 2)["usage"],
            },
        )
    )
    response = await generate(OpenAIModel(server.url, "tiny"), ModelRequest(messages=ASK))
    assert (response.text, response.usage.sampled_tokens) == ("Whole.", 2)


async def test_unreadable_arguments_go_back_as_json(server):
    server.replies.append(says("ok"))
    call = ToolCall(name="add", arguments='{"a": ')
    await generate(
        OpenAIModel(server.url, "tiny"),
        ModelRequest(messages=[*ASK, AssistantMessage("", (call,)), ToolMessage("no", call.id)]),
    )
    sent = server.bodies[0]["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"unreadable": '{"a": '}


def test_names_that_are_addresses(monkeypatch):
    model = named_model("http://host:8000/v1#org/model-1")
    assert isinstance(model, OpenAIModel)
    assert (model.name, repr(model)) == (
        "org/model-1",
        "OpenAIModel('http://host:8000/v1', 'org/model-1')",
    )
    monkeypatch.setenv("AGENTKIT_MODEL", "https://host/v1#m")
    assert Agent().model.name == "m"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("host:8000/v1", "must be a web address"),
        ("http://[::1", "must be a web address"),
        ("http://ann:hunter2@host/v1", "holds a user or password"),
        ("http://host/v1?key=hunter2", "must not have a query"),
    ],
)
def test_addresses_that_cannot_be(url, message):
    with pytest.raises(UserError, match=message) as caught:
        OpenAIModel(url)
    assert "ann" not in str(caught.value)


def test_references_move_with_their_schema():
    tree = {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}, "$ref": {"type": "string"}},
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
    }
    schema = call_schema([ToolDefinition(name="grow", parameters=tree)], parallel=False)
    moved = schema["$defs"]["grow"]
    assert moved["properties"]["root"] == {"$ref": "#/$defs/grow/$defs/node"}
    assert moved["properties"]["$ref"] == {"type": "string"}
    from jsonschema import Draft202012Validator

    judge = Draft202012Validator(schema)
    good = {"name": "grow", "arguments": {"root": {"next": {"next": {}}}}}
    assert judge.is_valid(good)
    assert not judge.is_valid({"name": "grow", "arguments": {"root": {"next": 1}}})


def test_strict_is_for_schemas_that_it_takes():
    assert is_strict(STRICT)
    assert not is_strict({**STRICT, "required": ["a"]})
    nested = {"type": "array", "items": {"type": "object", "properties": {}}}
    assert not is_strict({**STRICT, "properties": {"a": nested, "b": {}}})


@given(
    texts=st.lists(st.text(max_size=20), max_size=8),
    ends=st.sampled_from(["\n", "\r\n"]),
    size=st.integers(1, 40),
)
def test_events_are_the_same_however_they_are_cut(texts, ends, size):
    data = "".join(
        f": beat{ends}id: 1{ends}data: {json.dumps({'t': t}, ensure_ascii=False)}{ends}{ends}"
        for t in texts
    ).encode("utf-8", "replace")

    async def pieces():
        for i in range(0, len(data), size):
            yield data[i : i + size]

    async def read():
        return [event["t"] async for event in event_objects(pieces())]

    expected = [t.encode("utf-8", "replace").decode() for t in texts]
    assert asyncio.run(read()) == expected


async def test_the_form_of_an_answer_is_sent(server):
    server.replies += [says('{"a": 1, "b": 2}')] * 2
    model = OpenAIModel(server.url, "tiny")
    await generate(model, ModelRequest(messages=ASK, response_schema=STRICT))
    await generate(model, ModelRequest(messages=ASK, response_schema=SAY.parameters))
    forms = [body["response_format"] for body in server.bodies]
    assert [form["type"] for form in forms] == ["json_schema"] * 2
    assert forms[0]["json_schema"]["schema"] == STRICT
    assert [form["json_schema"]["strict"] for form in forms] == [True, False]
    tagged = OpenAIModel(server.url, "tiny", calls="structural_tag")
    with pytest.raises(UserError, match="response_schema beside tools"):
        await generate(tagged, ModelRequest(messages=ASK, tools=[ADD], response_schema=STRICT))
