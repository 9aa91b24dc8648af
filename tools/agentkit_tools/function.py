"""Tools made of plain, typed, documented Python functions."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from agentkit.errors import SchemaError, ToolError, UserError
from agentkit.tools import ToolContext, ToolDefinition
from agentkit_tools._explain import explain
from agentkit_tools._parameters import model_parameters
from agentkit_tools._signature import caller_namespace, read_docs, read_signature, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agentkit.approvals import ApprovalRule

__all__ = ["FunctionTool", "tool"]

P = ParamSpec("P")
R = TypeVar("R")


class FunctionTool(Generic[P, R]):
    """A function that the model may call.

    The name, the description and the schema of the arguments come from the function's own
    name, docstring (Google, NumPy or Sphinx style) and annotations. A parameter annotated
    :class:`~agentkit.tools.ToolContext` is filled in by the agent and not shown to the model.
    Calling the tool itself calls the function, unchanged.

    Args:
        function: Sync (it then runs in a worker thread) or async. A bound method, a
            ``functools.partial`` and a callable object will do as well.
        name: Instead of the function's name.
        description: Instead of the docstring's.
        timeout: Seconds that one call may take; ``None`` for the agent's default.
        strict: Refuse unknown keys in nested objects, too, rather than ignore them.
        approval: Whether calls run: ``allow``, ``ask``, ``deny``, or a function of the call and
            its context; see :class:`agentkit.Agent`.

    Raises:
        SchemaError: The function cannot be described to a model; the message says why.
        UserError: ``timeout`` is not positive.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = None,
        strict: bool = False,
        approval: ApprovalRule | None = None,
    ) -> None:
        if isinstance(function, staticmethod):
            function = function.__func__
        label = _label(function)
        _check_function(function, label)
        if timeout is not None and not timeout > 0:
            raise UserError(f"{label}: timeout must be more than 0 s or None, not {timeout!r}")
        functools.update_wrapper(self, function)
        docs = read_docs(function)
        self._function = function
        self._signature = read_signature(
            function,
            label=label,
            descriptions=docs.parameters,
            namespace=caller_namespace(__name__),
        )
        self.timeout = timeout
        """Seconds that one call may take; ``None`` for the agent's default."""
        self.approval = approval
        """Whether calls run; ``None`` leaves it to the agent."""
        self.definition = _define(
            label,
            name=name or str(getattr(unwrap(function), "__name__", "")),
            description=docs.summary if description is None else inspect.cleandoc(description),
            parameters=model_parameters(self._signature.model, closed=strict),
        )
        """What the model is told."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function as if it had never been made a tool."""
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"FunctionTool({self.definition.name!r})"

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Turn the arguments into the annotated types and call the function.

        Args:
            arguments: Valid against ``definition.parameters``.
            context: Of this call.

        Returns:
            What the function returns.

        Raises:
            ToolError: An argument cannot be turned into its type, in words for the model. The
                function's own exceptions pass through.
        """
        values = self._build(arguments)
        values.update(dict.fromkeys(self._signature.context_names, context))
        function: Callable[..., Any] = self._function
        if inspect.iscoroutinefunction(_routine(function)):
            return await function(**values)
        # to_thread copies the context variables.
        result = await asyncio.to_thread(_guard_stop_iteration, function, values)
        return await result if inspect.isawaitable(result) else result

    def _build(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        from pydantic import ValidationError

        signature = self._signature
        try:
            model = signature.model.model_validate(dict(arguments))
        except ValidationError as error:
            raise ToolError(explain(error, arguments)) from error
        # Defaults are left to the function, which then sees its own objects.
        given = model.model_fields_set | signature.always_passed
        return {name: getattr(model, f) for f, name in signature.names.items() if f in given}


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    strict: bool = False,
    approval: ApprovalRule | None = None,
) -> FunctionTool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    strict: bool = False,
    approval: ApprovalRule | None = None,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    strict: bool = False,
    approval: ApprovalRule | None = None,
) -> FunctionTool[P, R] | Callable[[Callable[P, R]], FunctionTool[P, R]]:
    """Make a tool of a function; works as ``@tool``, ``@tool(...)`` and ``tool(obj.method)``.

    Args:
        function: See :class:`FunctionTool`, also for the other arguments.
        name: Instead of the function's name.
        description: Instead of the docstring's.
        timeout: Seconds that one call may take; ``None`` for the agent's default.
        strict: Refuse unknown keys in nested objects, too, rather than ignore them.
        approval: Whether calls run: ``allow``, ``ask``, ``deny``, or a function of the call and
            its context.

    Returns:
        The tool, or a decorator that makes it.

    Raises:
        SchemaError: The function cannot be described to a model; the message says why.
        UserError: ``timeout`` is not positive.
    """

    def decorate(function: Callable[P, R]) -> FunctionTool[P, R]:
        return FunctionTool(
            function,
            name=name,
            description=description,
            timeout=timeout,
            strict=strict,
            approval=approval,
        )

    return decorate if function is None else decorate(function)


def _label(function: Any) -> str:
    target = unwrap(function) if callable(function) else function
    return f"tool function {getattr(target, '__qualname__', repr(target))!r}"


def _check_function(function: Any, label: str) -> None:
    if not callable(function):
        hint = "; for a class method, use tool(Class.method)"
        raise SchemaError(
            f"{function!r} is not a function{hint if isinstance(function, classmethod) else ''}"
        )
    if isinstance(function, FunctionTool):
        raise SchemaError(f"{function!r} is a tool already; do not apply @tool twice")
    if isinstance(function, type):
        raise SchemaError(
            f"class {function.__qualname__!r} is not a function; write a function that takes or "
            "returns it"
        )
    target = unwrap(function)
    if getattr(target, "__name__", "") == "<lambda>":
        raise SchemaError(
            f"{label} is a lambda, which has no name, docstring or annotations; use def"
        )
    routine = _routine(function)
    if inspect.isgeneratorfunction(routine) or inspect.isasyncgenfunction(routine):
        raise SchemaError(
            f"{label} is a generator, but a call has one result; return a list instead of yielding"
        )


def _define(
    label: str, *, name: str, description: str, parameters: Mapping[str, Any]
) -> ToolDefinition:
    try:
        return ToolDefinition(name=name, description=description, parameters=parameters)
    except SchemaError as error:
        raise SchemaError(f"{label}: {error}; give another one with @tool(name=...)") from None


def _routine(function: Any) -> Any:
    """What runs on a call, in the form that ``inspect`` tells the kind of; it looks through
    partials and methods itself, but not into callable objects."""
    if inspect.isroutine(function) or isinstance(function, functools.partial):
        return function
    return type(function).__call__


def _guard_stop_iteration(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    try:
        return function(**values)
    except StopIteration as error:
        # A future cannot carry StopIteration: the awaiting task would never wake up.
        raise RuntimeError("the function raised StopIteration") from error
