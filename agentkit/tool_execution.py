"""From a call that the model wrote to an observation that it can read."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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

__all__ = ["ReadyCall", "ToolExecutor", "ToolSet"]


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

    @property
    def tools(self) -> list[Tool]:
        """The tools, in the order given."""
        return [tool for tool, _ in self._tools.values()]

    def get(self, name: str) -> tuple[Tool, ArgumentValidator] | None:
        """A tool and its validator, or None if there is no such tool."""
        return self._tools.get(name)


@dataclass(frozen=True, slots=True)
class ReadyCall:
    """A call that passed all checks."""

    tool: Tool
    """What it calls."""
    call: ToolCall
    """The call, its arguments mended."""
    repairs: tuple[str, ...] = ()
    """What was mended."""


class ToolExecutor:
    """Checks the calls of one run, and carries them out.

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

    def count(self, records: Iterable[CallRecord]) -> None:
        """Count calls that were made before, in another part of the run."""
        self._counts.update(r.call.name for r in records if r.status not in ("invalid", "refused"))

    def check(self, parsed: ParsedCall) -> ReadyCall | CallRecord:
        """Look at a call before anything runs; to be done in the order of the calls.

        Args:
            parsed: As the model wrote it.

        Returns:
            The call, ready to run and counted, or the record of one that will not.
        """
        name = parsed.name
        call = ToolCall(
            name=name or UNREADABLE_CALL,
            arguments=parsed.raw if parsed.arguments is None else parsed.arguments,
            id=parsed.id,
        )

        def rejected(status: CallStatus, error: str, observation: str) -> CallRecord:
            return CallRecord(
                call=call,
                status=status,
                observation=f"Error: {observation}",
                repairs=parsed.repairs,
                error=error,
            )

        if name is not None and (entry := self._tools.get(name)) is None:
            return rejected("invalid", "UnknownTool", unknown_tool_message(name, self._tools.names))
        if name is None or parsed.arguments is None:
            return rejected("invalid", "UnreadableCall", parsed.error or "the call cannot be read")
        assert entry is not None
        tool, validator = entry
        validated = validator.validate(parsed.arguments)
        repairs = (*parsed.repairs, *(c.description for c in validated.coercions))
        if not validated.ok:
            text = f"the arguments of {name} are not valid.\n{validated.explain()}"
            return rejected("invalid", "InvalidArguments", text)
        allowed = self._limits.calls_allowed(name)
        if allowed is not None and self._counts[name] >= allowed:
            text = f"{name} may be called {allowed} times and no more; answer with what you know."
            return rejected("refused", "LimitExceeded", text)
        self._counts[name] += 1
        call = ToolCall(name=name, arguments=validated.arguments, id=parsed.id)
        return ReadyCall(tool, call, repairs)

    async def run(
        self,
        calls: Sequence[ParsedCall],
        *,
        step: int = 0,
        started: Callable[[ToolCall], None] = lambda call: None,
        finished: Callable[[CallRecord], None] = lambda record: None,
    ) -> list[CallRecord]:
        """Check calls and run them side by side, for whoever has no run: a server, for instance.

        Nobody is asked for approval, nothing is audited and secrets stay; that is a run's work.

        Args:
            calls: In order.
            step: Index of the step, for the tools' context.
            started: Told of each valid call before its tool begins.
            finished: Told of each call when it is over.

        Returns:
            A record for each call, in the order of the calls.

        Raises:
            ToolError: A tool failed and ``on_error`` is ``raise``; the others are cancelled.
        """

        async def one(checked: ReadyCall | CallRecord) -> CallRecord:
            if isinstance(checked, ReadyCall):
                started(checked.call)
                checked = await self.call(checked, self.context(checked.call, step))
            finished(checked)
            return checked

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(self.check(parsed))) for parsed in calls]
        except* ToolError as errors:
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        return [task.result() for task in tasks]

    def with_arguments(self, call: ToolCall, arguments: Mapping[str, Any] | None) -> ReadyCall:
        """A call that somebody allowed, perhaps with other arguments than the model's.

        Raises:
            UserError: There is no such tool, or it does not take those arguments.
        """
        entry = self._tools.get(call.name)
        given = call.arguments if arguments is None else arguments
        if entry is None or isinstance(given, str):
            raise UserError(
                f"the call {call.id} is of {call.name!r}, which is not among the agent's tools: "
                f"{', '.join(self._tools.names) or 'there are none'}"
            )
        tool, validator = entry
        validated = validator.validate(given)
        if not validated.ok:
            raise UserError(
                f"the arguments that {call.name} (call {call.id}) was allowed with are not valid: "
                f"{validated.explain()}"
            )
        return ReadyCall(tool, ToolCall(name=call.name, arguments=validated.arguments, id=call.id))

    def context(self, call: ToolCall, step: int) -> ToolContext:
        """What a tool, or who decides about its call, may know of it."""
        return ToolContext(
            tool_name=call.name,
            call_id=call.id,
            step=step,
            deps=self._deps,
            cancelled=threading.Event(),
        )

    async def call(self, ready: ReadyCall, context: ToolContext) -> CallRecord:
        """Carry out a call.

        Raises:
            ToolError: The tool failed and ``on_error`` is ``raise``.
        """
        name = ready.call.name
        seconds = ready.tool.timeout if ready.tool.timeout is not None else self._timeout
        begin = time.perf_counter()
        status: CallStatus = "ok"
        value: Any = None
        failure: Exception | None = None
        try:
            async with asyncio.timeout(seconds) as limit:
                arguments = ready.call.arguments
                assert not isinstance(arguments, str)
                value = await ready.tool.call(arguments, context)
            observation = to_observation(value)
        except TimeoutError as error:
            # A TimeoutError of the tool's own is a failure like any other.
            status = "timeout" if limit.expired() else "failed"
            failure = ToolTimeoutError(name, seconds or 0.0) if limit.expired() else error
        except Exception as error:  # whatever a tool does, the run goes on
            status, failure = "failed", error
        finally:
            context.cancelled.set()
        if failure is not None:
            observation = self._observe(name, failure)
        output = value if isinstance(value, ToolOutput) else ToolOutput(content=None)
        return CallRecord(
            call=ready.call,
            status=status,
            observation=observation,
            seconds=time.perf_counter() - begin,
            repairs=(*ready.repairs, *output.repairs),
            sources=tuple(output.sources),
            error="" if failure is None else type(failure).__name__,
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
