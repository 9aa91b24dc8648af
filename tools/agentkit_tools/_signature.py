"""From a typed function's signature to a pydantic model of its arguments."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from agentkit.errors import SchemaError
from agentkit.tools import ToolContext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

__all__ = ["Docs", "Signature", "caller_namespace", "read_docs", "read_signature", "unwrap"]

_LINE_BREAK = re.compile(r"\s*\n\s*(?!\s|[-*•]\s|\d+[.)]\s)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What is needed to call a function with a model's arguments."""

    model: type[BaseModel]
    """Validates the arguments; its aliases are the parameters' names."""
    names: Mapping[str, str]
    """The parameter of each of the model's fields."""
    always_passed: frozenset[str]
    """Fields to pass even if they were not given: the function's own default is no value."""
    context_names: tuple[str, ...]
    """Parameters that take the :class:`~agentkit.tools.ToolContext`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Docs:
    """What a docstring says."""

    summary: str
    """Its free text, without the sections."""
    parameters: Mapping[str, str]
    """The description of each parameter."""


def unwrap(function: Callable[..., Any]) -> Any:
    """The plain function beneath partials, methods, decorators and callable objects."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif inspect.isroutine(function):
            return function
        else:
            function = type(function).__call__


def read_docs(function: Callable[..., Any]) -> Docs:
    """Read a docstring in Google, NumPy, Sphinx or epydoc style."""
    from docstring_parser import ParseError, parse

    text = inspect.getdoc(unwrap(function)) or ""
    if not isinstance(function, functools.partial) and not inspect.isroutine(function):
        text = text if unwrap(function).__doc__ else (type(function).__doc__ or "")
    try:
        parsed = parse(text)
    except ParseError:
        return Docs(summary=text.strip(), parameters={})
    # A first sentence that runs over two lines is taken apart by the parser.
    gap = "\n\n" if parsed.blank_after_short_description else "\n"
    parts = (parsed.short_description, parsed.long_description)
    return Docs(
        summary=_unfold(gap.join(part for part in parts if part)),
        parameters={p.arg_name: _unfold(p.description or "") for p in parsed.params},
    )


def _unfold(text: str) -> str:
    """Undo a docstring's line breaks, which mean nothing and cost tokens, except before the
    items of a list and between paragraphs."""
    paragraphs = [_LINE_BREAK.sub(" ", part).strip() for part in text.split("\n\n")]
    return "\n".join(part for part in paragraphs if part)


def read_signature(
    function: Callable[..., Any],
    *,
    label: str,
    descriptions: Mapping[str, str],
    namespace: Mapping[str, Any],
) -> Signature:
    """Build the model of a function's arguments.

    Args:
        function: To be called later with the model's values.
        label: How errors name it.
        descriptions: Of parameters, by name, for those whose annotation has none.
        namespace: Local names for annotations written as text.

    Raises:
        SchemaError: A parameter cannot be put into a schema; the message says which and what
            to do about it.
    """
    from pydantic import ConfigDict, create_model
    from pydantic.fields import FieldInfo

    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    always: set[str] = set()
    context_names: list[str] = []
    for parameter in _parameters(function, label):
        annotation = _annotation(function, parameter, label, namespace)
        if _is_context(annotation):
            context_names.append(parameter.name)
            continue
        # Neutral field names: "json", "copy" or "_x" would clash with pydantic's own.
        field = f"p{len(fields)}"
        names[field] = parameter.name
        fields[field] = _field(parameter, annotation, descriptions.get(parameter.name, ""))
        if isinstance(parameter.default, FieldInfo):
            always.add(field)
        _check_type(parameter, fields[field], label)
    model: type[BaseModel] = create_model(
        "Arguments", __config__=ConfigDict(extra="forbid"), **fields
    )
    return Signature(
        model=model,
        names=names,
        always_passed=frozenset(always),
        context_names=tuple(context_names),
    )


def _parameters(function: Callable[..., Any], label: str) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise SchemaError(
            f"{label} has no signature that Python can read; wrap it in a function with "
            "annotated parameters"
        ) from error
    # Arguments that a partial fixes are not the model's to choose.
    fixed = function.keywords if isinstance(function, functools.partial) else {}
    shown = []
    for parameter in signature.parameters.values():
        if parameter.kind in _PROBLEMS:
            stars, problem = _PROBLEMS[parameter.kind]
            raise SchemaError(f"{label}, parameter '{stars}{parameter.name}': {problem}")
        if parameter.name not in fixed:
            shown.append(parameter)
    return shown


