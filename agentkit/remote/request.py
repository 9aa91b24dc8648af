"""From a request to the body that a server is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from agentkit._schemas import plain
from agentkit.errors import UserError
from agentkit.models.base import ModelRequest, Sampling
from agentkit.remote.constraining import call_schema, is_strict, structural_tag
from agentkit.remote.prompting import native_messages, text_messages
from agentkit.tools import ToolDefinition

__all__ = ["CallMode", "RequestWriter"]

CallMode: TypeAlias = Literal[
    "tools", "json_schema", "structural_tag", "structured_outputs", "guided_json"
]
"""How tools are shown to a server's model, and its calls constrained; see
:class:`agentkit.OpenAIModel`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestWriter:
    """Writes the bodies for one server."""

    calls: CallMode = "tools"
    """How tools are shown and calls constrained."""
    documents: Literal["system", "field"] = "system"
    """Where documents go: into the system text, or into a field ``documents``."""
    max_tokens_field: str = "max_tokens"
    """What the server calls the limit of tokens."""
    stream_usage: bool = True
    """Ask for the usage at the end of the stream."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Further fields; they win over ours."""

    def __post_init__(self) -> None:
        if self.calls not in get_args(CallMode):
            raise UserError(
                f"calls is {self.calls!r}; it must be one of {', '.join(get_args(CallMode))}"
            )
        if self.documents not in ("system", "field"):
            raise UserError(f"documents is {self.documents!r}; it must be 'system' or 'field'")

    def whole_turn_is_calls(self, request: ModelRequest) -> bool:
        """Whether the turn will be the JSON of calls, without tags around it."""
        return (
            self.calls in ("json_schema", "structured_outputs", "guided_json")
            and request.constrain
            and request.tool_choice not in ("auto", "none")
        )

    def body(self, request: ModelRequest, *, model: str) -> dict[str, Any]:
        """The body of ``/chat/completions``.

        Args:
            request: What the model is asked for.
            model: What the server calls the model.

        Raises:
            UserError: The request asks for what no server of this kind can do.
        """
        if request.prefill is not None:
            raise UserError("a model behind a server cannot go on from ModelRequest.prefill")
        in_field = self.documents == "field"
        documents = () if in_field else request.documents
        body: dict[str, Any] = {"model": model, "stream": True}
        if self.calls == "tools":
            body["messages"] = native_messages(request.messages, documents)
            body.update(_native_tools(request))
        else:
            body["messages"] = text_messages(request.messages, request.tools, documents)
            body.update(self._constraint(request))
        body.update(self._response_format(request))
        if in_field and request.documents:
            body["documents"] = [document.to_prompt() for document in request.documents]
        if self.stream_usage:
            body["stream_options"] = {"include_usage": True}
        body.update(_sampling(request.sampling, self.max_tokens_field))
        return {**body, **self.extra_body}

    def _constraint(self, request: ModelRequest) -> dict[str, Any]:
        tools = _callable(request)
        if not tools or not request.constrain:
            return {}
        parallel = request.parallel_tool_calls
        forced = request.tool_choice != "auto"
        if self.calls == "structural_tag":
            tag = structural_tag(tools, required=forced, parallel=parallel)
            return {"response_format": tag}
        if not forced:
            # The schema of a turn cannot say "text, or a call": the text is read as it comes.
            return {}
        schema = call_schema(tools, parallel=parallel and request.tool_choice == "required")
        if self.calls == "json_schema":
            return {"response_format": _json_schema("calls", schema, strict=True)}
        if self.calls == "structured_outputs":
            return {"structured_outputs": {"json": schema}}
        return {"guided_json": schema}

    def _response_format(self, request: ModelRequest) -> dict[str, Any]:
        schema = request.response_schema
        if schema is None:
            return {}
        if self.calls != "tools" and _callable(request):
            raise UserError(
                f"calls={self.calls!r} cannot have a response_schema beside tools; use "
                "calls='tools', or tool_choice='none'"
            )
        schema = plain(schema)
        return {"response_format": _json_schema("answer", schema, strict=is_strict(schema))}


def _callable(request: ModelRequest) -> list[ToolDefinition]:
    """Tools that the turn may call."""
    if request.tool_choice == "none":
        return []
    named = [tool for tool in request.tools if tool.name == request.tool_choice]
    return named or list(request.tools)


def _native_tools(request: ModelRequest) -> dict[str, Any]:
    if not request.tools:
        return {}
    tools = [tool.to_openai() for tool in request.tools]
    for tool in tools:
        tool["function"]["parameters"] = plain(tool["function"]["parameters"])
        if request.constrain and is_strict(tool["function"]["parameters"]):
            tool["function"]["strict"] = True
    choice: Any = request.tool_choice
    if choice not in ("auto", "required", "none"):
        choice = {"type": "function", "function": {"name": choice}}
    fields: dict[str, Any] = {"tools": tools, "tool_choice": choice}
    if not request.parallel_tool_calls:
        fields["parallel_tool_calls"] = False
    return fields


def _json_schema(name: str, schema: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": schema, "strict": strict},
    }


def _sampling(sampling: Sampling, max_tokens_field: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        max_tokens_field: sampling.max_tokens,
        "temperature": sampling.temperature,
    }
    # Only what was asked for: OpenAI's own API refuses fields that it does not know.
    for name in ("top_p", "top_k", "min_p", "seed"):
        if (value := getattr(sampling, name)) is not None:
            fields[name] = value
    if sampling.repetition_penalty != 1:
        fields["repetition_penalty"] = sampling.repetition_penalty
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if sampling.logprobs is not None:
        fields["logprobs"] = True
        if sampling.logprobs:
            fields["top_logprobs"] = sampling.logprobs
    return fields
