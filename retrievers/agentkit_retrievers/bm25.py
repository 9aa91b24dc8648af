"""Keyword search over documents in memory: BM25 on stemmed words."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agentkit.errors import UserError
from agentkit.retrieval import Document, RetrieverTool, ScoredDocument
from agentkit_retrievers.bm25_storage import StoredTerms, read_terms, write_terms
from agentkit_retrievers.conversation import as_query
from agentkit_retrievers.identity import with_ids
from agentkit_retrievers.terms import Analyzer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from numpy.typing import NDArray

    from agentkit.messages import Message

__all__ = ["BM25Retriever"]

# A passage's first line is its title where it has no other, if it is no longer than this.
_TITLE_CHARS = 120


class BM25Retriever:
    """Finds documents that share rare words with the query. A :class:`agentkit.Retriever`.

    It finds names, numbers and terms of art that embeddings blur, and needs no model. Scores
    are BM25's, from 0 up; documents that share no word with the query are not found. All
    methods may be called from several threads at a time.

    Each document is read once; the first search after a change weighs the known words anew,
    which takes a small part of the time that reading took.

    Args:
        top_k: How many documents a search returns unless told otherwise.
        k1: How much repeating a word counts.
        b: How much long documents are held against them, from 0 to 1.
        turn_decay: Weight of each earlier user turn against the one after it, in
            :meth:`retrieve_conversation`.
        title_weight: How many times a title's words count. A document without a title has
            its first line, if that is short.
        analyzer: Makes terms of texts; ``None`` for ``Analyzer()``, which is English's.

    Raises:
        UserError: A number is out of its range.
    """

    def __init__(
        self,
        *,
        top_k: int = 4,
        k1: float = 1.5,
        b: float = 0.75,
        turn_decay: float = 0.5,
        title_weight: int = 3,
        analyzer: Analyzer | None = None,
    ) -> None:
        for name, value, low, high in (
            ("top_k", top_k, 1, None),
            ("k1", k1, 0, None),
            ("b", b, 0, 1),
            ("turn_decay", turn_decay, 0, 1),
            ("title_weight", title_weight, 0, None),
        ):
            if value < low or (high is not None and value > high):
                span = f"at least {low}" if high is None else f"from {low} to {high}"
                raise UserError(f"{name} must be {span}, not {value}")
        self.top_k = top_k
        self.k1, self.b = k1, b
        self.turn_decay = turn_decay
        self.title_weight = title_weight
        self.analyzer = analyzer or Analyzer()
        self._lock = threading.RLock()
        self._documents: dict[str | int, Document] = {}  # By doc_id, oldest first.
        self._terms: dict[str | int, NDArray[np.int32]] = {}  # Ids into the vocabulary.
        self._vocabulary: dict[str, int] = {}
        self._weights: _Weights | None = None  # None after a change.

    @classmethod
    def from_documents(cls, documents: Iterable[Document], **options: Any) -> Self:
        """Make an index of documents. See the class for ``options``, and :meth:`add`."""
        retriever = cls(**options)
        retriever.add(documents)
        return retriever

    @property
    def documents(self) -> tuple[Document, ...]:
        """All documents, oldest first."""
        with self._lock:
            return tuple(self._documents.values())

    def __len__(self) -> int:
        return len(self._documents)

    def __bool__(self) -> bool:
        return True  # An empty retriever is still one: ``retriever or default`` keeps it.

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} documents)"

    def add(self, documents: Iterable[Document]) -> list[str | int]:
        """Add documents; one whose ``doc_id`` is known takes the known one's place.

        All are added or, on an error, none.

        Returns:
            The ``doc_id`` of each, in order.

        Raises:
            UserError: A document has no text, or two of them have one ``doc_id``.
        """
        added = with_ids(documents)
        new = {document.doc_id: document for document in added}
        terms = {key: self._document_terms(document) for key, document in new.items()}
        with self._lock:
            self.remove(new)
            for key, document in new.items():
                known = [self._vocabulary.setdefault(t, len(self._vocabulary)) for t in terms[key]]
                self._documents[key] = document
                self._terms[key] = np.array(known, dtype=np.int32)
            self._weights = None
        return [document.doc_id for document in added]

    def remove(self, doc_ids: Iterable[str | int]) -> int:
        """Remove documents; unknown ones are passed over.

        Returns:
            How many were removed.
        """
        with self._lock:
            keys = [key for key in dict.fromkeys(doc_ids) if key in self._documents]
            for key in keys:
                del self._documents[key], self._terms[key]
            if keys:
                self._weights = None
            return len(keys)

    def get(self, doc_ids: Iterable[str | int]) -> list[Document]:
        """The documents with these ``doc_id``, in this order; unknown ones are passed over."""
        with self._lock:
            return [self._documents[key] for key in doc_ids if key in self._documents]

    def retrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
        """Return the documents that fit the query best, best first.

        Args:
            query: What to look for.
            top_k: At most this many; ``None`` for the retriever's own.

        Raises:
            UserError: The query is empty, or ``top_k`` is below 1.
        """
        if not query.strip():
            raise UserError("the query is empty; pass the words to look for")
        return self.search([(query, 1.0)], top_k=top_k)

    def retrieve_conversation(
        self, messages: Sequence[Message], *, top_k: int | None = None
    ) -> list[ScoredDocument]:
        """Return the documents that fit the last question, given what was asked before it.

        The words of earlier user turns count too, less with each turn in between: a follow-up
        question often leaves out its subject.

        Args:
            messages: The conversation; the last user message is the question.
            top_k: As for :meth:`retrieve`.

        Raises:
            UserError: No user message has text, or ``top_k`` is below 1.
        """
        return self.search(as_query(messages).weighted(self.turn_decay), top_k=top_k)

    def search(
        self,
        query: Sequence[tuple[str, float]],
        *,
        top_k: int | None = None,
        where: Callable[[Document], bool] | None = None,
    ) -> list[ScoredDocument]:
        """Return the documents that fit several weighted texts best, best first.

        Args:
            query: Texts, each with the weight of its words.
            top_k: As for :meth:`retrieve`.
            where: Search only among documents for which it is true.

        Raises:
            UserError: ``top_k`` is below 1.
        """
        count = self.top_k if top_k is None else top_k
        if count < 1:
            raise UserError(f"top_k must be at least 1, not {count}")
        weighted: Counter[str] = Counter()
        for text, weight in query:
            for term in self.analyzer.terms(text):
                weighted[term] += weight  # type: ignore[assignment]  # Counters hold floats too.
        with self._lock:
            weights = self._weighed()
            known = [(self._vocabulary[t], w) for t, w in weighted.items() if t in self._vocabulary]
            documents = weights.documents
        scores = weights.scores(known)
        if where is not None:
            scores = np.where([where(document) for document in documents], scores, 0)
        # Stable, so that equal scores stay in the order in which documents were added.
        best = np.argsort(-scores, kind="stable")[:count]
        return [ScoredDocument(documents[i], float(scores[i])) for i in best if scores[i] > 0]

    async def aretrieve(self, query: str, *, top_k: int | None = None) -> list[ScoredDocument]:
        """:meth:`retrieve` in a worker thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.retrieve, query, top_k=top_k)

    def as_tool(self, **options: Any) -> RetrieverTool:
        """A tool with which the model searches here itself.

        Args:
            **options: Passed to :class:`agentkit.RetrieverTool`.
        """
        return RetrieverTool(self, **{"top_k": self.top_k, **options})

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save documents and terms, in place of those that the folder holds, if any.

        Raises:
            RetrievalError: Writing failed.
        """
        with self._lock:
            stored = StoredTerms(
                documents=list(self._documents.values()),
                terms=list(self._terms.values()),
                vocabulary=list(self._vocabulary),
                settings=self._settings(),
            )
        write_terms(Path(folder), stored)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, top_k: int = 4) -> Self:
        """Load what :meth:`save` wrote, settings included.

        Raises:
            IndexFormatError: There is no index, it is damaged, or of a foreign version.
        """
        stored = read_terms(Path(folder))
        settings = dict(stored.settings)
        analyzer = Analyzer(**settings.pop("analyzer"))
        retriever = cls(top_k=top_k, analyzer=analyzer, **settings)
        keys = [document.doc_id for document in stored.documents]
        retriever._documents = dict(zip(keys, stored.documents, strict=True))
        retriever._terms = dict(zip(keys, stored.terms, strict=True))
        retriever._vocabulary = {term: i for i, term in enumerate(stored.vocabulary)}
        return retriever

    def _settings(self) -> dict[str, Any]:
        return {
            "k1": self.k1,
            "b": self.b,
            "turn_decay": self.turn_decay,
            "title_weight": self.title_weight,
            "analyzer": self.analyzer.to_dict(),
        }

    def _document_terms(self, document: Document) -> list[str]:
        terms = self.analyzer.terms(document.text)
        title, extra = document.title, self.title_weight
        if not title:
            title, extra = _first_line(document.text), self.title_weight - 1  # It is in the text.
        return terms + self.analyzer.terms(title) * max(0, extra)

    def _weighed(self) -> _Weights:
        if self._weights is None:
            self._weights = _Weights(
                documents=tuple(self._documents.values()),
                terms=list(self._terms.values()),
                vocabulary=self._vocabulary,
                k1=self.k1,
                b=self.b,
            )
        return self._weights


class _Weights:
    """The words' weights in each document, for one state of the index; never changes."""

    def __init__(
        self,
        *,
        documents: tuple[Document, ...],
        terms: list[NDArray[np.int32]],
        vocabulary: dict[str, int],
        k1: float,
        b: float,
    ) -> None:
        import bm25s

        self.documents = documents
        self._model: Any = None
        if any(len(each) for each in terms):
            self._model = bm25s.BM25(k1=k1, b=b)
            lists = [each.tolist() for each in terms]
            self._model.index((lists, dict(vocabulary)), show_progress=False)

    def scores(self, query: Sequence[tuple[int, float]]) -> NDArray[np.float32]:
        """Each document's score for weighted terms."""
        total = np.zeros(len(self.documents), dtype=np.float32)
        if self._model is None:
            return total
        # The matrix's columns are the terms: postings in a row, with their weights.
        data, rows, ends = (self._model.scores[key] for key in ("data", "indices", "indptr"))
        for term, weight in query:
            # A term that came with a later change is in no document of this state.
            if term + 1 < len(ends):
                span = slice(ends[term], ends[term + 1])
                total[rows[span]] += weight * data[span]
        return total


def _first_line(text: str) -> str:
    line = text.strip().split("\n", 1)[0].strip()
    return line if len(line) <= _TITLE_CHARS else ""
