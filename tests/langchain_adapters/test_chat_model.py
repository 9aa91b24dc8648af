"""ChatGranite: requests, streams, caches and errors, on scripted models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from langchain_core._api import LangChainBetaWarning
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.rate_limiters import InMemoryRateLimiter
from pydantic import ValidationError

from agentkit import ScriptedModel, ToolCall, example_call
from agentkit.errors import MessageError, ModelError, UserError
from agentkit.langchain import ChatGranite
from agentkit.models.base import (
    CallDelta,
    CallParsed,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    TextDelta,
    Usage,
)
from agentkit.parsing import parse_output


def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


class Recorded:
    """A model whose events are given."""

    name = "recorded"

    def __init__(self, text: str, pieces: Sequence[str] = (), seconds: float = 0.0) -> None:
        self._text, self._pieces, self._seconds = text, pieces, seconds
        self.requests: list[ModelRequest] = []
        self.closed = False

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.requests.append(request)
        text, calls = parse_output(self._text)
        try:
            await asyncio.sleep(self._seconds)
            if text:
                yield TextDelta(text)
            for i, call in enumerate(calls):
                pieces = self._pieces if i == 0 and self._pieces else list(call.raw)
                for piece in pieces:
                    yield CallDelta(piece, i)
                yield CallParsed(call, i)
            yield ModelResponse(text=text, calls=calls, usage=Usage(sampled_tokens=3))
        finally:
            self.closed = True

    async def aclose(self) -> None:
        pass


def scripted(*steps: Any, **options: Any) -> ChatGranite:
    return ChatGranite(client=ScriptedModel(list(steps)), **options)


def request_of(llm: ChatGranite) -> ModelRequest:
    request: ModelRequest = llm.client.requests[-1]
    return request


def whole(chunks: Sequence[Any]) -> AIMessageChunk:
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": {"c": "}]\\"{"}}}\n</tool_call>'
TWO_CALLS = f"Let me see.\n{CALL}\n{CALL.replace('add', 'sub')}"


@pytest.mark.parametrize("options", [{}, {"output_version": "v1"}])
def test_stream_of_calls_adds_up_to_the_message(options: dict[str, Any]) -> None:
    llm = ChatGranite(client=Recorded(TWO_CALLS), **options)
    chunks = list(llm.stream("x"))
    message = whole(chunks)
    said = llm.invoke("x")
    assert message.text == said.text == "Let me see."
    for found in (message, said):
        calls = [(call["name"], call["args"]) for call in found.tool_calls]
        arguments = {"a": 1, "b": {"c": '}]"{'}}
        assert calls == [("add", arguments), ("sub", arguments)]
        kinds = [block["type"] for block in found.content_blocks]
        assert kinds == ["text", "tool_call", "tool_call"]
    assert len({call["id"] for call in message.tool_calls}) == 2
    # The name comes first and at once, then the arguments piece by piece.
    pieces = [piece for chunk in chunks for piece in chunk.tool_call_chunks]
    assert [piece["name"] for piece in pieces if piece["name"]] == ["add", "sub"]
    assert len(pieces) > 20
    assert chunks[-1].chunk_position == "last"


async def test_stream_of_calls_as_protocol_events() -> None:
    llm = ChatGranite(client=Recorded(TWO_CALLS))
    with pytest.warns(LangChainBetaWarning):
        stream = await llm.astream_events("x", version="v3")
    message = await stream.output
    assert [call["name"] for call in message.tool_calls] == ["add", "sub"]
    assert message.text == "Let me see."


def test_cut_call_is_not_completed_by_merging() -> None:
    # LangChain closes the brackets of cut JSON; a call that was cut must not look whole.
    for cut in ('{"a": 1', '{"a": "x', '{"a": [1', '{"a": [1, "x\\\\', '{"a": 1, "b"'):
        raw = f'\n{{"name": "add", "arguments": {cut}'
        message = whole(list(ChatGranite(client=Recorded(f"<tool_call>{raw}")).stream("x")))
        assert message.tool_calls == [], cut
        (call,) = message.invalid_tool_calls
        assert call["name"] == "add"
        assert "cut off" in message.response_metadata["invalid_tool_call_errors"][call["id"]]


def test_unconstrained_calls_are_mended_or_invalid_with_the_reason() -> None:
    text = (
        "<tool_call>{'name': 'add', 'arguments': {'a': 1, 'b': 2,}}</tool_call>"
        "<tool_call>add one and two</tool_call>"
    )
    llm = ChatGranite(client=Recorded(text), constrain=False)
    for message in (llm.invoke("x"), whole(list(llm.stream("x")))):
        assert [call["args"] for call in message.tool_calls] == [{"a": 1, "b": 2}]
        assert message.response_metadata["repairs"]
        (bad,) = message.invalid_tool_calls
        assert "add one and two" in (bad["args"] or "")
        assert "JSON" in message.response_metadata["invalid_tool_call_errors"][bad["id"]]
    assert "JSON" in (llm.invoke("x").invalid_tool_calls[0]["error"] or "")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("any", "required"),
        ("required", "required"),
        (True, "required"),
        ("none", "none"),
        (False, "none"),
        ("add", "add"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
        ({"type": "tool", "name": "add"}, "add"),
        ({"type": "any"}, "required"),
        ({"type": "auto"}, "auto"),
    ],
)
def test_tool_choice(choice: Any, expected: str) -> None:
    llm = scripted("Done.")
    llm.bind_tools([add], tool_choice=choice, parallel_tool_calls=False, strict=True).invoke("x")
    request = request_of(llm)
    assert request.tool_choice == expected
    assert request.parallel_tool_calls is False
    assert request.tools[0].parameters["additionalProperties"] is False


def test_options_of_the_model_and_of_the_call() -> None:
    llm = scripted("a", "b", temperature=0.5, top_p=0.9, max_tokens=5, stop=["x"], seed=1)
    llm.invoke("x")
    assert request_of(llm).sampling.stop == ("x",)
    llm.invoke("x", temperature=0.7, top_k=3, min_p=0.1, repetition_penalty=1.1, stop=["y"])
    sampling = request_of(llm).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.7, 0.9, 3)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.1, 1.1)
    assert (sampling.max_tokens, sampling.seed, sampling.stop) == (5, 1, ("y",))
    with pytest.raises(UserError, match="did you mean 'temperature'"):
        llm.invoke("x", temprature=1)
    with pytest.raises(UserError, match="max_tokens"):
        llm.invoke("x", max_tokens=0)
    with pytest.raises(ValidationError, match="temprature"):
        ChatGranite(temprature=1)
    with pytest.raises(UserError, match="client"):
        ChatGranite(client=3).invoke("x")
    with pytest.raises(UserError, match="name of a tool"):
        llm.bind_tools([add], tool_choice="subtract")


def test_documents_reach_the_prompt() -> None:
    llm = scripted("a")
    documents = [
        Document("Cats purr.", metadata={"title": "Cats", "source": "cats.md"}),
        {"text": "Dogs bark.", "doc_id": "dogs"},
        {"page_content": "Cows moo."},
    ]
    llm.invoke("x", documents=documents)
    found = [document.to_prompt() for document in request_of(llm).documents]
    assert found[0] == {"doc_id": "1", "title": "Cats", "text": "Cats purr.", "source": "cats.md"}
    assert [document["doc_id"] for document in found] == ["1", "dogs", "3"]
    with pytest.raises(MessageError, match=r"documents\[0\]"):
        llm.invoke("x", documents=["text"])


def test_messages_of_every_kind() -> None:
    llm = scripted("a")
    call = {"name": "add", "args": {"a": 1}, "id": "c1", "type": "tool_call"}
    llm.invoke(
        [
            SystemMessage("one"),
            SystemMessage("two"),
            HumanMessage(["three", {"type": "text", "text": "four"}]),
            HumanMessage([{"type": "text-plain", "text": "five", "mime_type": "text/plain"}]),
            AIMessage(
                [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "six"}],
                tool_calls=[call],
            ),
            ToolMessage([{"type": "text", "text": "seven"}], tool_call_id="c1", status="error"),
            ChatMessage("eight", role="user"),
        ]
    )
    contents = [message.content for message in request_of(llm).messages]
    assert contents == ["one", "two", "three\nfour", "five", "six", "seven", "eight"]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (HumanMessage([{"type": "image", "url": "u"}]), r"messages\[0\]\.content\[0\].*'image'"),
        (HumanMessage([{"type": "text-plain", "url": "u"}]), "without text"),
        (ChatMessage("x", role="judge"), "'judge'"),
        (RemoveMessage(id="1"), "RemoveMessage"),
    ],
)
def test_messages_that_cannot_be_shown(message: Any, error: str) -> None:
    with pytest.raises(MessageError, match=error):
        scripted("a").invoke([message])


def test_examples_stand_after_the_system_message() -> None:
    llm = scripted("a", examples=example_call("1+1?", "add", {"a": 1, "b": 1}, "2", "Two."))
    llm.invoke([SystemMessage("s"), HumanMessage("2+2?")])
    contents = [message.content for message in request_of(llm).messages]
    assert contents == ["s", "1+1?", "", "2", "Two.", "2+2?"]


def test_callbacks_cache_and_rate_limiter() -> None:
    tokens: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
            tokens.append(token)

    limiter = InMemoryRateLimiter(requests_per_second=1000, check_every_n_seconds=0.001)
    llm = scripted(
        "one two", ToolCall(name="add", arguments={}), cache=InMemoryCache(), rate_limiter=limiter
    )
    assert list(llm.stream("x", config={"callbacks": [Handler()]}))
    assert "".join(tokens) == "one two"
    first = llm.invoke("y")
    assert llm.invoke("y").tool_calls == first.tool_calls
    assert llm.client.remaining == 0


async def test_sync_calls_beside_a_running_loop_and_concurrency() -> None:
    llm = scripted(*"abcde")
    assert llm.invoke("x").text == "a"
    assert whole(list(llm.stream("x"))).text == "b"
    assert {m.text for m in await llm.abatch(["x", "y", "z"])} == {"c", "d", "e"}


def test_leaving_a_stream_early_stops_the_model() -> None:
    model = Recorded("one <tool_call>")
    stream = ChatGranite(client=model).stream("x")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert model.closed


def test_timeout() -> None:
    model = Recorded("late", seconds=30)
    with pytest.raises(ModelError, match=r"within 0\.05 s"):
        ChatGranite(client=model, timeout=0.05).invoke("x")
    assert model.closed


def test_chat_models_share_one_model() -> None:
    first, second = (ChatGranite(model="embedded", dtype="float32") for _ in range(2))
    assert first._model(None) is second._model(None)
    assert ChatGranite(model="embedded")._model(None) is not first._model(None)
    assert first._get_ls_params(stop=["s"]) == {
        "ls_provider": "agentkit",
        "ls_model_type": "chat",
        "ls_model_name": "embedded",
        "ls_temperature": 0.0,
        "ls_max_tokens": 512,
        "ls_stop": ["s"],
    }
