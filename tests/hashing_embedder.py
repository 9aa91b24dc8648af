"""A deterministic embedder for tests of what surrounds one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentkit_retrievers.embedding import Vectors


class HashingEmbedder:
    """Bags of words, hashed: texts are as close as the words that they share."""

    def __init__(self, *, model_name: str = "hashing", dimension: int = 512) -> None:
        self.model_name = model_name
        self.dimension = dimension
        self.embedded: list[str] = []
        """Every passage that was embedded."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.embedded += texts
        rows = [self.embed_query(text) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self.dimension)

    def embed_query(self, text: str) -> Vectors:
        vector = np.zeros(self.dimension, dtype=np.float32)
        for word in text.lower().split():
            # Strict encoding: like a tokenizer, this fails on lone surrogates.
            digest = hashlib.sha256(word.encode("utf-8")).digest()
            vector[int.from_bytes(digest[:4], "big") % self.dimension] += 1
        return vector / max(float(np.linalg.norm(vector)), 1e-9)
