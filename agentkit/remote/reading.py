"""From the chunks of a streamed completion to a model's events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentkit.call_block import ParsedCall, read_block
from agentkit.errors import ContextLengthError, ModelServerError
from agentkit.models.base import (
    CallDelta,
    CallParsed,
    FinishReason,
    ModelEvent,
    ModelResponse,
    TextDelta,
    Timings,
    TokenLogprob,
    Usage,
)
from agentkit.parsing import ParsedEvent, ParsedText, PartialCall, ToolCallParser

__all__ = ["TurnReader", "is_too_long", "whole_as_chunk"]

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "eos_token": "stop",
    "stop_sequence": "stop_string",
}
_TOO_LONG = (
    "context_length_exceeded",
    "maximum context length",
    "exceed_context_size",
    "exceeds the available context",
    "context window",
)


@dataclass(slots=True)
class _OpenCall:
    """A call whose arguments are still coming."""

    index: int
    id: str
    name: str = ""
    arguments: str = ""
    begun: bool = False

    @property
    def raw(self) -> str:
        """The call as our own format writes it."""
        return f"{self.head}{self.arguments or '{}'}}}"

    @property
    def head(self) -> str:
        """What stands before the arguments."""
        return f'{{"name": {json.dumps(self.name, ensure_ascii=False)}, "arguments": '

    def is_other(self, call_id: str) -> bool:
        """Whether a piece with a name belongs to another call, though the index is the same.

        Some servers number none of their calls, and some give out no ids either.
        """
        if call_id and self.id:
            return call_id != self.id
        try:
            json.loads(self.arguments)
        except (ValueError, RecursionError):
            return False
        return True


class TurnReader:
    """Reads one turn out of chunks, as they come.

    Args:
        with_tools: Whether the text may hold ``<tool_call>`` blocks: servers that do not know a
            model's format pass them on as text.
        whole_turn_is_calls: Whether the text is the JSON of calls.
    """

    def __init__(self, *, with_tools: bool, whole_turn_is_calls: bool = False) -> None:
        self._parser = ToolCallParser() if with_tools and not whole_turn_is_calls else None
        self._as_calls: list[str] | None = [] if whole_turn_is_calls else None
        self._text: list[str] = []
        self._calls: list[ParsedCall] = []
        self._open: _OpenCall | None = None
        self._logprobs: list[TokenLogprob] = []
        self._usage: Usage | None = None
        self._pieces = 0
        self._finish: FinishReason | None = None
        self._stop_string = False
        self._asked = time.perf_counter()
        self._first: float | None = None

    @property
    def is_finished(self) -> bool:
        """The server has said why the turn ended."""
        return self._finish is not None

    @property
    def written(self) -> int:
        """Characters of text so far."""
        return sum(map(len, self._text))

    def read(self, chunk: Mapping[str, Any]) -> Iterator[ModelEvent]:
        """Take the next chunk.

        Raises:
            ModelServerError: It tells of an error, or has a form that nobody can read.
        """
        if error := chunk.get("error"):
            raise _told(error)
        if isinstance(chunk.get("usage"), Mapping):
            self._usage = _usage(chunk["usage"])
        elif self._usage is None and isinstance(chunk.get("timings"), Mapping):
            self._usage = _llama_cpp_usage(chunk["timings"])
        choices = chunk.get("choices") or ()
        try:
            for choice in choices:
                if not choice.get("index"):
                    yield from self._choice(choice)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise ModelServerError(
                f"the server sent a chunk of an unknown form: {chunk!r:.300}"
            ) from error

    def end(self) -> Iterator[ModelEvent]:
        """The stream is over: the rest, and the response."""
        cut_off = self._finish == "length"
        if self._parser is not None:
            yield from self._parsed(self._parser.close())
        yield from self._end_call(closed=not cut_off)
        if self._as_calls is not None:
            raw = "".join(self._as_calls)
            for call in read_block(raw, closed=not cut_off) if raw.strip() else ():
                yield self._add(call)
        yield self._response()

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[ModelEvent]:
        delta = choice.get("delta") or choice.get("message") or {}
        if isinstance(text := delta.get("content"), str) and text:
            self._note_piece()
            yield from self._piece(text)
        for part in delta.get("tool_calls") or ():
            self._note_piece()
            yield from self._call_part(part)
        scores = choice.get("logprobs") or {}
        self._logprobs += map(_logprob, scores.get("content") or ())
        if reason := choice.get("finish_reason"):
            if reason == "content_filter":
                raise ModelServerError("the server's content filter stopped the answer")
            self._finish = _FINISH.get(reason, "stop")
            # vLLM says which stop string it was; others do not tell it from the turn's own end.
            self._stop_string = isinstance(choice.get("stop_reason"), str)

    def _note_piece(self) -> None:
        self._pieces += 1
        if self._first is None:
            self._first = time.perf_counter()

    def _piece(self, text: str) -> Iterator[ModelEvent]:
        if self._as_calls is not None:
            self._as_calls.append(text)
            yield CallDelta(text, 0)
        elif self._parser is not None:
            yield from self._parsed(self._parser.feed(text))
        else:
            self._text.append(text)
            yield TextDelta(text)

    def _parsed(self, events: list[ParsedEvent]) -> Iterator[ModelEvent]:
        for event in events:
            match event:
                case ParsedText(text):
                    self._text.append(text)
                    yield TextDelta(text)
                case PartialCall(text, index):
                    yield CallDelta(text, index)
                case ParsedCall():
                    yield self._add(event)

    def _call_part(self, part: Mapping[str, Any]) -> Iterator[ModelEvent]:
        function = part.get("function") or {}
        name, call_id = function.get("name") or "", part.get("id") or ""
        index = part.get("index")
        if index is None:
            index = 0 if self._open is None else self._open.index
        current = self._open
        if current is None or index != current.index or (name and current.is_other(call_id)):
            yield from self._end_call(closed=True)
            if not name:
                raise ModelServerError(f"the server sent a piece of no known call: {part!r:.200}")
            current = self._open = _OpenCall(index=index, id=call_id)
        current.name = current.name or name
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            arguments = json.dumps(arguments, ensure_ascii=False)
        lead = "" if current.begun else current.head
        current.begun = True
        current.arguments += arguments or ""
        if piece := lead + (arguments or ""):
            yield CallDelta(piece, len(self._calls))

    def _end_call(self, *, closed: bool) -> Iterator[ModelEvent]:
        call, self._open = self._open, None
        if call is None:
            return
        # At the token limit the arguments may be half of what they should be.
        whole = call.raw if closed else f"{call.head}{call.arguments}"
        parsed = read_block(whole, closed=closed)[0]
        if rest := whole[len(call.head) + len(call.arguments) :]:
            yield CallDelta(rest, len(self._calls))
        yield self._add(replace(parsed, id=call.id) if call.id else parsed)

    def _add(self, call: ParsedCall) -> CallParsed:
        self._calls.append(call)
        usage = self._usage or Usage(sampled_tokens=self._pieces)
        return CallParsed(call, len(self._calls) - 1, usage=usage, timings=self._timings())

    def _timings(self) -> Timings:
        now = time.perf_counter()
        first = now if self._first is None else self._first
        return Timings(prefill=first - self._asked, decode=now - first)

    def _response(self) -> ModelResponse:
        finish: FinishReason = self._finish or "stop"
        if self._calls and finish == "stop":
            finish = "tool_calls"
        elif self._stop_string and finish == "stop":
            finish = "stop_string"
        return ModelResponse(
            text="".join(self._text),
            calls=tuple(self._calls),
            finish_reason=finish,
            # Without figures of the server's: a piece is about a token.
            usage=self._usage or Usage(sampled_tokens=self._pieces),
            timings=self._timings(),
            logprobs=tuple(self._logprobs) or None,
        )


def whole_as_chunk(completion: Mapping[str, Any]) -> Mapping[str, Any]:
    """A completion that was not streamed, as the one chunk of a stream."""
    choices = completion.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and not choice.get("finish_reason"):
            choice["finish_reason"] = "stop"
    return completion


def is_too_long(text: str) -> bool:
    """Whether a server's message says that a prompt does not fit."""
    return any(mark in text.lower() for mark in _TOO_LONG)


