"""From a call that the model wrote to an observation that it can read."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentkit.errors import ToolError, ToolExecutionError, ToolTimeoutError, UserError
from agentkit.limits import Limits
from agentkit.messages import ToolCall
from agentkit.models.base import UNREADABLE_CALL
from agentkit.parsing import ParsedCall
from agentkit.result import CallRecord, CallStatus
from agentkit.tools import Tool, ToolContext, ToolDefinition, ToolOutput, to_observation
from agentkit.validation import ArgumentValidator, unknown_tool_message

__all__ = ["ToolExecutor", "ToolSet"]


class ToolSet:
    """An agent's tools by name, each with a validator of its arguments.

    Args:
        tools: The tools.

    Raises:
        UserError: Two tools have the same name, or something is not a tool.
        SchemaError: A tool's schema is not a valid JSON Schema.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools: dict[str, tuple[Tool, ArgumentValidator]] = {}
        for tool in tools:
            if not isinstance(tool, Tool):
                raise UserError(
                    f"{tool!r:.200} is not a tool: it needs a definition, a timeout and an async "
                    "call(); decorate a function with @tool to make one of it"
                )
            name = tool.definition.name
            if name in self._tools:
                raise UserError(
                    f"two tools are named {name!r}; give one of them another name, "
                    "for example @tool(name=...)"
                )
            self._tools[name] = (tool, ArgumentValidator(tool.definition))

    @property
    def names(self) -> list[str]:
        """Names, in the order given."""
        return list(self._tools)

    @property
    def definitions(self) -> list[ToolDefinition]:
        """Definitions, in the order given."""
        return [tool.definition for tool, _ in self._tools.values()]

    def get(self, name: str) -> tuple[Tool, ArgumentValidator] | None:
        """A tool and its validator, or None if there is no such tool."""
        return self._tools.get(name)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A call that passed all checks."""

    tool: Tool
    call: ToolCall
    repairs: tuple[str, ...]


class ToolExecutor:
    """Checks and runs the calls of one run.

    Args:
        tools: What may be called.
        limits: Of the run; calls of each tool are counted here.
        timeout: Seconds for a call of a tool that names no limit of its own.
        on_error: Whether a failing tool becomes an observation or an exception.
        deps: Handed to tools in their context.
    """

    def __init__(
        self,
        tools: ToolSet,
        *,
        limits: Limits,
        timeout: float | None,
        on_error: Literal["feedback", "raise"],
        deps: Any,
    ) -> None:
        self._tools = tools
        self._limits = limits
        self._timeout = timeout
        self._on_error = on_error
        self._deps = deps
        self._counts: Counter[str] = Counter()

    async def run(
        self,
        calls: Sequence[ParsedCall],
        *,
        step: int,
        started: Callable[[ToolCall], None],
        finished: Callable[[CallRecord], None],
    ) -> list[CallRecord]:
        """Run the calls of one turn side by side.

        Args:
            calls: As the model wrote them.
            step: Index of the step.
            started: Told of each valid call before its tool begins.
            finished: Told of each call when it is over.

        Returns:
            A record for each call, in the order of the calls.

        Raises:
            ToolError: A tool failed and ``on_error`` is ``raise``; the others are cancelled.
        """

        async def one(parsed: ParsedCall) -> CallRecord:
            checked = self._check(parsed)
            if isinstance(checked, _Ready):
                started(checked.call)
                checked = await self._call(checked, step)
            finished(checked)
            return checked

        # Checked in order before any tool begins, so that counting calls does not depend on luck.
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(parsed)) for parsed in calls]
        except* ToolError as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    def _check(self, parsed: ParsedCall) -> _Ready | CallRecord:
        name = parsed.name
        call = ToolCall(
            name=name or UNREADABLE_CALL,
            arguments=parsed.raw if parsed.arguments is None else parsed.arguments,
            id=parsed.id,
        )

        def rejected(status: CallStatus, observation: str) -> CallRecord:
            return CallRecord(
                call=call, status=status, observation=observation, repairs=parsed.repairs
            )

        if name is not None and (entry := self._tools.get(name)) is None:
            return rejected("invalid", f"Error: {unknown_tool_message(name, self._tools.names)}")
        if name is None or parsed.arguments is None:
            return rejected("invalid", f"Error: {parsed.error or 'the call cannot be read'}")
        assert entry is not None
        tool, validator = entry
        validated = validator.validate(parsed.arguments)
        repairs = (*parsed.repairs, *(c.description for c in validated.coercions))
        if not validated.ok:
            return rejected(
                "invalid", f"Error: the arguments of {name} are not valid.\n{validated.explain()}"
            )
        allowed = self._limits.calls_allowed(name)
        if allowed is not None and self._counts[name] >= allowed:
            return rejected(
                "refused",
                f"Error: {name} may be called {allowed} times and no more; answer with what "
                "you know.",
            )
        self._counts[name] += 1
        call = ToolCall(name=name, arguments=validated.arguments, id=parsed.id)
        return _Ready(tool, call, repairs)

    async def _call(self, ready: _Ready, step: int) -> CallRecord:
        name = ready.call.name
        seconds = ready.tool.timeout if ready.tool.timeout is not None else self._timeout
        context = ToolContext(
            tool_name=name,
            call_id=ready.call.id,
            step=step,
            deps=self._deps,
            cancelled=threading.Event(),
        )
        begin = time.perf_counter()
        status: CallStatus = "ok"
        value: Any = None
        try:
            async with asyncio.timeout(seconds) as limit:
                arguments = ready.call.arguments
                assert not isinstance(arguments, str)
                value = await ready.tool.call(arguments, context)
            observation = to_observation(value)
        except TimeoutError as error:
            # A TimeoutError of the tool's own is a failure like any other.
            status = "timeout" if limit.expired() else "failed"
            failure: Exception = error
            if limit.expired():
                failure = ToolTimeoutError(name, seconds or 0.0)
            observation = self._observe(name, failure)
        except ToolError as error:
            status, observation = "failed", self._observe(name, error)
        except Exception as error:  # whatever a tool does, the run goes on
            status, observation = "failed", self._observe(name, error)
        finally:
            context.cancelled.set()
        output = value if isinstance(value, ToolOutput) else ToolOutput(content=None)
        return CallRecord(
            call=ready.call,
            status=status,
            observation=observation,
            seconds=time.perf_counter() - begin,
            repairs=(*ready.repairs, *output.repairs),
            sources=tuple(output.sources),
        )

    def _observe(self, name: str, error: Exception) -> str:
        if self._on_error == "raise":
            if isinstance(error, ToolTimeoutError):
                raise error
            raise ToolExecutionError(name, str(error) or repr(error)) from error
        if isinstance(error, ToolTimeoutError):
            return f"Error: {name} did not finish within {error.seconds:g} seconds."
        if isinstance(error, ToolError):
            return f"Error: {error}"
        return f"Error: {name} failed with {type(error).__name__}: {error}"
