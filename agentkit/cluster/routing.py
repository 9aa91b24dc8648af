"""Which replica gets a request: one that has read the prompt's beginning, unless it is busy."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from agentkit.chat_format import GRANITE
from agentkit.errors import UserError
from agentkit.messages import Message, SystemMessage, UserMessage
from agentkit.models.base import ModelRequest

__all__ = ["PrefixRouting", "RouteKey", "route_key"]


@dataclass(frozen=True, slots=True)
class RouteKey:
    """What two requests must share so that one can use the other's cache."""

    prefix: str
    """Digest of system text and tools: conversations with the same agent share it."""
    conversation: str
    """Digest of that and the first user message: steps and turns of a conversation share it."""


def route_key(request: ModelRequest) -> RouteKey:
    """The key of a request.

    The digests are of the rendered text, not of its tokens: the tokens of a text are a function
    of it, so the same texts are equal in both, and the router needs no tokenizer.

    Args:
        request: To be routed.
    """
    head: list[Message] = [m for m in request.messages[:1] if isinstance(m, SystemMessage)]
    text = GRANITE.render(head, tools=request.tools, add_generation_prompt=False).text
    prefix = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    first = next((m for m in request.messages if isinstance(m, UserMessage)), None)
    conversation = prefix.copy()
    conversation.update(b"\0" + (first.content if first else "").encode("utf-8", "surrogatepass"))
    return RouteKey(prefix.hexdigest(), conversation.hexdigest())


class PrefixRouting:
    """Ranks replicas for a request.

    A conversation stays where it was, as only there its own past is cached. A new one goes where
    rendezvous hashing puts its prefix: each router comes to the same ranking without asking
    anybody, and a replica that comes or goes moves only the prefixes that were its own. A replica
    at work on more than its share of requests is passed over (Mirrokni et al. 2018, Consistent
    Hashing with Bounded Loads), so that one popular agent cannot drown one replica.

    Args:
        slack: How far a replica's load may exceed the mean, as a factor; 1 spreads evenly and
            keeps few caches warm, larger values the reverse.
        least: Requests that a replica may have at work in any case.
        remembered: Conversations whose place is known, those used last.

    Raises:
        UserError: A number is too small.
    """

    def __init__(self, *, slack: float = 1.25, least: int = 1, remembered: int = 65_536) -> None:
        if slack < 1 or least < 1 or remembered < 0:
            raise UserError(
                f"slack={slack}, least={least}, remembered={remembered}: slack and least must be "
                "at least 1, remembered at least 0"
            )
        self._slack = slack
        self._least = least
        self._remembered = remembered
        self._places: OrderedDict[str, str] = OrderedDict()

    def rank(self, key: RouteKey, loads: Mapping[str, int]) -> list[str]:
        """All replicas, the one to be asked first at the beginning.

        Args:
            key: Of the request.
            loads: Requests at work, by replica.
        """
        order = sorted(loads, key=lambda replica: _weight(key.prefix, replica), reverse=True)
        place = self._places.get(key.conversation)
        if place is not None and place in loads:
            order.remove(place)
            order.insert(0, place)
        bound = self.bound(loads)
        # Stable: within both groups the order stays. Those over the bound by how far they are.
        free = [replica for replica in order if loads[replica] < bound]
        busy = sorted((r for r in order if loads[r] >= bound), key=lambda r: loads[r])
        return free + busy

    def bound(self, loads: Mapping[str, int]) -> int:
        """Requests from which on a replica counts as busy, once this one is counted in."""
        if not loads:
            return self._least
        return max(self._least, math.ceil(self._slack * (sum(loads.values()) + 1) / len(loads)))

    def remember(self, key: RouteKey, replica: str) -> None:
        """The request went to that replica."""
        self._places[key.conversation] = replica
        self._places.move_to_end(key.conversation)
        while len(self._places) > self._remembered:
            self._places.popitem(last=False)

    def forget(self, replica: str) -> None:
        """The replica is gone."""
        for conversation in [c for c, r in self._places.items() if r == replica]:
            del self._places[conversation]


def _weight(prefix: str, replica: str) -> bytes:
    return hashlib.blake2b(f"{prefix}\0{replica}".encode(), digest_size=8).digest()
