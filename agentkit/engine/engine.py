"""One loaded model with everything that writing a turn needs."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from agentkit.chat_format import ChatFormat, PromptFormat
from agentkit.engine.backend import Backend, Row, TransformersBackend
from agentkit.engine.grammar import GrammarCompiler
from agentkit.engine.kv_cache import CacheStore, KVCache
from agentkit.engine.tokenization import TokenCodec

if TYPE_CHECKING:
    from agentkit.engine.loading import LoadedModel

__all__ = ["Cancelled", "InferenceEngine"]


class Cancelled(Exception):
    """The turn was given up while the model was at work."""


class InferenceEngine:
    """Forward passes over cached sequences, for one model. Not thread-safe: one turn at a time.

    Args:
        loaded: The model.
        chat_format: How conversations become prompts.
        cache_bytes: What the caches of past sequences may occupy.
        prefill_chunk: Tokens read in one forward pass; between passes a turn can be cancelled.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        chat_format: PromptFormat,
        *,
        cache_bytes: int,
        prefill_chunk: int | None = None,
    ) -> None:
        self.model: Any = loaded.model
        self.tokenizer: Any = loaded.tokenizer
        self.device = loaded.device
        self.chat_format = chat_format
        self.codec = TokenCodec(loaded.tokenizer)
        self.caches = CacheStore(self.model.config, max_bytes=cache_bytes)
        self.prefill_chunk = prefill_chunk or (512 if self.device.type == "cpu" else 4096)
        self.context_length: int = getattr(self.model.config, "max_position_embeddings", 4096)
        self.backend: Backend = TransformersBackend(self.model)
        """What runs the model; may be replaced before the first turn."""

    @cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end a turn: the model's own, and the format's delimiters."""
        ids: set[int | None] = set()
        generation = getattr(self.model, "generation_config", None)
        for source in (generation, self.model.config, self.tokenizer):
            found = getattr(source, "eos_token_id", None)
            ids.update(found if isinstance(found, list | tuple) else [found])
        if isinstance(self.chat_format, ChatFormat):
            # A model that opens another role has ended its own turn, if not in good form.
            for text in (self.chat_format.turn_end, self.chat_format.role_start):
                ids.add(self.codec.token_id(text))
        return tuple(sorted(i for i in ids if i is not None))

    @cached_property
    def grammar(self) -> GrammarCompiler:
        """Compiler of call grammars for this model's tokenizer."""
        width = self.model.get_output_embeddings().weight.shape[0]
        return GrammarCompiler(self.tokenizer, vocab_size=width, eos_ids=self.eos_ids)

    def forward(
        self,
        cache: KVCache,
        token_ids: Sequence[int],
        *,
        cancelled: threading.Event | None = None,
    ) -> torch.Tensor:
        """Read tokens after those in the cache.

        Args:
            cache: Of the sequence so far; it grows by ``token_ids``.
            token_ids: At least one.
            cancelled: Looked at between chunks.

        Returns:
            Logits of the token after the last, shape ``(vocabulary,)``.

        Raises:
            Cancelled: ``cancelled`` was set. The cache holds the chunks read until then.
        """
        logits: torch.Tensor | None = None
        for chunk in _chunks(token_ids, self.prefill_chunk):
            if cancelled is not None and cancelled.is_set():
                raise Cancelled
            logits = self.backend.forward([Row(cache, chunk)])[0][-1]
        if logits is None:
            raise ValueError("forward needs at least one token")
        return logits

    def prefill(self, token_ids: Sequence[int]) -> tuple[KVCache, torch.Tensor]:
        """Read a whole sequence from nothing, without looking at stored caches.

        Returns:
            The cache, and the logits of the next token, shape ``(vocabulary,)``.
        """
        cache = KVCache(self.model.config)
        return cache, self.forward(cache, token_ids)

    def close(self) -> None:
        """Free the model and its caches."""
        self.caches.clear()
        self.model = None
        del self.backend
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _chunks(token_ids: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(token_ids), size):
        yield list(token_ids[start : start + size])
