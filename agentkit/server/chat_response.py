"""``/v1/chat/completions``: answers in OpenAI's form, whole and in pieces."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from agentkit.call_text import CALL_HEAD, ObjectText
from agentkit.messages import new_call_id
from agentkit.models.base import (
    UNREADABLE_CALL,
    CallDelta,
    CallParsed,
    ModelEvent,
    ModelResponse,
    TextDelta,
    TokenLogprob,
    Usage,
)
from agentkit.parsing import ParsedCall
from agentkit.server.sending import json_text

__all__ = ["CompletionWriter", "completion", "usage_dict"]

_FINISH = {"stop_string": "stop"}


def usage_dict(usage: Usage) -> dict[str, Any]:
    """Tokens in OpenAI's form. ``agentkit`` holds what that has no name for."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.generated_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.reused_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "accepted_prediction_tokens": usage.lookup_tokens,
        },
        "agentkit": {
            "forced_tokens": usage.forced_tokens,
            "lookup_tokens": usage.lookup_tokens,
        },
    }


def completion(response: ModelResponse, *, model: str) -> dict[str, Any]:
    """A finished turn as a ``chat.completion``.

    Args:
        response: The turn.
        model: As the client called it.
    """
    message: dict[str, Any] = {
        "role": "assistant",
        "content": response.text or (None if response.calls else ""),
        "refusal": None,
    }
    if response.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": _function(call)}
            for call in response.calls
        ]
    return {
        "id": _new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": _logprobs(response),
                "finish_reason": _FINISH.get(response.finish_reason, response.finish_reason),
            }
        ],
        "usage": usage_dict(response.usage),
    }


class CompletionWriter:
    """Makes a model's events into ``chat.completion.chunk`` events.

    Args:
        model: As the client called it.
        include_usage: End with the usage.
    """

    def __init__(self, *, model: str, include_usage: bool) -> None:
        head = {
            "id": _new_id(),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        # Most chunks differ in a few characters only; the rest is written once.
        self._head = f"data: {json_text(head)[:-1]}"
        self._null_usage = ',"usage":null' if include_usage else ""
        self._include_usage = include_usage
        self._calls: dict[int, _CallWriter] = {}

    def begin(self) -> str:
        """The first chunk."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def write(self, event: ModelEvent) -> Iterator[str]:
        """The chunks for one event; the last event's end the stream."""
        match event:
            case TextDelta(text):
                yield self._chunk({"content": text})
            case CallDelta(text, index):
                yield from self._deltas(self._call(index).feed(text))
            case CallParsed(call, index):
                yield from self._deltas(self._call(index).finish(call))
            case ModelResponse():
                yield from self._end(event)

    def _call(self, index: int) -> _CallWriter:
        return self._calls.setdefault(index, _CallWriter(index))

    def _deltas(self, deltas: Iterator[dict[str, Any]]) -> Iterator[str]:
        for delta in deltas:
            yield self._chunk({"tool_calls": [delta]})

    def _end(self, response: ModelResponse) -> Iterator[str]:
        logprobs = _logprobs(response)
        if logprobs is not None:
            yield self._chunk({"content": ""}, logprobs=logprobs)
        yield self._chunk({}, finish=_FINISH.get(response.finish_reason, response.finish_reason))
        if self._include_usage:
            usage = json_text(usage_dict(response.usage))
            yield f'{self._head},"choices":[],"usage":{usage}}}\n\n'
        yield "data: [DONE]\n\n"

    def _chunk(
        self,
        delta: Mapping[str, Any],
        *,
        finish: str | None = None,
        logprobs: Mapping[str, Any] | None = None,
    ) -> str:
        reason = f'"{finish}"' if finish else "null"
        scores = json_text(logprobs) if logprobs else "null"
        return (
            f'{self._head},"choices":[{{"index":0,"delta":{json_text(delta)},"logprobs":{scores},'
            f'"finish_reason":{reason}}}]{self._null_usage}}}\n\n'
        )


class _CallWriter:
    """One call's deltas: its name, then its arguments in pieces as they are written."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._head = ""
        self._arguments: ObjectText | None = None

    def feed(self, text: str) -> Iterator[dict[str, Any]]:
        """Go on with the call's text."""
        if self._arguments is None:
            self._head += text
            head = CALL_HEAD.match(self._head)
            if head is None:
                return
            self._arguments = ObjectText()
            yield self._begin(head["name"], "")
            text = self._head[head.end() :]
        if piece := self._arguments.take(text):
            yield {"index": self._index, "function": {"arguments": piece}}

    def finish(self, call: ParsedCall) -> Iterator[dict[str, Any]]:
        """The call is complete: give out what has not been given out yet."""
        if self._arguments is None:
            function = _function(call)
            yield self._begin(function["name"], function["arguments"], call.id)

    def _begin(self, name: str, arguments: str, call_id: str | None = None) -> dict[str, Any]:
        return {
            "index": self._index,
            "id": call_id or new_call_id(),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }


def _function(call: ParsedCall) -> dict[str, str]:
    readable = call.arguments is not None
    arguments = json.dumps(call.arguments, ensure_ascii=False) if readable else call.raw
    return {"name": call.name or UNREADABLE_CALL, "arguments": arguments}


def _logprobs(response: ModelResponse) -> dict[str, Any] | None:
    if response.logprobs is None:
        return None
    return {"content": [_score(score) for score in response.logprobs], "refusal": None}


def _score(score: TokenLogprob) -> dict[str, Any]:
    # What was forced at the end of a turn was not read. There was no choice: a probability of 1.
    return {
        **_token(score.text, 0.0 if score.logprob is None else score.logprob),
        "top_logprobs": [_token(text, logprob) for _, text, logprob in score.top],
    }


def _token(text: str, logprob: float) -> dict[str, Any]:
    # JSON has no -inf, which is what a token that cannot come has.
    return {
        "token": text,
        "logprob": max(logprob, -9999.0),
        "bytes": list(text.encode("utf-8", "replace")),
    }


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"
