"""Turns that a model wrote of late, so that clients' text gets its exact tokens back."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from agentkit.messages import AssistantMessage, Generation, Message, ToolCall

__all__ = ["Generations"]


class Generations:
    """Finds the tokens of an assistant turn by what it says.

    OpenAI's messages have no place for tokens. Text that is encoded anew may come out as other
    tokens than the model sampled, and then nothing after it in the KV cache would fit.

    Args:
        most: Turns that are kept, those used last.
    """

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._known: OrderedDict[int, tuple[str, Generation]] = OrderedDict()

    def remember(self, message: AssistantMessage) -> None:
        """Keep a turn as the model wrote it."""
        if message.generation is None or not message.generation.token_ids:
            return
        said = _said(message)
        self._known[hash(said)] = (said, message.generation)
        self._known.move_to_end(hash(said))
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def restore(self, messages: Iterable[Message]) -> list[Message]:
        """The messages, those of known turns with their tokens."""
        return [
            self._restored(message)
            if isinstance(message, AssistantMessage) and message.generation is None
            else message
            for message in messages
        ]

    def _restored(self, message: AssistantMessage) -> AssistantMessage:
        said = _said(message)
        found = self._known.get(hash(said))
        if found is None or found[0] != said:
            return message
        self._known.move_to_end(hash(said))
        return replace(message, generation=found[1])


def _said(message: AssistantMessage) -> str:
    """All that a turn says, in one text."""
    calls = [(call.name, _arguments(call)) for call in message.tool_calls]
    return json.dumps([message.content, calls], sort_keys=True)


def _arguments(call: ToolCall) -> object:
    if isinstance(call.arguments, str):
        try:
            return json.loads(call.arguments)
        except (ValueError, RecursionError):
            return call.arguments
    return dict(call.arguments)
