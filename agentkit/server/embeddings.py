"""``/v1/embeddings``: any embedder of ``agentkit_retrievers``."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from agentkit.server.context import Exchange, exchange
from agentkit.server.errors import ApiError
from agentkit.server.sending import JSONReply

if TYPE_CHECKING:
    from agentkit_retrievers.embedding import Embedder, Vectors

__all__ = ["EmbeddingService", "router"]

_MAX_INPUTS = 2048
_MAX_BATCH = 256
"""Texts of several requests that go to the embedder at once."""


class EmbeddingService:
    """Embeds for many requests at once: what waits together is embedded together.

    Args:
        embedder: An embedder, or what :class:`agentkit_retrievers.SentenceTransformerEmbedder`
            takes. A name's model is loaded at the first request.
    """

    def __init__(self, embedder: Embedder | str) -> None:
        if isinstance(embedder, str):
            from agentkit_retrievers import SentenceTransformerEmbedder

            embedder = SentenceTransformerEmbedder(embedder)
        self._embedder: Embedder = embedder
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[tuple[list[str], bool, asyncio.Future[Vectors]]] = deque()
        self._working = False

    @property
    def _executor(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="agentkit-embedder")
        return self._thread

    @property
    def name(self) -> str:
        """What the embedder's model is called."""
        return self._embedder.model_name

    async def embed(self, texts: list[str], *, queries: bool) -> Vectors:
        """Vectors of texts, shape ``(len(texts), dimension)``.

        Args:
            texts: To embed.
            queries: They are queries rather than passages.
        """
        done: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        self._waiting.append((texts, queries, done))
        if not self._working:
            self._working = True
            self._worker = asyncio.create_task(self._work())
        return await done

    async def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of texts, as the model counts them; 0 where it does not tell."""
        count: Any = getattr(self._embedder, "count_tokens", None)
        if count is None:
            return 0
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: sum(map(count, texts)))

    def close(self) -> None:
        """Free the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, queries = self._next_batch()
                texts = [text for texts, _ in batch for text in texts]
                try:
                    vectors = await loop.run_in_executor(
                        self._executor, self._embed, texts, queries
                    )
                except Exception as error:
                    for _, done in batch:
                        if not done.done():
                            done.set_exception(error)
                    continue
                start = 0
                for part, done in batch:
                    if not done.done():
                        done.set_result(vectors[start : start + len(part)])
                    start += len(part)
        finally:
            self._working = False

    def _next_batch(self) -> tuple[list[tuple[list[str], asyncio.Future[Vectors]]], bool]:
        """The next requests of one kind, as many as fit; those nobody waits for are dropped."""
        batch: list[tuple[list[str], asyncio.Future[Vectors]]] = []
        queries, size = False, 0
        while self._waiting:
            texts, kind, done = self._waiting[0]
            if not done.done():
                if batch and (kind != queries or size + len(texts) > _MAX_BATCH):
                    break
                batch.append((texts, done))
                queries, size = kind, size + len(texts)
            self._waiting.popleft()
        return batch, queries

    def _embed(self, texts: list[str], queries: bool) -> Vectors:
        import numpy as np

        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        if queries:
            return np.stack([self._embedder.embed_query(text) for text in texts])
        return self._embedder.embed_documents(texts)


class EmbeddingRequest(BaseModel):
    """Texts to embed, in OpenAI's form. ``input_type`` is ours."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str
    input: str | Annotated[list[str] | list[int] | list[list[int]], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    input_type: Literal["document", "query"] = "document"
    user: str | None = None


router = APIRouter(tags=["models"])


@router.post("/v1/embeddings", summary="Embed texts")
async def embeddings(
    body: EmbeddingRequest, asked: Annotated[Exchange, Depends(exchange)]
) -> Response:
    """A vector of length 1 for each text."""
    server, service = asked.server, asked.server.embeddings
    if service is None or body.model != service.name:
        there = "there is none" if service is None else f"there is {service.name}"
        raise ApiError(
            404,
            f"no embedding model {body.model!r:.200} is served; {there}",
            code="model_not_found",
            param="model",
        )
    texts = _texts(body.input)

    async def work() -> tuple[Vectors, int]:
        async with server.gate.place():
            vectors = await service.embed(texts, queries=body.input_type == "query")
            return vectors, await service.count_tokens(texts)

    try:
        vectors, tokens = await asked.watch.do(work())
    finally:
        asked.watch.end()
    if body.dimensions not in (None, vectors.shape[1]):
        raise ApiError(
            400,
            f"the vectors of this model have {vectors.shape[1]} dimensions, not {body.dimensions}",
            code="invalid_value",
            param="dimensions",
        )
    server.rates.spend(asked.caller, tokens)
    data = [
        {"object": "embedding", "index": i, "embedding": _encoded(vector, body.encoding_format)}
        for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONReply({"object": "list", "data": data, "model": body.model, "usage": usage})


def _texts(given: str | list[str] | list[int] | list[list[int]]) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if len(texts) > _MAX_INPUTS:
        raise ApiError(
            400,
            f"input has {len(texts)} texts; there may be {_MAX_INPUTS} at once",
            code="invalid_value",
            param="input",
        )
    found: list[str] = []
    for text in texts:
        if not isinstance(text, str):
            raise ApiError(
                400,
                "input must be text; token ids of another model's tokenizer mean nothing here "
                "(with langchain-openai: check_embedding_ctx_length=False)",
                code="unsupported_value",
                param="input",
            )
        if not text:
            raise ApiError(400, "input holds an empty text", code="invalid_value", param="input")
        found.append(text)
    return found


def _encoded(vector: Any, form: str) -> str | list[float]:
    if form == "float":
        numbers: list[float] = vector.tolist()
        return numbers
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
