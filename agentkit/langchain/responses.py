"""What a model writes, as LangChain's messages: at once, and piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk

from agentkit.call_text import CALL_HEAD, ObjectText
from agentkit.langchain.messages import GENERATION_KEY, generation_to_dict
from agentkit.messages import new_call_id
from agentkit.models.base import (
    CallDelta,
    CallParsed,
    ModelEvent,
    ModelResponse,
    TextDelta,
    Usage,
)
from agentkit.parsing import ParsedCall

__all__ = ["PROVIDER", "ChunkWriter", "response_message", "usage_metadata"]

PROVIDER = "agentkit"
"""What LangChain calls the provider of these models."""


def response_message(response: ModelResponse, *, model_name: str) -> AIMessage:
    """A finished turn as a message.

    Args:
        response: The turn.
        model_name: What the model is called.
    """
    return AIMessage(
        response.text,
        tool_calls=[
            tool_call(name=call.name or "", args=dict(call.arguments), id=call.id)
            for call in response.calls
            if call.arguments is not None
        ],
        invalid_tool_calls=[
            invalid_tool_call(name=call.name, args=_unreadable(call), id=call.id, error=call.error)
            for call in response.calls
            if call.arguments is None
        ],
        usage_metadata=usage_metadata(response.usage),
        additional_kwargs=_additional(response),
        response_metadata=_metadata(
            response, model_name, {call.id: call.error for call in response.calls if call.error}
        ),
    )


def usage_metadata(usage: Usage) -> UsageMetadata:
    """Tokens of a turn in LangChain's form."""
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.generated_tokens,
        total_tokens=usage.total_tokens,
        input_token_details=InputTokenDetails(cache_read=usage.reused_tokens),
    )


class ChunkWriter:
    """Turns a model's events into chunks whose sum is the message of the whole turn.

    Args:
        model_name: What the model is called.
        stream_arguments: Give out the arguments of calls as they are written. Only for calls
            under a grammar: what else a model writes may need mending, as a whole.
        blocks: Write text as content blocks, each with its index in the turn, rather than as
            strings. Without it LangChain's ``output_version="v1"`` numbers text and calls
            independently of each other and merges them.
    """

    def __init__(self, *, model_name: str, stream_arguments: bool, blocks: bool = False) -> None:
        self._model_name = model_name
        self._stream_arguments = stream_arguments
        self._blocks = blocks
        self._index = -1  # of the piece of text, or the call, that is being written
        self._in_text = False
        self._calls: dict[int, _CallWriter] = {}
        self._errors: dict[str, str] = {}

    def write(self, event: ModelEvent) -> Iterator[AIMessageChunk]:
        """The chunks for one event; the last event's is the message's last."""
        match event:
            case TextDelta(text):
                yield self._text(text)
            case CallDelta(text, index) if self._stream_arguments:
                yield from self._call(index).feed(text)
            case CallParsed(call, index):
                writer = self._call(index)
                yield from writer.finish(call)
                if call.error:
                    self._errors[writer.id] = call.error
            case ModelResponse():
                yield self._last(event)

    def _text(self, text: str) -> AIMessageChunk:
        if not self._in_text:
            self._in_text = True
            self._index += 1
        if not self._blocks:
            return AIMessageChunk(content=text)
        return AIMessageChunk(content=[{"type": "text", "text": text, "index": self._index}])

    def _call(self, index: int) -> _CallWriter:
        if index not in self._calls:
            self._in_text = False
            self._index += 1
            self._calls[index] = _CallWriter(self._index)
        return self._calls[index]

    def _last(self, response: ModelResponse) -> AIMessageChunk:
        return AIMessageChunk(
            content=[] if self._blocks else "",
            chunk_position="last",
            usage_metadata=usage_metadata(response.usage),
            additional_kwargs=_additional(response),
            response_metadata=_metadata(response, self._model_name, self._errors),
        )


class _CallWriter:
    """One call's chunks: its name, then its arguments in pieces."""

    def __init__(self, index: int) -> None:
        self.id = new_call_id()
        self._index = index
        self._head = ""
        self._arguments: ObjectText | None = None

    def feed(self, text: str) -> Iterator[AIMessageChunk]:
        """Go on with the call's text."""
        if self._arguments is None:
            self._head += text
            head = CALL_HEAD.match(self._head)
            if head is None:
                return
            self._arguments = ObjectText()
            yield self._chunk("", name=head["name"])
            text = self._head[head.end() :]
        if piece := self._arguments.take(text):
            yield self._chunk(piece)

    def finish(self, call: ParsedCall) -> Iterator[AIMessageChunk]:
        """The call is complete: give out what has not been given out yet."""
        if self._arguments is None:
            readable = call.arguments is not None
            arguments = json.dumps(call.arguments, ensure_ascii=False)
            yield self._chunk(arguments if readable else _unreadable(call), name=call.name or "")
        elif call.arguments is None or self._arguments.value() != call.arguments:
            # Cut off. LangChain completes cut JSON on its own: the call would seem to be whole.
            yield self._chunk(self._arguments.spoiler())

    def _chunk(self, arguments: str, *, name: str | None = None) -> AIMessageChunk:
        return AIMessageChunk(
            content="",
            tool_call_chunks=[
                tool_call_chunk(
                    name=name,
                    args=arguments,
                    id=self.id if name is not None else None,
                    index=self._index,
                )
            ],
        )


def _unreadable(call: ParsedCall) -> str:
    """A call's text, in a form that LangChain does not take for arguments when it merges chunks."""
    return f"<tool_call>{call.raw}"


def _additional(response: ModelResponse) -> dict[str, Any]:
    if response.generation is None:
        return {}
    return {GENERATION_KEY: generation_to_dict(response.generation)}


def _metadata(
    response: ModelResponse, model_name: str, errors: Mapping[str, str | None]
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "model_name": model_name,
        "model_provider": PROVIDER,
        "finish_reason": response.finish_reason,
        "timings": asdict(response.timings),
        "repairs": [repair for call in response.calls for repair in call.repairs],
    }
    if errors:
        # Merging chunks loses the errors of invalid_tool_calls, so they are here as well, by id.
        metadata["invalid_tool_call_errors"] = dict(errors)
    return metadata
