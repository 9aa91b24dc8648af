"""``/v1/chat/completions``: what clients send, and the request to the model that it stands for."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentkit.errors import SchemaError
from agentkit.messages import Message, messages_from_dicts
from agentkit.models.base import ModelRequest, Sampling
from agentkit.retrieval import Document
from agentkit.server.errors import ApiError
from agentkit.server.options import ServerOptions
from agentkit.server.plain_json import AnyObject
from agentkit.tools import ToolDefinition
from agentkit.validation import check_schema

__all__ = ["ChatMessage", "ChatRequest", "DocumentSpec", "Text", "model_request", "read_messages"]

MAX_MESSAGES = 4096
MAX_TOOLS = 256

Text: TypeAlias = Annotated[str, Field(max_length=4 << 20)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Loose(BaseModel):
    """What clients send back of our own answers may hold more than anybody needs."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class CalledFunction(_Loose):
    """The function that a call is of."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: str | AnyObject | None = None


class MessageCall(_Loose):
    """A call in an assistant's message."""

    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(_Loose):
    """A message in OpenAI's form."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[AnyObject] | None = None
    name: str | None = None
    tool_calls: list[MessageCall] | None = None
    tool_call_id: str | None = None


class FunctionSpec(_Loose):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: AnyObject | None = None
    strict: bool | None = None


class ToolSpec(_Loose):
    """A tool; there are only functions."""

    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(_Body):
    """The name of a function."""

    name: str


class NamedTool(_Body):
    """The tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchemaSpec(_Body):
    """The form of an answer."""

    name: str = "answer"
    description: str | None = None
    schema_: Annotated[AnyObject | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(_Body):
    """``text``, any JSON object, or JSON by a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaSpec | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and (
            self.json_schema is None or self.json_schema.schema_ is None
        ):
            raise ValueError("json_schema must hold a schema")
        return self


class StreamOptions(_Body):
    """What a stream holds beside the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class DocumentSpec(_Loose):
    """A document for the prompt's documents section."""

    text: Text
    doc_id: str | int = ""
    title: str = ""
    source: str = ""

    def document(self, number: int) -> Document:
        """The document; its number is its id, if it has no other."""
        return Document(
            text=self.text,
            doc_id=self.doc_id if self.doc_id != "" else str(number),
            title=self.title,
            source=self.source,
        )


class ChatRequest(_Body):
    """A chat completion in OpenAI's form. ``top_k``, ``min_p``, ``repetition_penalty`` and
    ``documents`` are ours."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1, le=1 << 31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[ToolSpec], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    documents: list[DocumentSpec] | None = None
    # Accepted where they ask for nothing that is not done here.
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: AnyObject | None = None
    modalities: list[str] | None = None
    store: bool | None = None
    # Without effect on the answer.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: AnyObject | None = None
    service_tier: str | None = None
    prediction: AnyObject | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


def read_messages(messages: list[ChatMessage]) -> list[Message]:
    """The messages as ours.

    Raises:
        MessageError: One holds what no text model can be shown.
    """
    return messages_from_dicts([m.model_dump(exclude_none=True) for m in messages])


def model_request(body: ChatRequest, options: ServerOptions) -> ModelRequest:
    """The turn that is asked for.

    Raises:
        ApiError: 400: something is asked for that is not done here.
        UserError: A value cannot be used.
    """
    _refuse_unsupported(body)
    choice = body.tool_choice
    tools = tuple(_tool(tool, i) for i, tool in enumerate(body.tools or ()))
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise ApiError(400, "two tools have the same name", code="invalid_value", param="tools")
    return ModelRequest(
        messages=read_messages(body.messages),
        tools=tools,
        documents=tuple(d.document(i) for i, d in enumerate(body.documents or (), start=1)),
        tool_choice=choice.function.name if isinstance(choice, NamedTool) else choice or "auto",
        parallel_tool_calls=body.parallel_tool_calls is not False,
        response_schema=_response_schema(body.response_format),
        sampling=_sampling(body, options),
    )


def _response_schema(form: ResponseFormat | None) -> dict[str, Any] | None:
    if form is None or form.type == "text":
        return None
    if form.json_schema is None or form.type == "json_object":
        return {"type": "object"}
    schema = form.json_schema.schema_ or {}
    param = "response_format.json_schema.schema"
    try:
        _check(json.dumps(schema), None)
    except SchemaError as error:
        raise ApiError(400, f"{param}: {error}", code="invalid_schema", param=param) from None
    if form.json_schema.strict and (problem := _not_enforced(json.dumps(schema))):
        raise ApiError(
            400,
            f"{param}: it cannot be enforced strictly ({problem}); leave that out, or strict",
            code="invalid_schema",
            param=param,
        )
    return schema


def _sampling(body: ChatRequest, options: ServerOptions) -> Sampling:
    defaults = options.sampling
    asked = body.max_completion_tokens or body.max_tokens
    if asked is not None and asked > options.max_tokens:
        raise ApiError(
            400,
            f"this server writes at most {options.max_tokens} tokens at once, not {asked}",
            code="invalid_value",
            param="max_completion_tokens" if body.max_completion_tokens else "max_tokens",
        )
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or list(defaults.stop)
    if len(stop) > options.stop_sequences or not all(stop):
        raise ApiError(
            400,
            f"stop may have at most {options.stop_sequences} texts, none of them empty",
            code="invalid_value",
            param="stop",
        )
    given = {
        name: getattr(body, name)
        for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
    }
    kept = {name: getattr(defaults, name) for name, value in given.items() if value is None}
    return Sampling(
        **{**given, **kept},
        max_tokens=asked or min(defaults.max_tokens, options.max_tokens),
        stop=tuple(stop),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def _refuse_unsupported(body: ChatRequest) -> None:
    checks: tuple[tuple[str, Any, str], ...] = (
        ("n", body.n not in (None, 1), "only one answer (n=1) is written for a request"),
        ("presence_penalty", body.presence_penalty, "use repetition_penalty instead"),
        ("frequency_penalty", body.frequency_penalty, "use repetition_penalty instead"),
        ("logit_bias", body.logit_bias, "it is not supported"),
        ("modalities", body.modalities not in (None, ["text"]), "there is only text"),
        ("store", body.store, "nothing is stored"),
        (
            "top_logprobs",
            body.top_logprobs is not None and not body.logprobs,
            "it needs logprobs: true",
        ),
    )
    for param, asked, message in checks:
        if asked:
            raise ApiError(400, f"{param}: {message}", code="unsupported_value", param=param)


def _tool(spec: ToolSpec, index: int) -> ToolDefinition:
    where = f"tools.{index}.function"
    function = spec.function.model_dump(include={"name", "description", "parameters"})
    try:
        tool = ToolDefinition.from_openai({"function": function})
        _check(json.dumps(tool.parameters), tool.name)
    except SchemaError as error:
        raise ApiError(400, f"{where}: {error}", code="invalid_schema", param=where) from None
    return tool


@lru_cache(maxsize=512)
def _check(schema: str, name: str | None) -> None:
    check_schema(json.loads(schema), tool_name=name)


@lru_cache(maxsize=512)
def _not_enforced(schema: str) -> str:
    from agentkit.engine.grammar_schema import not_enforced

    return not_enforced(json.loads(schema))
