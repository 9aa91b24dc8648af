"""Search by meaning and by words at once, with the conversation in mind."""

from __future__ import annotations

import asyncio
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from agentkit.errors import IndexFormatError, UserError
from agentkit.messages import UserMessage
from agentkit.retrieval import RetrieverTool, conversation_text
from agentkit_retrievers.bm25 import BM25Retriever
from agentkit_retrievers.conversation import as_query, embed_conversation
from agentkit_retrievers.embedding import replace_surrogates
from agentkit_retrievers.expansion import ContextExpander
from agentkit_retrievers.faiss_index import FaissRetriever
from agentkit_retrievers.fusion import fuse_ranks, fuse_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from agentkit.messages import Message
    from agentkit.retrieval import Document, Retriever, ScoredDocument
    from agentkit_retrievers.conversation import ConversationQuery
    from agentkit_retrievers.embedding import Embedder, Vectors
    from agentkit_retrievers.progress import Progress
    from agentkit_retrievers.reranking import Reranker
    from agentkit_retrievers.rewriting import QueryRewriter

__all__ = ["HybridRetriever"]

_DENSE = "dense"
# Earlier turns come again with each question of a conversation.
_REMEMBERED_TURNS = 512


@runtime_checkable
class _VectorSearch(Protocol):
    """A retriever that also searches by vector, as :class:`FaissRetriever` does."""

    embedder: Embedder

    def search(self, vector: Vectors, *, top_k: int | None = None) -> Sequence[ScoredDocument]: ...


