"""Embeddings from a server that speaks OpenAI's ``/embeddings``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import stamina

from agentkit.errors import RetrievalError, UserError
from agentkit_retrievers.embedding import replace_surrogates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentkit_retrievers.embedding import Vectors

__all__ = ["ServerEmbedder"]

_KEY_VARIABLE = "AGENTKIT_EMBEDDING_API_KEY"
_MAX_ERROR_CHARS = 300


class ServerEmbedder:
    """An embedding model behind an OpenAI-compatible server. An :class:`Embedder`.

    Works with vLLM, llama.cpp, Ollama, text-embeddings-inference, and hosted services. Lost
    connections, time-outs and the status codes 408, 429 and 5xx are tried again.

    Args:
        base_url: Up to and without ``/embeddings``, such as ``"http://localhost:8000/v1"``.
        model: The model's name, as the server knows it.
        api_key: Sent as a bearer token; ``None`` for what ``AGENTKIT_EMBEDDING_API_KEY`` holds,
            if anything.
        dimensions: Ask for shorter vectors; only for models that can (Matryoshka).
        batch_size: Texts of one request.
        query_prompt: Put before queries.
        document_prompt: Put before passages.
        headers: Sent with each request.
        timeout: Seconds for one try.
        attempts: How often a request is tried.

    Raises:
        UserError: ``base_url`` is no web address, or a number is below 1.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        dimensions: int | None = None,
        batch_size: int = 64,
        query_prompt: str = "",
        document_prompt: str = "",
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        attempts: int = 4,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise UserError(f"base_url must begin with http:// or https://, not {base_url!r}")
        if batch_size < 1 or attempts < 1:
            raise UserError(
                f"batch_size and attempts must be at least 1, not {batch_size} and {attempts}"
            )
        self.url = base_url.rstrip("/") + "/embeddings"
        self.model = model
        self.dimensions = dimensions
        self.batch_size = batch_size
        self.query_prompt, self.document_prompt = query_prompt, document_prompt
        self.attempts = attempts
        key = api_key if api_key is not None else os.environ.get(_KEY_VARIABLE)
        authorization = {"Authorization": f"Bearer {key}"} if key else {}
        # A client may be used from several threads.
        self._client = httpx.Client(headers={**authorization, **(headers or {})}, timeout=timeout)
        self._dimension = dimensions

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, {self.model!r})"

    @property
    def model_name(self) -> str:
        """The model's name, with the number of dimensions if that was asked for."""
        return self.model if self.dimensions is None else f"{self.model}[:{self.dimensions}]"

    @property
    def dimension(self) -> int:
        """Numbers in one vector; asks the server once."""
        if self._dimension is None:
            self._dimension = self._ask(["dimension"]).shape[1]
        return self._dimension

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed passages. See :class:`Embedder`.

        Raises:
            RetrievalError: The server cannot be reached, refuses, or answers in another form.
        """
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        prompted = [self.document_prompt + text for text in texts]
        return np.concatenate(
            [
                self._ask(prompted[begin : begin + self.batch_size])
                for begin in range(0, len(prompted), self.batch_size)
            ]
        )

    def embed_query(self, text: str) -> Vectors:
        """Embed a query. Raises as :meth:`embed_documents` does."""
        vector: Vectors = self._ask([self.query_prompt + text])[0]
        return vector

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def _ask(self, texts: list[str]) -> Vectors:
        body: dict[str, Any] = {
            "model": self.model,
            "input": [replace_surrogates(text) for text in texts],
            "encoding_format": "float",
        }
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        try:
            for attempt in stamina.retry_context(
                on=_is_passing, attempts=self.attempts, timeout=None, wait_initial=0.2, wait_max=10
            ):
                with attempt:
                    response = self._client.post(self.url, json=body)
                    response.raise_for_status()
        except httpx.HTTPStatusError as error:
            text = error.response.text[:_MAX_ERROR_CHARS]
            raise RetrievalError(
                f"the embedding server {self.url} answers {error.response.status_code}: {text}"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RetrievalError(
                f"the embedding server {self.url} cannot be reached: "
                f"{error or type(error).__name__}; is it running?"
            ) from error
        return self._vectors(response, len(texts))

    def _vectors(self, response: httpx.Response, count: int) -> Vectors:
        try:
            # Servers may answer out of order; "index" says what belongs where.
            items = sorted(response.json()["data"], key=lambda item: item["index"])
            vectors: Vectors = np.array([item["embedding"] for item in items], dtype=np.float32)
        except (ValueError, KeyError, TypeError) as error:
            raise RetrievalError(
                f"the embedding server {self.url} answers in an unknown form: "
                f"{response.text[:_MAX_ERROR_CHARS]}"
            ) from error
        wanted = (count, self._dimension or (vectors.shape[1] if vectors.ndim == 2 else 0))
        if vectors.shape != wanted:
            raise RetrievalError(
                f"the embedding server {self.url} gave an array of shape {vectors.shape} for "
                f"{count} texts, not {wanted}"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        normalized: Vectors = vectors / np.maximum(lengths, 1e-12)
        return normalized


def _is_passing(error: Exception) -> bool:
    """Whether an error may be gone at the next try."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status in (408, 429) or status >= 500
    return isinstance(error, httpx.TransportError)
