"""LangChain's standard tests of chat models, against the real embedded model."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.load import load
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from agentkit import example_call
from agentkit.langchain import ChatGranite
from agentkit.models.embedded import prepare_embedded_model

WEATHER_EXAMPLE = example_call(
    "What is the weather in Paris?", "get_weather", {"location": "Paris"}, "Rain.", "It rains."
)
WITH_CALLS = ("tool_ca", "tool_choice", "structured", "json_mode", "runnables", "agent_loop")
"""Parts of the names of tests in which the model has to write a call."""


class _Granite:
    """What both suites say of the class."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatGranite

    @property
    def chat_model_params(self) -> dict[str, Any]:
        # A model of this size repeats its call if it may.
        return {"model": "embedded", "dtype": "float32", "parallel_tool_calls": False}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        # As the suites have it, with fewer tokens: a call of their tools takes up to 60.
        return {"temperature": 0, "max_tokens": 64, "timeout": 300, "stop": [], "max_retries": 2}

    @pytest.fixture
    def model(self, request: pytest.FixtureRequest) -> BaseChatModel:
        """As the suites' own; with an example where the model itself has to decide on a call."""
        options = dict(getattr(request, "param", None) or {})
        if not any(part in request.node.name for part in WITH_CALLS):
            options["max_tokens"] = 12
        if "agent_loop" in request.node.name:
            options["examples"] = WEATHER_EXAMPLE
        return ChatGranite(
            **{**self.standard_chat_model_params, **self.chat_model_params, **options}
        )

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[str, list[str]]:
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}


class TestChatGraniteUnit(_Granite, ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _allow_loading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """LangChain loads classes outside of its own list only where the program names them."""
        path = (*ChatGranite.get_lc_namespace(), "ChatGranite")
        allowing = partial(load, additional_import_mappings={path: path})
        monkeypatch.setattr("langchain_tests.unit_tests.chat_models.load", allowing)

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"AGENTKIT_MODEL": "embedded"}, {}, {"model": None}


@pytest.mark.model
class TestChatGraniteIntegration(_Granite, ChatModelIntegrationTests):
    @property
    def model_override_value(self) -> str:
        return str(prepare_embedded_model())

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        model = ChatGranite(**self.chat_model_params, max_tokens=4)
        model.invoke("What is the capital of France?")
        if not stream:
            return model.invoke("What is the capital of France?")
        full: AIMessageChunk | None = None
        for chunk in model.stream("What is the capital of France?"):
            full = chunk if full is None else full + chunk
        assert full is not None
        return full
