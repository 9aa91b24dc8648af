"""Putting what a search found into a better order: cross-encoders, and variety."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from agentkit.errors import ModelLoadError, UserError
from agentkit_retrievers.embedding import replace_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentkit.retrieval import ScoredDocument
    from agentkit_retrievers.embedding import Vectors

__all__ = ["CrossEncoderReranker", "MMRReranker", "Reranker"]


@runtime_checkable
class Reranker(Protocol):
    """Anything that orders a search's hits anew. Must be usable from any thread."""

    def rerank(
        self, query: str, hits: Sequence[ScoredDocument], *, top_k: int
    ) -> list[ScoredDocument]:
        """Order hits anew.

        Args:
            query: What was searched for.
            hits: What was found, best first.
            top_k: At most this many are returned.
        """
        ...


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder, which reads query and passage together.

    It is far slower than embeddings, and better: let it read some 20 hits. Scores are the
    model's own.

    Args:
        model: A folder, or a name on the model hub such as
            ``"ibm-granite/granite-embedding-reranker-english-r2"``.
        device: A torch device; ``None`` for the best there is.
        batch_size: Pairs that go through the model at once.

    Raises:
        UserError: ``batch_size`` is below 1.
    """

    def __init__(
        self, model: str | os.PathLike[str], *, device: str | None = None, batch_size: int = 32
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        self.model_name = os.fspath(model)
        self.device = device
        self.batch_size = batch_size
        self._model: Any = None
        self._lock = threading.Lock()  # As for embedders: tokenizers take one thread at a time.

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_name!r})"

    def rerank(
        self, query: str, hits: Sequence[ScoredDocument], *, top_k: int
    ) -> list[ScoredDocument]:
        """Order hits by the model's score. See :class:`Reranker`.

        Raises:
            ModelLoadError: The model cannot be loaded.
        """
        if not hits:
            return []
        pairs = [(replace_surrogates(query), replace_surrogates(_shown(hit))) for hit in hits]
        with self._lock:
            scores = self._loaded().predict(
                pairs, batch_size=self.batch_size, show_progress_bar=False
            )
        scored = [replace(hit, score=float(s)) for hit, s in zip(hits, scores, strict=True)]
        return sorted(scored, key=lambda hit: -hit.score)[:top_k]

    def _loaded(self) -> Any:
        if self._model is None:
            from sentence_transformers import CrossEncoder

            folder = Path(self.model_name).expanduser()
            local = folder.is_dir()
            try:
                self._model = CrossEncoder(
                    str(folder) if local else self.model_name,
                    device=self.device,
                    local_files_only=local,
                )
            # Whatever the hub client, the file readers or torch raise.
            except Exception as error:
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ModelLoadError(
                    f"cross-encoder {self.model_name!r} cannot be loaded: {first}; download it "
                    "first and pass its folder"
                ) from error
        return self._model


class MMRReranker:
    """Maximal marginal relevance: keeps hits from saying the same thing.

    Args:
        vectors: Gives the L2-normalised vectors of documents by ``doc_id``, as
            :meth:`FaissRetriever.vectors` does.
        diversity: 0 keeps the order; 1 looks only at how different hits are.

    Raises:
        UserError: ``diversity`` is not from 0 to 1.
    """

    def __init__(
        self, vectors: Callable[[list[str | int]], Vectors], *, diversity: float = 0.3
    ) -> None:
        if not 0 <= diversity <= 1:
            raise UserError(f"diversity must be from 0 to 1, not {diversity}")
        self.vectors = vectors
        self.diversity = diversity

    def rerank(
        self, query: str, hits: Sequence[ScoredDocument], *, top_k: int
    ) -> list[ScoredDocument]:
        """Pick one hit after another: fitting, and unlike those picked. See :class:`Reranker`.

        Scores are kept as they are, so they need not fall from hit to hit.
        """
        if not hits:
            return []
        vectors = self.vectors([hit.document.doc_id for hit in hits])
        relevance = np.array([hit.score for hit in hits])
        span = float(np.ptp(relevance))
        relevance = (relevance - relevance.min()) / span if span else np.ones(len(hits))
        alike = vectors @ vectors.T
        left, picked = list(range(len(hits))), list[int]()
        while left and len(picked) < top_k:
            repeats = alike[np.ix_(left, picked)].max(axis=1) if picked else np.zeros(len(left))
            gains = (1 - self.diversity) * relevance[left] - self.diversity * repeats
            picked.append(left.pop(int(np.argmax(gains))))
        return [hits[i] for i in picked]


def _shown(hit: ScoredDocument) -> str:
    document = hit.document
    return f"{document.title}\n{document.text}" if document.title else document.text