_PROBLEMS: dict[Any, tuple[str, str]] = {
    inspect.Parameter.VAR_POSITIONAL: (
        "*",
        "a model cannot fill *args; take a list instead, as in 'items: list[str]'",
    ),
    inspect.Parameter.VAR_KEYWORD: (
        "**",
        "a model cannot fill **kwargs; name each parameter, or take a 'dict[str, ...]'",
    ),
    inspect.Parameter.POSITIONAL_ONLY: (
        "",
        "arguments are passed by name, so it must not be positional-only; remove the '/'",
    ),
}


def _annotation(
    function: Callable[..., Any],
    parameter: inspect.Parameter,
    label: str,
    namespace: Mapping[str, Any],
) -> Any:
    name = parameter.name
    if parameter.annotation is inspect.Parameter.empty:
        if name in ("self", "cls"):
            fix = "make a tool of the bound method instead: tool(instance.method)"
        else:
            fix = f"write its type, as in '{name}: str'"
        raise SchemaError(f"{label}, parameter {name!r}: it has no annotation; {fix}")
    holder = types.SimpleNamespace(__annotations__={name: parameter.annotation})
    module_names = getattr(unwrap(function), "__globals__", {})
    # ToolContext is often imported under TYPE_CHECKING only.
    local_names = {"ToolContext": ToolContext, **module_names, **namespace}
    try:
        return typing.get_type_hints(holder, module_names, local_names, include_extras=True)[name]
    except NameError as error:
        raise SchemaError(
            f"{label}, parameter {name!r}: {error} in its annotation "
            f"{parameter.annotation!r}; define or import it where the tool is made (not under "
            "TYPE_CHECKING only)"
        ) from None
    except (SyntaxError, TypeError, AttributeError) as error:
        raise SchemaError(
            f"{label}, parameter {name!r}: {parameter.annotation!r} is not a type ({error})"
        ) from None


def _is_context(annotation: Any) -> bool:
    if typing.get_origin(annotation) is Annotated:
        return _is_context(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(_is_context(member) for member in typing.get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, ToolContext)


def _field(parameter: inspect.Parameter, annotation: Any, description: str) -> tuple[Any, Any]:
    from pydantic import Field
    from pydantic.fields import FieldInfo

    extras = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is Annotated else ()
    texts = [extra for extra in extras if isinstance(extra, str)]
    texts += [extra.documentation for extra in extras if hasattr(extra, "documentation")]
    infos = [x for x in (*extras, parameter.default) if isinstance(x, FieldInfo)]
    texts += [info.description for info in infos if info.description]
    named = Field(alias=parameter.name, description=texts[-1] if texts else description or None)
    if isinstance(parameter.default, FieldInfo):
        # The form x: int = Field(...), as in pydantic models.
        info = parameter.default
        if info.default_factory is not None:
            return Annotated[annotation, info, named], Field(default_factory=info.default_factory)
        return Annotated[annotation, info, named], ... if info.is_required() else info.default
    missing = parameter.default is inspect.Parameter.empty
    return Annotated[annotation, named], ... if missing else parameter.default


def _check_type(parameter: inspect.Parameter, field: tuple[Any, Any], label: str) -> None:
    from pydantic import create_model
    from pydantic.errors import PydanticUserError
    from pydantic_core import SchemaError as CoreSchemaError

    from agentkit_tools._parameters import model_parameters

    probe: dict[str, Any] = {"p0": field}
    try:
        model_parameters(create_model("Probe", **probe))
    except (PydanticUserError, CoreSchemaError, TypeError, ValueError, NameError) as error:
        reason = str(error).splitlines()[0]
        raise SchemaError(
            f"{label}, parameter {parameter.name!r}: pydantic cannot make a JSON Schema of its "
            f"type ({reason}); use JSON-like types, a dataclass, a TypedDict or a pydantic model"
        ) from error


def caller_namespace(own_module: str) -> dict[str, Any]:
    """Local names where a tool is being made, for annotations that name local classes.

    Args:
        own_module: The module whose frames are skipped.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in (own_module, __name__):
        frame = frame.f_back
    return dict(frame.f_locals)