class HybridRetriever:
    """Finds documents by meaning and by words. A :class:`agentkit.Retriever`.

    Both searches give their best ``depth`` documents, whose scores are added up. In a
    conversation earlier user turns count too, each ``turn_decay`` as much as the one after it;
    an agent's ``documents`` mode uses that. The defaults were chosen on one half of a set of
    real conversations and checked on the other: see ``docs/retrieval.md``.

    Scores run from 0 to 1 and are relative: the best document of both searches has 1, be it
    ever so bad. To leave out what does not fit, set ``min_score`` of :attr:`dense`.

    Args:
        dense: Searches by meaning; ``None`` for an empty :class:`FaissRetriever`. Any retriever
            will do; one without ``embedder`` and ``search`` is given the last two questions.
        sparse: Searches by words; ``None`` for an empty :class:`BM25Retriever`.
        top_k: How many documents a search returns unless told otherwise.
        fusion: ``"scores"`` adds up scores, ``"rrf"`` reciprocal ranks, which is the safer
            choice for retrievers whose scores have outliers.
        dense_weight: Weight of the search by meaning, from 0 to 1; the rest is the other's.
        depth: Documents that each search gives.
        rrf_k: See :func:`agentkit_retrievers.fusion.fuse_ranks`.
        turn_decay: Weight of each earlier user turn against the one after it; 0 for none.
        rewriter: Has a model rewrite follow-up questions first.
        reranker: Orders the best ``rerank_depth`` documents anew.
        rerank_depth: How many it reads.
        context: Neighbouring chunks to put around each hit, on either side; ``"parent"`` for
            as much of the source as fits 4,000 characters. See :class:`ContextExpander`.

    Raises:
        UserError: A value is out of its range.
        ModelLoadError: ``dense`` is not given and there is no embedding model at its place.

    Example:
        >>> retriever = HybridRetriever.from_folder("docs")
        >>> agent = Agent(retriever=retriever)
    """

    def __init__(
        self,
        dense: Retriever | None = None,
        sparse: BM25Retriever | None = None,
        *,
        top_k: int = 4,
        fusion: Literal["scores", "rrf"] = "scores",
        dense_weight: float = 0.5,
        depth: int = 100,
        rrf_k: int = 60,
        turn_decay: float = 0.5,
        rewriter: QueryRewriter | None = None,
        reranker: Reranker | None = None,
        rerank_depth: int = 20,
        context: int | Literal["parent"] = 0,
    ) -> None:
        _check_counts(top_k=top_k, depth=depth, rrf_k=rrf_k, rerank_depth=rerank_depth)
        _check_parts(dense_weight=dense_weight, turn_decay=turn_decay)
        if fusion not in ("scores", "rrf"):
            raise UserError(f"fusion must be 'scores' or 'rrf', not {fusion!r}")
        if context != "parent" and (not isinstance(context, int) or context < 0):
            raise UserError(f"context must be a number from 0 up or 'parent', not {context!r}")
        self.dense: Any = FaissRetriever() if dense is None else dense
        self.sparse = BM25Retriever() if sparse is None else sparse
        self.top_k = top_k
        self.fusion = fusion
        self.dense_weight = dense_weight
        self.depth = depth
        self.rrf_k = rrf_k
        self.turn_decay = turn_decay
        self.rewriter = rewriter
        self.reranker = reranker
        self.rerank_depth = rerank_depth
        self.context: int | Literal["parent"] = context
        self._expander: ContextExpander | None = None  # None after a change.
        if isinstance(self.dense, _VectorSearch):
            self._embed = lru_cache(_REMEMBERED_TURNS)(self.dense.embedder.embed_query)

    @classmethod
    def from_dense(cls, dense: FaissRetriever, **options: Any) -> Self:
        """Add search by words to an index that is there. See the class for ``options``.

        The documents are read, which takes some seconds for a hundred thousand; nothing is
        embedded.
        """
        retriever = cls(dense, **options)
        retriever.sparse.add(dense.documents)
        return retriever

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        *,
        embedder: Embedder | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Self:
        """Make both indexes of documents, as they are. See the class for ``options``."""
        retriever = cls(FaissRetriever(embedder), **options)
        retriever.add(documents, progress=progress)
        return retriever

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        progress: Progress | None = None,
        top_k: int = 4,
        loading: dict[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Load, cut and index the documents below a folder.

        Args:
            folder: As for :meth:`FaissRetriever.from_folder`, for ``embedder`` and
                ``progress`` too.
            embedder: Makes the vectors.
            progress: Told how far the work is.
            top_k: See the class, for ``options`` too.
            loading: ``chunker``, ``patterns``, ``encoding`` and ``on_error`` of
                :meth:`FaissRetriever.from_folder`.
            **options: Of the class.
        """
        dense = FaissRetriever.from_folder(
            folder, embedder=embedder, progress=progress, **(loading or {})
        )
        return cls.from_dense(dense, top_k=top_k, **options)

    @property
    def documents(self) -> tuple[Document, ...]:
        """All documents, oldest first."""
        return self.sparse.documents

    def __len__(self) -> int:
        return len(self.sparse)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dense!r}, {self.sparse!r})"

    def add(
        self, documents: Iterable[Document], *, progress: Progress | None = None
    ) -> list[str | int]:
        """Add documents to both indexes; see :meth:`FaissRetriever.add`."""
        documents = list(documents)
        # First what may fail: then both have the documents, or neither.
        added: list[str | int] = self.dense.add(documents, progress=progress)
        self.sparse.add(documents)
        self._expander = None
        return added

    def remove(self, doc_ids: Iterable[str | int]) -> int:
        """Remove documents from both indexes; unknown ones are passed over.

        Returns:
            How many were removed.
        """
        keys = list(doc_ids)
        self.dense.remove(keys)
        self._expander = None
        return self.sparse.remove(keys)

    def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
        """Return the documents that fit the query best, best first.

        Args:
            query: What to look for, in natural language.
            top_k: At most this many; ``None`` for the retriever's own.

        Raises:
            UserError: The query is empty, or ``top_k`` is below 1.
            ModelLoadError: A model cannot be loaded.
        """
        if not query.strip():
            raise UserError("the query is empty; pass the words to look for")
        return self._retrieve([UserMessage(query)], top_k)

    def retrieve_conversation(
        self, messages: Sequence[Message], *, top_k: int | None = None
    ) -> list[ScoredDocument]:
        """Return the documents that fit the last question of a conversation best.

        Args:
            messages: The conversation; its last user message is the question.
            top_k: As for :meth:`retrieve`.

        Raises:
            UserError: No user message has text, or ``top_k`` is below 1.
            ModelLoadError: A model cannot be loaded.
        """
        if self.rewriter is not None:
            messages = _with_question(messages, self.rewriter.rewrite(messages).text)
        return self._retrieve(messages, top_k)

    async def aretrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
        """:meth:`retrieve` in a worker thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.retrieve, query, top_k=top_k)

    async def aretrieve_conversation(
        self, messages: Sequence[Message], *, top_k: int | None = None
    ) -> list[ScoredDocument]:
        """:meth:`retrieve_conversation`, while the event loop goes on."""
        if self.rewriter is not None:
            rewrite = await self.rewriter.arewrite(messages)
            messages = _with_question(messages, rewrite.text)
        return await asyncio.to_thread(self._retrieve, messages, top_k)

    def as_tool(self, **options: Any) -> RetrieverTool:
        """A tool with which the model searches here itself.

        Args:
            **options: Passed to :class:`agentkit.RetrieverTool`.
        """
        return RetrieverTool(self, **{"top_k": self.top_k, **options})

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save both indexes: the dense one in a folder of its own, the other beside it.

        Each is replaced as a whole or not at all; :meth:`load` mends what an interruption
        between the two leaves.

        Raises:
            RetrievalError: The folder holds something else, or writing failed.
        """
        self.dense.save(Path(folder) / _DENSE)
        self.sparse.save(folder)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        **options: Any,
    ) -> Self:
        """Load what :meth:`save` wrote.

        Args:
            folder: As given to :meth:`save`.
            embedder: With the model that made the index.
            **options: Of the class.

        Raises:
            IndexFormatError: There is no index, it is damaged, of a foreign version, or made
                with another embedding model.
        """
        dense = FaissRetriever.load(Path(folder) / _DENSE, embedder=embedder)
        try:
            sparse = BM25Retriever.load(folder)
        except IndexFormatError:
            sparse = BM25Retriever()
        if sparse.documents != dense.documents:
            sparse.remove([document.doc_id for document in sparse.documents])
            sparse.add(dense.documents)
        return cls(dense, sparse, **options)

    def _retrieve(self, messages: Sequence[Message], top_k: int | None) -> list[ScoredDocument]:
        count = self.top_k if top_k is None else top_k
        _check_counts(top_k=count)
        query = as_query(messages)
        depth = max(self.depth, count)
        searches: list[tuple[float, Callable[[], Sequence[ScoredDocument]]]] = [
            (self.dense_weight, lambda: self._search_dense(messages, query, depth)),
            (
                1 - self.dense_weight,
                lambda: self.sparse.search(query.weighted(self.turn_decay), top_k=depth),
            ),
        ]
        weights = [weight for weight, _ in searches if weight > 0]
        rankings = [search() for weight, search in searches if weight > 0]
        if self.fusion == "rrf":
            hits = fuse_ranks(rankings, weights, k=self.rrf_k)
        else:
            hits = fuse_scores(rankings, weights, depth=depth)
        if self.reranker is not None:
            shortlist = hits[: max(self.rerank_depth, count)]
            hits = self.reranker.rerank(conversation_text(messages), shortlist, top_k=count)
        return self._expanded(hits[:count])

    def _search_dense(
        self, messages: Sequence[Message], query: ConversationQuery, depth: int
    ) -> Sequence[ScoredDocument]:
        if isinstance(self.dense, _VectorSearch):
            vector = embed_conversation(
                query, lambda text: self._embed(replace_surrogates(text)), decay=self.turn_decay
            )
            return self.dense.search(vector, top_k=depth)
        text = conversation_text(messages) if self.turn_decay else query.question
        found: Sequence[ScoredDocument] = self.dense.retrieve(text, top_k=depth)
        return found

    def _expanded(self, hits: list[ScoredDocument]) -> list[ScoredDocument]:
        if self.context == 0:
            return hits
        if self._expander is None:
            around = None if self.context == "parent" else self.context
            self._expander = ContextExpander(self.documents, before=around, after=around)
        return self._expander.expand(hits)


def _with_question(messages: Sequence[Message], question: str) -> list[Message]:
    """The conversation with another last user message."""
    changed = list(messages)
    for i in reversed(range(len(changed))):
        message = changed[i]
        if isinstance(message, UserMessage) and message.content.strip():
            changed[i] = UserMessage(question)
            break
    return changed


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")


def _check_parts(**parts: float) -> None:
    for name, value in parts.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name} must be from 0 to 1, not {value}")
