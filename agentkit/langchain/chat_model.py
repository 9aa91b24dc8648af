"""A LangChain chat model on a model that runs inside this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, field_validator

from agentkit.errors import ModelError, UserError
from agentkit.langchain import background
from agentkit.langchain.messages import messages_to_langchain
from agentkit.langchain.requests import (
    REQUEST_OPTIONS,
    build_request,
    read_tool_choice,
    with_examples,
)
from agentkit.langchain.responses import PROVIDER, ChunkWriter, response_message
from agentkit.langchain.shared_models import close_shared_model, shared_model
from agentkit.langchain.structured import ANY_OBJECT, Schema, output_parser, schema_tool, with_raw
from agentkit.messages import Message
from agentkit.models.base import Model, ModelEvent, ModelRequest, ModelResponse
from agentkit.models.defaults import default_model_name
from agentkit.models.transformers_model import TransformersModel

__all__ = ["ChatGranite"]


class ChatGranite(BaseChatModel):
    """IBM Granite 4.0, or another language model, run inside this process, for LangChain.

    Chat models that name the same model with the same options share it. Tool calls and
    structured output are written under the grammar of their schemas, so they are always valid.
    An AI message carries its exact tokens; in the conversation's next turn the model goes on
    from its KV cache (``usage_metadata["input_token_details"]["cache_read"]``).

    Example:
        >>> llm = ChatGranite(model="ibm-granite/granite-4.0-1b")
        >>> llm.invoke("What is the capital of France?").text
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    model: str | None = None
    """A hub id, a folder, a ``.gguf`` file or ``embedded``; if not given, see
    :func:`agentkit.models.defaults.default_model_name`."""
    client: Any = Field(default=None, exclude=True, repr=False)
    """A :class:`agentkit.Model` to use in place of the one that :attr:`model` names."""
    device: str | None = None
    """``cuda``, ``cpu`` or ``mps``; the best there is if not given."""
    dtype: str | None = None
    """``bfloat16``, ``float16``, ``float32``, or on a CPU ``int8`` or ``int4`` for packed weights;
    what loses nothing and is fast on the device if not given."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    max_tokens: int = 512
    """Upper bound on the tokens of one turn."""
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float | None = None
    """Sample among the likeliest tokens that together reach this probability."""
    top_k: int | None = None
    """Sample among the k likeliest tokens only."""
    min_p: float | None = None
    """Sample among tokens at least this fraction as likely as the likeliest."""
    repetition_penalty: float = 1.0
    """Divides the logits of tokens seen before; 1 for none."""
    seed: int | None = None
    """Makes sampling repeatable."""
    stop: list[str] | str | None = None
    """The turn ends before the first of these strings."""
    constrain: bool = True
    """Sample calls under the grammar of the tools' schemas. Without it, calls that cannot be
    read become ``invalid_tool_calls``, with the reason."""
    parallel_tool_calls: bool = True
    """Whether one turn may hold several calls. The smallest models tend to repeat the first."""
    examples: list[BaseMessage] = Field(default_factory=list, repr=False)
    """A conversation that shows the model how it is done, put after the system message; also
    what :func:`agentkit.example_call` makes. With one example of each tool, small models call
    tools far more reliably."""
    timeout: float | None = None
    """Seconds that one turn may take, waiting for the model included."""
    max_retries: int = 0
    """For compatibility: nothing is sent anywhere that could get lost."""
    streaming: bool = False
    """Stream under the hood also where a whole message is asked for, for the callbacks' sake."""

    @field_validator("examples", mode="before")
    @classmethod
    def _read_examples(cls, examples: Any) -> Any:
        if isinstance(examples, Sequence) and not isinstance(examples, str):
            examples = [
                messages_to_langchain([item])[0] if isinstance(item, Message) else item
                for item in examples
            ]
            return convert_to_messages(examples)
        return examples

    @property
    def _llm_type(self) -> str:
        return "agentkit-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        names = ("device", "dtype", "revision", *REQUEST_OPTIONS)
        return {"model": self._model_name(), **{name: getattr(self, name) for name in names}}

    @property
    def lc_secrets(self) -> dict[str, str]:
        """There are none."""
        return {}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Whether LangChain may save it: yes, all but :attr:`client`."""
        return True

    def load(self) -> ChatGranite:
        """Load the model now rather than at the first call.

        Raises:
            ModelLoadError: It cannot be found or read.
        """
        if self.client is None:
            self._shared(self.model).load()
        return self

    def close(self) -> None:
        """Free the shared model, for all that use it; a :attr:`client` is not closed."""
        close_shared_model(self.model, **self._loading_options())

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools to call.

        Args:
            tools: Tools, functions, pydantic models, TypedDicts, or OpenAI's, Anthropic's or
                JSON Schema's dictionaries.
            tool_choice: ``auto``, ``any``, ``required``, ``none``, a tool's name, ``True`` for
                ``any``, or OpenAI's dictionary.
            parallel_tool_calls: In place of the model's own.
            strict: Close the schemas to further properties. Calls follow their schemas anyway.
            **kwargs: Bound as they are.

        Raises:
            UserError: ``tool_choice`` is none of these.
        """
        formatted = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        names = [str(tool.get("function", {}).get("name")) for tool in formatted]
        bound: dict[str, Any] = {"tools": formatted, **kwargs}
        if tool_choice is not None:
            bound["tool_choice"] = read_tool_choice(tool_choice, names)
        if parallel_tool_calls is not None:
            bound["parallel_tool_calls"] = parallel_tool_calls
        return self.bind(**bound)

    def with_structured_output(
        self,
        schema: Schema | None = None,
        *,
        include_raw: bool = False,
        method: Literal["function_calling", "json_schema", "json_mode"] = "function_calling",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """The model with output in the form of a schema, which its grammar makes it follow.

        Args:
            schema: A pydantic model, a TypedDict, a JSON Schema or an OpenAI function; in JSON
                mode ``None`` for any object.
            include_raw: Give ``raw``, ``parsed`` and ``parsing_error``.
            method: All three are one here: a call that the model has to write.
            strict: Close the schema to further properties.
            **kwargs: Bound as they are.

        Raises:
            UserError: There is no schema, or no such method.
        """
        if method not in ("function_calling", "json_schema", "json_mode"):
            raise UserError(
                f"method is {method!r}; it must be 'function_calling', 'json_schema' or 'json_mode'"
            )
        if schema is None and method != "json_mode":
            raise UserError(f"method {method!r} needs a schema; only 'json_mode' does without")
        wanted = ANY_OBJECT if schema is None else schema
        tool = schema_tool(wanted, strict=strict)
        name = tool["function"]["name"]
        model = self.bind_tools(
            [tool],
            tool_choice=name,
            parallel_tool_calls=False,
            constrain=True,
            ls_structured_output_format={"kwargs": {"method": method}, "schema": wanted},
            **kwargs,
        )
        parser = output_parser(wanted, name)
        return with_raw(model, parser) if include_raw else model | parser

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return background.run(self._agenerate(messages, stop, None, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        model, request, timeout = self._prepare(messages, stop, kwargs)
        response: ModelEvent | None = None
        async with aclosing(_events(model, request, timeout)) as events:
            async for event in events:
                response = event
        if not isinstance(response, ModelResponse):
            raise ModelError(f"model {model.name!r} ended its stream without a ModelResponse")
        message = response_message(response, model_name=model.name)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in background.iterate(lambda: self._chunks(messages, stop, kwargs)):
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(self._chunks(messages, stop, kwargs)) as chunks:
            async for chunk in chunks:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _chunks(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        model, request, timeout = self._prepare(messages, stop, options)
        writer = ChunkWriter(
            model_name=model.name,
            stream_arguments=request.constrain,
            blocks=self.output_version == "v1",
        )
        async with aclosing(_events(model, request, timeout)) as events:
            async for event in events:
                for message in writer.write(event):
                    yield ChatGenerationChunk(message=message)

    def _prepare(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> tuple[Model, ModelRequest, float | None]:
        request = build_request(
            with_examples(messages, self.examples),
            defaults={name: getattr(self, name) for name in REQUEST_OPTIONS},
            stop=stop,
            options=options,
        )
        return self._model(options.get("model")), request, options.get("timeout", self.timeout)

    def _model(self, override: str | None) -> Model:
        if override is not None and override != self._model_name():
            return self._shared(override)
        if self.client is None:
            return self._shared(self.model)
        if not isinstance(self.client, Model):
            raise UserError(
                f"client is {self.client!r:.100}; it must be an agentkit Model such as "
                "TransformersModel"
            )
        client: Model = self.client
        return client

    def _model_name(self) -> str:
        if self.client is not None:
            return str(getattr(self.client, "name", self.model))
        return self.model or default_model_name()

    def _shared(self, name: str | None) -> TransformersModel:
        return shared_model(name, **self._loading_options())

    def _loading_options(self) -> dict[str, Any]:
        return {"device": self.device, "dtype": self.dtype, "revision": self.revision}

    def _resolve_model_profile(self) -> ModelProfile | None:
        # Not "structured_output": LangChain would then ask for JSON as text beside the tools,
        # where a call that follows the schema is certain.
        return ModelProfile(
            tool_calling=True,
            tool_choice=True,
            tool_call_streaming=True,
            structured_output=False,
            text_inputs=True,
            text_outputs=True,
            image_inputs=False,
            audio_inputs=False,
            video_inputs=False,
            pdf_inputs=False,
            reasoning_output=False,
            temperature=True,
        )

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        params["ls_model_name"] = kwargs.get("model") or self._model_name()
        if stops := stop or self.stop:
            params["ls_stop"] = [stops] if isinstance(stops, str) else stops
        return params


async def _events(
    model: Model, request: ModelRequest, timeout: float | None
) -> AsyncGenerator[ModelEvent, None]:
    """The model's events, within the time allowed; closed before this returns."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    stream: Any = model.stream(request)
    try:
        while True:
            try:
                # Around each step, not the whole: a consumer that is slow is not the model's fault.
                async with asyncio.timeout_at(deadline) as limit:
                    event = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise ModelError(
                    f"model {model.name!r} did not finish its turn within {timeout:g} s; allow "
                    "more (timeout) or fewer tokens (max_tokens)"
                ) from error
            yield event
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
