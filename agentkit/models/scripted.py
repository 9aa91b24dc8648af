"""A test double for models: it says what it is told to and records what it was asked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TypeAlias

from agentkit.errors import ScriptError
from agentkit.messages import AssistantMessage, Generation, ToolCall
from agentkit.models.base import (
    CallParsed,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    TextDelta,
    Usage,
)
from agentkit.parsing import ParsedCall, parse_output

__all__ = ["ScriptedModel", "ScriptedStep"]

_Turn: TypeAlias = str | ToolCall | Sequence[ToolCall] | AssistantMessage | ModelResponse
ScriptedStep: TypeAlias = _Turn | BaseException | Callable[[ModelRequest], _Turn]
"""One turn of a script: text (which may hold ``<tool_call>`` blocks), one or several calls, a
message, a whole response, an exception to raise, or a function of the request giving one."""


class ScriptedModel:
    """Plays a list of turns, for tests of agents.

    Used as a context manager it also checks, on leaving without an exception, that every step
    was played.

    Args:
        steps: The turns, in order. Where a call is rewound, the next step is what the model
            writes in its place.
        name: What the model calls itself.
        delay: Seconds before each piece of a turn, for tests of what happens meanwhile.

    Example:
        >>> model = ScriptedModel([ToolCall(name="add", arguments={"a": 1, "b": 2}), "It is 3."])
    """

    def __init__(
        self, steps: Sequence[ScriptedStep], *, name: str = "scripted", delay: float = 0.0
    ) -> None:
        if isinstance(steps, str):
            raise ScriptError(f"steps must be a list of turns, not the text {steps!r:.60}")
        self._steps = list(steps)
        self._name = name
        self._delay = delay
        self.requests: list[ModelRequest] = []
        """Every request so far, in order."""

    @property
    def name(self) -> str:
        """What the model is called."""
        return self._name

    @property
    def remaining(self) -> int:
        """Steps that have not been played."""
        return len(self._steps) - len(self.requests)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Play the next step, its text word by word.

        Raises:
            ScriptError: The script is at its end, or the step calls a tool that the request
                does not allow to be called.
        """
        index = len(self.requests)
        self.requests.append(request)
        if index >= len(self._steps):
            raise ScriptError(
                f"the script has {len(self._steps)} steps, but the model was asked for another: "
                f"{request.messages[-1]!r:.300}"
            )
        step = self._steps[index]
        if callable(step) and not isinstance(step, BaseException):
            step = step(request)
        if isinstance(step, BaseException):
            raise step
        response = _response(step, request)
        if response.calls and request.tool_choice == "none":
            raise ScriptError(f"step {index} calls a tool, but the request has tool_choice='none'")
        for piece in re.findall(r"\s*\S+\s*", response.text) or [response.text]:
            if piece:
                await asyncio.sleep(self._delay)
                yield TextDelta(piece)
        begun, given = _beginning(request)
        # A turn that was given in part is not written again, but the response is of all of it.
        whole = replace(response, text=begun + response.text, calls=(*given, *response.calls))
        for i, call in enumerate(response.calls):
            await asyncio.sleep(self._delay)
            yield CallParsed(
                call,
                len(given) + i,
                before=Generation(text=_text_before(step, whole, len(given) + i, request)),
                usage=replace(response.usage, sampled_tokens=_words(response, i + 1)),
            )
        await asyncio.sleep(self._delay)
        yield whole

    def assert_finished(self) -> None:
        """Fail if steps are left.

        Raises:
            ScriptError: Some are; the first is shown.
        """
        if self.remaining > 0:
            raise ScriptError(
                f"{self.remaining} of {len(self._steps)} steps were not played; the next is "
                f"{self._steps[len(self.requests)]!r:.200}"
            )

    async def aclose(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> ScriptedModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.assert_finished()


def _response(step: _Turn, request: ModelRequest) -> ModelResponse:
    if isinstance(step, ModelResponse):
        return step
    if isinstance(step, str):
        text, calls = parse_output(step)
    elif isinstance(step, ToolCall):
        text, calls = "", (_parsed(step),)
    elif isinstance(step, AssistantMessage):
        text, calls = step.content, tuple(map(_parsed, step.tool_calls))
    else:
        text, calls = "", tuple(map(_parsed, step))
    # A word is a token here: enough for tests of limits and accounting.
    prompt = sum(len(m.content.split()) for m in request.messages)
    return ModelResponse(
        text=text,
        calls=calls,
        finish_reason="tool_calls" if calls else "stop",
        usage=Usage(
            prefilled_tokens=prompt,
            sampled_tokens=len(text.split()) + sum(len(c.raw.split()) for c in calls),
        ),
    )


def _words(response: ModelResponse, calls: int) -> int:
    return len(response.text.split()) + sum(len(c.raw.split()) for c in response.calls[:calls])


def _beginning(request: ModelRequest) -> tuple[str, tuple[ParsedCall, ...]]:
    return ("", ()) if request.prefill is None else parse_output(request.prefill.text)


def _text_before(step: object, whole: ModelResponse, index: int, request: ModelRequest) -> str:
    """The turn's text up to a call's block."""
    start = whole.calls[index].start
    if isinstance(step, str) and start is not None:
        return (request.prefill.text if request.prefill else "") + step[:start]
    blocks = [f"<tool_call>\n{call.raw}\n</tool_call>" for call in whole.calls[:index]]
    return "\n".join(filter(None, [whole.text, *blocks]))


def _parsed(call: ToolCall) -> ParsedCall:
    raw = f'{{"name": "{call.name}", "arguments": {call.arguments_json()}}}'
    if isinstance(call.arguments, str):
        _, found = parse_output(f"<tool_call>\n{raw}\n</tool_call>")
        return found[0]
    return ParsedCall(raw=raw, name=call.name, arguments=call.arguments, id=call.id)
