"""The embedded model behind every chat model of these tests, loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentkit.langchain import ChatGranite

OPTIONS: dict[str, Any] = {"model": "embedded", "dtype": "float32"}


@pytest.fixture(scope="session", autouse=True)
def _free_the_model() -> Iterator[None]:
    yield
    ChatGranite(**OPTIONS).close()


@pytest.fixture
def llm() -> ChatGranite:
    """The embedded model, few tokens a turn."""
    return ChatGranite(**OPTIONS, max_tokens=8)
