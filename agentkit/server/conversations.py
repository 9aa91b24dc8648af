"""Conversations that a server keeps for its page: what the store must do, and one in memory."""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from agentkit.errors import UserError
from agentkit.events import Event, RunFinished
from agentkit.result import RunResult

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.resuming import Answers

__all__ = [
    "Conversation",
    "ConversationRun",
    "ConversationStatus",
    "ConversationBusyError",
    "Conversations",
    "ConversationsInMemory",
    "title_of",
]

_TITLE = 60

ConversationStatus: TypeAlias = Literal["idle", "running", "waiting", "interrupted"]
"""Ready for the next prompt; a run is at work; it waits for approval; it was stopped in its midst
and can go on."""


class ConversationBusyError(UserError):
    """Another run of the conversation is at work, or one waits for approval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationRun:
    """One run of a conversation."""

    id: str
    """As :attr:`agentkit.RunResult.run_id`."""
    prompt: str
    """What the user said."""
    result: RunResult | None
    """What came of it, or the run so far; None where there is nothing to show."""
    error: str = ""
    """Why it failed; empty if it did not."""


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
    status: ConversationStatus = "idle"
    """What is going on in it."""
    runs: tuple[ConversationRun, ...] = ()
    """Its runs, oldest first; left out where conversations are listed."""


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

    async def run(self, owner: str, conversation_id: str, run_id: str) -> RunResult | None:
        """A run with the conversation before it, for its exact prompts; None if there is none."""
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
        self,
        owner: str,
        conversation_id: str,
        agent: Agent,
        answers: Answers | None,
        **options: Any,
    ) -> AsyncIterator[Event]:
        """Go on with the conversation's last run, which waits for approval or was interrupted.

        Raises:
            ConversationBusyError: It goes on already.
            UserError: It cannot go on, or answers are wrong.
        """
        ...

    async def abandon(self, owner: str, conversation_id: str) -> None:
        """Give the last run up, which waits or was interrupted, so that another may begin.

        Raises:
            ConversationBusyError: It is at work.
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
        found = self._kept.get(conversation_id)
        if found is None or found[0] != owner:
            return None
        busy = conversation_id in self._busy
        return replace(found[1], status="running") if busy else found[1]

    async def run(self, owner: str, conversation_id: str, run_id: str) -> RunResult | None:
        """See :class:`Conversations`."""
        conversation = await self.get(owner, conversation_id)
        runs = () if conversation is None else conversation.runs
        return next((run.result for run in runs if run.id == run_id), None)

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
        if conversation.status == "waiting":
            raise ConversationBusyError("a call waits for approval; answer it first")
        runs = conversation.runs
        if not conversation.title:
            self._keep(owner, replace(conversation, title=title_of(prompt)))
        events = agent.stream(prompt, history=runs[-1].result if runs else None, **options)
        async for event in self._kept_when_over(owner, conversation_id, prompt, runs, events):
            yield event

    async def resume_stream(
        self,
        owner: str,
        conversation_id: str,
        agent: Agent,
        answers: Answers | None,
        **options: Any,
    ) -> AsyncIterator[Event]:
        """See :class:`Conversations`."""
        conversation = await self._free(owner, conversation_id)
        *earlier, paused = conversation.runs or (None,)
        if paused is None or paused.result is None or conversation.status != "waiting":
            raise UserError("no call of this conversation waits for approval")
        if answers is None:
            raise UserError("calls wait for approval: say whether they may run")
        events = agent.resume_stream(paused.result, answers, **options)
        kept = self._kept_when_over(owner, conversation_id, paused.prompt, earlier, events)
        async for event in kept:
            yield event

    async def abandon(self, owner: str, conversation_id: str) -> None:
        """See :class:`Conversations`."""
        conversation = await self._free(owner, conversation_id)
        if conversation.status == "waiting":
            self._keep(owner, replace(conversation, runs=conversation.runs[:-1], status="idle"))

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
        prompt: str,
        earlier: Sequence[ConversationRun],
        events: AsyncIterator[Event],
    ) -> AsyncIterator[Event]:
        self._busy.add(conversation_id)
        try:
            async with aclosing(events) as run:  # type: ignore[type-var]
                async for event in run:
                    if isinstance(event, RunFinished):
                        now = await self.get(owner, conversation_id)
                        if now is not None:  # else it was deleted meanwhile
                            self._add(owner, now, prompt, earlier, event.result)
                    yield event
        finally:
            self._busy.discard(conversation_id)

    def _add(
        self,
        owner: str,
        conversation: Conversation,
        prompt: str,
        earlier: Sequence[ConversationRun],
        result: RunResult,
    ) -> None:
        run = ConversationRun(id=result.run_id, prompt=prompt, result=result)
        status: ConversationStatus = "waiting" if result.pending else "idle"
        self._keep(owner, replace(conversation, runs=(*earlier, run), status=status))

    def _keep(self, owner: str, conversation: Conversation) -> Conversation:
        conversation = replace(conversation, updated=self._clock())
        self._kept[conversation.id] = (owner, conversation)
        self._kept.move_to_end(conversation.id)
        return conversation
