"""The part of a prompt that other conversations with the same agent begin with as well."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentkit.engine.kv_cache import common_prefix
from agentkit.messages import Message, SystemMessage, UserMessage

if TYPE_CHECKING:
    from agentkit.engine.engine import InferenceEngine
    from agentkit.engine.sequence import TurnSequence
    from agentkit.models.base import ModelRequest

__all__ = ["StablePrefix"]

_REMEMBERED = 32


class StablePrefix:
    """Finds how far a prompt does not depend on the conversation: system text and tools.

    A conversation with other words is encoded beside it, and what both begin with is stable;
    so this works for every chat format.

    Args:
        engine: Whose format and tokenizer are used.
    """

    def __init__(self, engine: InferenceEngine) -> None:
        self._engine = engine
        self._encoded: OrderedDict[str, list[int]] = OrderedDict()

    def load(self, request: ModelRequest, prompt_ids: Sequence[int]) -> int:
        """Have the stable part read from the disk, if it is there and not in the store.

        Returns:
            Its length in tokens; 0 where nobody needs it.
        """
        engine = self._engine
        prefixes = engine.prefixes
        if prefixes is None and engine.croppable:
            return 0
        stable = self.length(request, prompt_ids)
        if prefixes is not None and stable >= prefixes.min_tokens:
            if engine.caches.known(prompt_ids) >= stable:
                return stable
            stored = prefixes.load(prompt_ids[:stable], engine.model.config, engine.device)
            if stored is not None:
                engine.caches.put(stored)
        return stable

    def save(self, sequence: TurnSequence, token_ids: Sequence[int]) -> None:
        """Have the stable part written to the disk, if it belongs there.

        Args:
            sequence: That has read it.
            token_ids: The stable part.
        """
        prefixes = self._engine.prefixes
        if prefixes is not None and prefixes.wants(token_ids):
            prefixes.save(sequence.fork(len(token_ids)))

    def length(self, request: ModelRequest, prompt_ids: Sequence[int]) -> int:
        """Tokens of the prompt that are stable; at least the last is left to be read.

        Args:
            request: What the prompt was made of.
            prompt_ids: The prompt.
        """
        system = [m for m in request.messages[:1] if isinstance(m, SystemMessage)]
        if not request.tools and not system:
            return 0
        messages: list[Message] = [*system, UserMessage("\u2042")]
        prompt = self._engine.chat_format.render(messages, tools=request.tools)
        other = self._encoded.pop(prompt.text, None) or self._engine.codec.encode(prompt)
        self._encoded[prompt.text] = other
        if len(self._encoded) > _REMEMBERED:
            self._encoded.popitem(last=False)
        return min(common_prefix(prompt_ids, other), len(prompt_ids) - 1)
