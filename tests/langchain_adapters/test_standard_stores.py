"""LangChain's standard tests of vector stores, retrievers, embeddings and tools."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    ToolsIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests, ToolsUnitTests

from agentkit import Document, tool
from agentkit.langchain import (
    AgentkitEmbeddings,
    AgentkitRetriever,
    AgentkitVectorStore,
    to_langchain,
)
from agentkit_retrievers import FaissRetriever
from hashing_embedder import HashingEmbedder


class TestAgentkitVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> VectorStore:
        return AgentkitVectorStore(self.get_embeddings())


class TestAgentkitRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return AgentkitRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        texts = ["Cats purr.", "Dogs bark.", "Cows moo.", "Bees buzz."]
        documents = [Document(text=text) for text in texts]
        return {"retriever": FaissRetriever.from_documents(documents, embedder=HashingEmbedder())}

    @property
    def retriever_query_example(self) -> str:
        return "What do cats do?"


class _Embeddings:
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return AgentkitEmbeddings


class TestAgentkitEmbeddingsUnit(_Embeddings, EmbeddingsUnitTests):
    pass


@pytest.mark.model
class TestAgentkitEmbeddingsIntegration(_Embeddings, EmbeddingsIntegrationTests):
    pass


@tool
async def multiply(a: float, b: float) -> float:
    """Multiply two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a * b


class _Tools:
    @property
    def tool_constructor(self) -> BaseTool:
        return to_langchain(multiply)

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"a": 2, "b": 3.5}


class TestToLangChainUnit(_Tools, ToolsUnitTests):
    pass


class TestToLangChainIntegration(_Tools, ToolsIntegrationTests):
    pass
