"""Ways to search, by the names that the command line uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentkit.errors import UserError
from agentkit_retrievers.hybrid import HybridRetriever
from agentkit_retrievers.rewriting import QueryRewriter

if TYPE_CHECKING:
    from agentkit.models.base import Model
    from agentkit_retrievers.bm25 import BM25Retriever
    from agentkit_retrievers.faiss_index import FaissRetriever
    from agentkit_retrievers.reranking import Reranker

__all__ = ["CONFIGURATIONS", "Parts", "check_name", "make_retriever"]

CONFIGURATIONS: dict[str, str] = {
    "dense": "embeddings of the last turn",
    "bm25": "words of the last turn",
    "hybrid": "HybridRetriever with its defaults: both, over the conversation",
}
"""The first word of a configuration."""

_MODIFIERS = {
    "last-turn": "look at the last turn only",
    "conversation": "look at earlier user turns too",
    "rrf": "fuse ranks instead of scores",
    "rewrite": "a model rewrites the question",
    "rerank": "a cross-encoder orders the best anew",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What configurations are made of."""

    dense: FaissRetriever
    """An index of the corpus."""
    sparse: BM25Retriever
    """An index of the corpus."""
    model: Model | None = None
    """Rewrites questions."""
    reranker: Reranker | None = None
    """Orders hits anew."""


def check_name(name: str, *, model: bool, reranker: bool) -> None:
    """Refuse a configuration that cannot be made.

    Args:
        name: Such as ``"hybrid+rewrite"``.
        model: Whether there is a language model.
        reranker: Whether there is a reranker.

    Raises:
        UserError: There is no such configuration, or a part that it needs is missing.
    """
    base, *modifiers = name.split("+")
    contradicts = {"last-turn", "conversation"} <= set(modifiers)
    if base not in CONFIGURATIONS or contradicts or not set(modifiers) <= set(_MODIFIERS):
        raise UserError(_unknown(name))
    if "rewrite" in modifiers and not model:
        raise UserError(f"configuration {name!r} needs a model that rewrites questions")
    if "rerank" in modifiers and not reranker:
        raise UserError(f"configuration {name!r} needs a reranker: name a cross-encoder")


def make_retriever(name: str, parts: Parts) -> HybridRetriever:
    """The retriever that a configuration such as ``"hybrid+rewrite"`` names.

    Raises:
        UserError: There is no such configuration, or a part that it needs is missing.
    """
    check_name(name, model=parts.model is not None, reranker=parts.reranker is not None)
    base, *modifiers = name.split("+")
    options: dict[str, Any] = {}
    if base != "hybrid":
        options["dense_weight"] = 1.0 if base == "dense" else 0.0
    if "last-turn" in modifiers or (base != "hybrid" and "conversation" not in modifiers):
        options["turn_decay"] = 0.0
    if "rrf" in modifiers:
        options["fusion"] = "rrf"
    if "rewrite" in modifiers:
        assert parts.model is not None
        options["rewriter"] = QueryRewriter(parts.model)
    if "rerank" in modifiers:
        options["reranker"] = parts.reranker
    return HybridRetriever(parts.dense, parts.sparse, **options)


def _unknown(name: str) -> str:
    bases = ", ".join(f"{key} ({value})" for key, value in CONFIGURATIONS.items())
    modifiers = ", ".join(f"+{key} ({value})" for key, value in _MODIFIERS.items())
    return f"unknown configuration {name!r}; there are {bases}, and after these {modifiers}"