def _told(error: Any) -> Exception:
    text = error.get("message") if isinstance(error, Mapping) else error
    if is_too_long(json.dumps(error, default=str)):
        return ContextLengthError(f"the server says: {text!s:.500}")
    return ModelServerError(f"the server failed amid the answer: {text!s:.500}")


def _usage(data: Mapping[str, Any]) -> Usage:
    prompt = _count(data.get("prompt_tokens"))
    written = _count(data.get("completion_tokens"))
    details = data.get("prompt_tokens_details") or {}
    cached = _count(details.get("cached_tokens") or data.get("prompt_cache_hit_tokens"))
    ours = data.get("agentkit") or {}
    forced = _count(ours.get("forced_tokens"))
    return Usage(
        prefilled_tokens=max(0, prompt - cached),
        reused_tokens=min(cached, prompt),
        sampled_tokens=max(0, written - forced),
        forced_tokens=forced,
        lookup_tokens=_count(ours.get("lookup_tokens")),
    )


def _llama_cpp_usage(data: Mapping[str, Any]) -> Usage:
    return Usage(
        prefilled_tokens=_count(data.get("prompt_n")),
        reused_tokens=_count(data.get("cache_n")),
        sampled_tokens=_count(data.get("predicted_n")),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _logprob(data: Mapping[str, Any]) -> TokenLogprob:
    return TokenLogprob(
        # OpenAI's form names no ids.
        token_id=-1,
        text=str(data["token"]),
        logprob=float(data["logprob"]),
        top=tuple(
            (-1, str(item["token"]), float(item["logprob"]))
            for item in data.get("top_logprobs") or ()
        ),
    )
