"""One loaded model with everything that writing a turn needs."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from agentkit.chat_format import TOOL_CALL_START, ChatFormat, PromptFormat
from agentkit.engine.backend import Backend, DraftCost
from agentkit.engine.choosing import pick_backend
from agentkit.engine.grammar import GrammarCompiler
from agentkit.engine.kv_cache import CacheStore, KVCache, kv_bytes_per_token
from agentkit.engine.prefixes import PrefixStore, model_identity
from agentkit.engine.sequence import Read
from agentkit.engine.stable_prefix import StablePrefix
from agentkit.engine.tokenization import TokenCodec

if TYPE_CHECKING:
    from agentkit.engine.loading import LoadedModel

__all__ = ["Cancelled", "InferenceEngine", "free_memory"]


class Cancelled(Exception):
    """The turn was given up while the model was at work."""


class InferenceEngine:
    """One model, with what its turns share. Not thread-safe: it belongs to the model's thread.

    Args:
        loaded: The model.
        chat_format: How conversations become prompts.
        cache_bytes: What the caches of past sequences may occupy.
        batch_bytes: What the caches of turns at work may occupy together; no bound if not given.
        prefill_chunk: Tokens read in one forward pass; between passes a turn can be cancelled.
        lookup: Whether turns guess what comes next from what they have read (see
            :mod:`agentkit.engine.lookup`).
        call_bias: Added to the logit of the token that begins a call, where a turn begins and
            the model may choose; what the model's folder says if not given.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        chat_format: PromptFormat,
        *,
        cache_bytes: int,
        batch_bytes: int | None = None,
        prefill_chunk: int | None = None,
        lookup: bool = True,
        call_bias: float | None = None,
    ) -> None:
        self.model: Any = loaded.model
        self.tokenizer: Any = loaded.tokenizer
        self.device = loaded.device
        self._dtype = loaded.dtype
        self.chat_format = chat_format
        self.codec = TokenCodec(loaded.tokenizer)
        self.caches = CacheStore(self.model.config, max_bytes=cache_bytes)
        self.prefill_chunk = prefill_chunk or (512 if self.device.type == "cpu" else 4096)
        self.batch_bytes = sys.maxsize if batch_bytes is None else batch_bytes
        self.lookup = lookup
        self.call_bias = loaded.settings.call_bias if call_bias is None else call_bias
        self.prefixes: PrefixStore | None = None
        """Prompt beginnings on the disk, if they are kept."""
        self.stable_prefix = StablePrefix(self)
        self.rows = 1
        """Turns being written at present."""
        self.context_length: int = getattr(self.model.config, "max_position_embeddings", 4096)
        self.backend: Backend = pick_backend(self.model)
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
    def call_token(self) -> int:
        """The token that a call begins with."""
        return self.codec.encode_text(TOOL_CALL_START)[0]

    @cached_property
    def grammar(self) -> GrammarCompiler:
        """Compiler of call grammars for this model's tokenizer."""
        width = self.model.get_output_embeddings().weight.shape[0]
        return GrammarCompiler(self.tokenizer, vocab_size=width, eos_ids=self.eos_ids)

    @cached_property
    def croppable(self) -> bool:
        """Whether the model's caches can be cut back; false with recurrent layers."""
        return KVCache(self.model.config).croppable

    @cached_property
    def kv_bytes_per_token(self) -> int:
        """Bytes that a token's keys and values take, in all layers together."""
        return kv_bytes_per_token(self.model.config, self._dtype)

    @property
    def most_cached_tokens(self) -> int:
        """Tokens of the longest sequence for which there is memory."""
        return self.batch_bytes // max(1, self.kv_bytes_per_token)

    def draft_cost(self) -> DraftCost:
        """What reading a draft along would cost now."""
        cost: DraftCost = getattr(self.backend, "draft_cost", DraftCost())
        if self.rows == 1 or not getattr(self.backend, "batched", True):
            return cost
        # The pass reads several tokens in any case. Rows share what it costs at the least, so
        # that with many of them each token counts in full.
        shared = 1 + cost.start + cost.token * (self.rows - 1)
        return DraftCost(0.0, cost.token * self.rows / shared)

    def read(self, read: Read, *, cancelled: threading.Event | None = None) -> torch.Tensor:
        """Do what a turn asks for, in passes of at most :attr:`prefill_chunk` tokens.

        Args:
            read: What to read.
            cancelled: Looked at between passes.

        Returns:
            The logits, shape ``(keep, vocabulary)``.

        Raises:
            Cancelled: ``cancelled`` was set. The cache holds the chunks read until then.
        """
        logits: torch.Tensor | None = None
        for row in read.rows(self.prefill_chunk):
            if cancelled is not None and cancelled.is_set():
                raise Cancelled
            logits = self.backend.forward([row])[0]
        if logits is None:
            raise ValueError("there must be at least one token to read")
        return logits

    def forward(self, cache: KVCache, token_ids: Sequence[int]) -> torch.Tensor:
        """Read tokens after those in the cache, which grows by them.

        Returns:
            Logits of the token after the last, shape ``(vocabulary,)``.
        """
        return self.read(Read(cache, token_ids))[-1]

    def prefill(self, token_ids: Sequence[int]) -> tuple[KVCache, torch.Tensor]:
        """Read a whole sequence from nothing, without looking at stored caches.

        Returns:
            The cache, and the logits of the next token, shape ``(vocabulary,)``.
        """
        cache = KVCache(self.model.config)
        return cache, self.forward(cache, token_ids)

    def keep_prefixes(self, folder: str | Path, *, max_bytes: int) -> None:
        """Keep prompt beginnings in a folder, and use those that are there."""
        identity = model_identity(
            self.model, dtype=self._dtype, backend=self.backend, tokenizer=self.codec.fingerprint
        )
        self.prefixes = PrefixStore(folder, identity=identity, max_bytes=max_bytes)

    def close(self) -> None:
        """Free the model and its caches."""
        if self.prefixes is not None:
            self.prefixes.close()
        self.caches.clear()
        self.model = None
        del self.backend
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)
