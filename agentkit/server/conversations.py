"""Conversations that a server keeps for its page: what the store must do, and one in memory."""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from agentkit.errors import UserError
from agentkit.events import Event, RunFinished
from agentkit.result import RunResult

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.resuming import Answers

__all__ = [
    "Conversation",
    "ConversationBusyError",
    "Conversations",
    "ConversationsInMemory",
    "title_of",
]

_TITLE = 60


class ConversationBusyError(UserError):
    """Another run of the conversation is at work, or one waits for approval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation with an agent, as it is kept."""

    id: str
    """Identifies it."""
    agent: str
    """Name of the agent."""
    title: str
    """What it is called."""
    created: float
    """Unix time."""
    updated: float
    """Unix time of its last change."""
    runs: tuple[RunResult, ...] = ()
    """Its runs, oldest first; left out where conversations are listed."""
    waiting: bool = False
    """Whether its last run waits for approval."""


class Conversations(Protocol):
    """Where conversations are kept. ``create_app(conversations=...)`` takes any.

    Nobody sees the conversations of another owner; to them they are not there.
    """

    async def list(self, owner: str, *, search: str = "", limit: int = 200) -> list[Conversation]:
        """The owner's conversations without their runs, the one changed last first."""
        ...

    async def create(self, owner: str, *, agent: str, title: str = "") -> Conversation:
        """Begin a conversation."""
        ...

    async def get(self, owner: str, conversation_id: str) -> Conversation | None:
        """A conversation with its runs; None if there is none."""
        ...

    async def rename(self, owner: str, conversation_id: str, title: str) -> Conversation | None:
        """Call it something else; None if there is none."""
        ...

    async def delete(self, owner: str, conversation_id: str) -> bool:
        """Forget it; False if there is none."""
        ...

    def stream(
        self, owner: str, conversation_id: str, agent: Agent, prompt: str, **options: Any
    ) -> AsyncIterator[Event]:
        """A run that goes on from the conversation, kept before its last event is given.

        Args:
            owner: Whose it is.
            conversation_id: Of the conversation.
            agent: Runs.
            prompt: What the user says.
            options: Further ones of :meth:`agentkit.Agent.stream`.

        Raises:
            ConversationBusyError: Another run is at work, or waits for approval.
        """
        ...

    def resume_stream(
        self, owner: str, conversation_id: str, agent: Agent, answers: Answers, **options: Any
    ) -> AsyncIterator[Event]:
        """Go on with the conversation's last run, which waits for approval.

        Raises:
            ConversationBusyError: It goes on already.
            UserError: It waits for nothing.
        """
        ...


def title_of(prompt: str) -> str:
    """A title for a conversation that begins with these words."""
    line = " ".join(prompt.split())
    if len(line) <= _TITLE:
        return line or "Empty"
    return line[: _TITLE - 1].rsplit(" ", 1)[0].rstrip(" ,.;:") + "…"


class ConversationsInMemory:
    """Keeps conversations as long as the process lives.

    Args:
        most: Conversations; those that have not changed for longest go first.
        clock: Unix time.
    """

    def __init__(self, most: int = 1000, *, clock: Callable[[], float] = time.time) -> None:
        self._most = most
        self._clock = clock
        self._kept: OrderedDict[str, tuple[str, Conversation]] = OrderedDict()
        self._busy: set[str] = set()

    async def list(self, owner: str, *, search: str = "", limit: int = 200) -> list[Conversation]:
        """See :class:`Conversations`."""
        found = [
            replace(conversation, runs=())
            for whose, conversation in reversed(self._kept.values())
            if whose == owner and search.casefold() in conversation.title.casefold()
        ]
        return found[:limit]

    async def create(self, owner: str, *, agent: str, title: str = "") -> Conversation:
        """See :class:`Conversations`."""
        now = self._clock()
        conversation = Conversation(
            id=f"session_{uuid.uuid4().hex}", agent=agent, title=title, created=now, updated=now
        )
        self._kept[conversation.id] = (owner, conversation)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return conversation

    async def get(self, owner: str, conversation_id: str) -> Conversation | None:
        """See :class:`Conversations`."""
        whose, conversation = self._kept.get(conversation_id, ("", None))
        return conversation if whose == owner else None

    async def rename(self, owner: str, conversation_id: str, title: str) -> Conversation | None:
        """See :class:`Conversations`."""
        conversation = await self.get(owner, conversation_id)
        return conversation and self._keep(owner, replace(conversation, title=title))

    async def delete(self, owner: str, conversation_id: str) -> bool:
        """See :class:`Conversations`."""
        if await self.get(owner, conversation_id) is None:
            return False
        del self._kept[conversation_id]
        return True

    async def stream(
        self, owner: str, conversation_id: str, agent: Agent, prompt: str, **options: Any
    ) -> AsyncIterator[Event]:
        """See :class:`Conversations`."""
        conversation = await self._free(owner, conversation_id)
        if conversation.waiting:
            raise ConversationBusyError("a call waits for approval; answer it first")
        runs = conversation.runs
        if not conversation.title:
            self._keep(owner, replace(conversation, title=title_of(prompt)))
        events = agent.stream(prompt, history=runs[-1] if runs else None, **options)
        async for event in self._kept_when_over(owner, conversation_id, runs, events):
            yield event

    async def resume_stream(
        self, owner: str, conversation_id: str, agent: Agent, answers: Answers, **options: Any
    ) -> AsyncIterator[Event]:
        """See :class:`Conversations`."""
        conversation = await self._free(owner, conversation_id)
        if not conversation.waiting:
            raise UserError("no call of this conversation waits for approval")
        *earlier, paused = conversation.runs
        events = agent.resume_stream(paused, answers, **options)
        async for event in self._kept_when_over(owner, conversation_id, earlier, events):
            yield event

    async def _free(self, owner: str, conversation_id: str) -> Conversation:
        conversation = await self.get(owner, conversation_id)
        if conversation is None:
            raise UserError(f"there is no conversation {conversation_id!r:.100}")
        if conversation_id in self._busy:
            raise ConversationBusyError("a run of this conversation is at work")
        return conversation

    async def _kept_when_over(
        self,
        owner: str,
        conversation_id: str,
        earlier: Sequence[RunResult],
        events: AsyncIterator[Event],
    ) -> AsyncIterator[Event]:
        self._busy.add(conversation_id)
        try:
            async with aclosing(events) as run:  # type: ignore[type-var]
                async for event in run:
                    if isinstance(event, RunFinished):
                        now = await self.get(owner, conversation_id)
                        if now is not None:  # else it was deleted meanwhile
                            runs = (*earlier, event.result)
                            waiting = bool(event.result.pending)
                            self._keep(owner, replace(now, runs=runs, waiting=waiting))
                    yield event
        finally:
            self._busy.discard(conversation_id)

    def _keep(self, owner: str, conversation: Conversation) -> Conversation:
        conversation = replace(conversation, updated=self._clock())
        self._kept[conversation.id] = (owner, conversation)
        self._kept.move_to_end(conversation.id)
        return conversation
