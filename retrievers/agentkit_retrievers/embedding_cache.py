"""Embeddings kept on disk, so that no text is embedded twice with one model."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agentkit.cache_dir import cache_dir
from agentkit.errors import RetrievalError
from agentkit_retrievers.embedding import replace_surrogates

if TYPE_CHECKING:
    from agentkit_retrievers.embedding import Embedder, Vectors

__all__ = ["CachedEmbedder"]

# Texts embedded between two writes: what an interruption can cost.
_STEP = 256
# SQLite's oldest limit on parameters is 999.
_LOOKUP = 500


class CachedEmbedder:
    """An embedder that remembers passages in an SQLite file. An :class:`Embedder` itself.

    Vectors are found by the text's hash and the model's name, so that moved, renamed and
    unchanged passages cost nothing when an index is built again, and an interrupted build goes
    on where it was. Several processes may share a file. Queries are embedded anew.

    Args:
        embedder: Makes what is not known yet.
        path: The file; ``None`` for ``embeddings.sqlite`` in agentkit's cache folder.

    Raises:
        RetrievalError: The file cannot be opened, or is something else.

    Example:
        >>> embedder = CachedEmbedder(SentenceTransformerEmbedder())
        >>> FaissRetriever.from_folder("docs", embedder=embedder)
    """

    def __init__(self, embedder: Embedder, path: str | os.PathLike[str] | None = None) -> None:
        self.embedder = embedder
        self.path = cache_dir() / "embeddings.sqlite" if path is None else Path(path)
        self.hits = 0
        """Passages that were known."""
        self.misses = 0
        """Passages that had to be embedded."""
        self._lock = threading.Lock()
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
            with self._database as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, vector BLOB)"
                    " WITHOUT ROWID"
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.embedder!r}, {str(self.path)!r})"

    @property
    def model_name(self) -> str:
        """The embedder's: an index made without the cache can be used with it."""
        return self.embedder.model_name

    @property
    def dimension(self) -> int:
        """Numbers in one vector."""
        return self.embedder.dimension

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed passages that are not known yet, longest first. See :class:`Embedder`.

        Raises:
            RetrievalError: The file cannot be read or written.
        """
        texts = [replace_surrogates(text) for text in texts]
        keys = [self._key(text) for text in texts]
        known = self._read(list(dict.fromkeys(keys)))
        # Of similar lengths in one batch, which saves padding.
        missing = sorted(
            {key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items(),
            key=lambda item: -len(item[1]),
        )
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        for begin in range(0, len(missing), _STEP):
            part = missing[begin : begin + _STEP]
            vectors = self.embedder.embed_documents([text for _, text in part])
            made = {key: vector for (key, _), vector in zip(part, vectors, strict=True)}
            self._write(made)
            known.update(made)
        if not keys:
            return np.zeros((0, self.dimension), dtype=np.float32)
        return np.stack([known[key] for key in keys])

    def embed_query(self, text: str) -> Vectors:
        """Embed a query, without the cache."""
        return self.embedder.embed_query(text)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _key(self, text: str) -> bytes:
        # Prompts are no part of a model's name, but change its vectors.
        prompt = getattr(self.embedder, "document_prompt", None) or ""
        parts = (self.embedder.model_name, prompt, text)
        return hashlib.sha256("\0".join(parts).encode()).digest()

    def _read(self, keys: list[bytes]) -> dict[bytes, Vectors]:
        found: dict[bytes, Vectors] = {}
        with self._lock, self._errors():
            for begin in range(0, len(keys), _LOOKUP):
                part = keys[begin : begin + _LOOKUP]
                rows = self._database.execute(
                    "SELECT key, vector FROM embeddings WHERE key IN "
                    f"({','.join('?' * len(part))})",
                    part,
                )
                found.update((key, np.frombuffer(data, dtype="<f4")) for key, data in rows)
        return found

    def _write(self, vectors: dict[bytes, Vectors]) -> None:
        rows = [(key, vector.astype("<f4").tobytes()) for key, vector in vectors.items()]
        with self._lock, self._errors(), self._database as database:
            database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", rows)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise RetrievalError(
                f"the embedding cache {str(self.path)!r} cannot be used: {error}; delete the file "
                "if it is damaged, or pass another path"
            ) from error
