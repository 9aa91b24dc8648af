"""The page's conversations in a database, so that they outlive the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentkit.errors import SessionBusyError, UserError
from agentkit.events import Event
from agentkit.messages import Message, UserMessage
from agentkit.server.conversations import (
    Conversation,
    ConversationBusyError,
    ConversationRun,
)

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.result import RunResult
    from agentkit.resuming import Answers
    from agentkit.sessions import RunInfo, SessionInfo, SessionStore

__all__ = ["StoredConversations"]

_OWNER = "agentkit.server.owner"
_PAGE = 500
_SHOWN = ("running", "waiting", "interrupted", "done", "failed")


class StoredConversations:
    """Keeps conversations in a database, for ``create_app(conversations=...)``.

    Each step is on the disk before the run goes on. A run that was stopped, with the server or by
    its client, goes on where it was. Sessions that a program made are not shown: they have no
    owner.

    Args:
        store: The database. Closing it is up to you.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def list(self, owner: str, *, search: str = "", limit: int = 200) -> list[Conversation]:
        """See :class:`Conversations`."""

        def found() -> list[SessionInfo]:
            own: list[SessionInfo] = []
            offset = 0
            while len(own) < limit:
                page = self._store.list(search=search, limit=_PAGE, offset=offset)
                own += [info for info in page if info.metadata.get(_OWNER) == owner]
                offset += _PAGE
                if len(page) < _PAGE:
                    break
            return own[:limit]

        return [_conversation(info) for info in await self._store.in_thread(found)]

    async def create(self, owner: str, *, agent: str, title: str = "") -> Conversation:
        """See :class:`Conversations`."""

        def made() -> SessionInfo:
            return self._store.create(agent=agent, title=title, metadata={_OWNER: owner}).info

        return _conversation(await self._store.in_thread(made))

    async def get(self, owner: str, conversation_id: str) -> Conversation | None:
        """See :class:`Conversations`."""
        info = await self._info(owner, conversation_id)
        if info is None:
            return None
        runs = await self._store.in_thread(self._store.runs, conversation_id)
        return _conversation(info, [run for run in runs if run.status in _SHOWN])

    async def run(self, owner: str, conversation_id: str, run_id: str) -> RunResult | None:
        """See :class:`Conversations`."""
        if await self._info(owner, conversation_id) is None:
            return None
        earlier: list[Message] = []
        for run in await self._store.in_thread(self._store.runs, conversation_id):
            if run.id == run_id:
                return run.result and replace(
                    run.result,
                    messages=(*earlier, *run.result.messages),
                    new_from=len(earlier),
                )
            earlier += run.result.messages if run.result is not None else ()
        return None

    async def rename(self, owner: str, conversation_id: str, title: str) -> Conversation | None:
        """See :class:`Conversations`."""
        if await self._info(owner, conversation_id) is None:
            return None
        await self._store.in_thread(self._store.rename, conversation_id, title)
        info = await self._info(owner, conversation_id)
        return None if info is None else _conversation(info)

    async def delete(self, owner: str, conversation_id: str) -> bool:
        """See :class:`Conversations`."""
        if await self._info(owner, conversation_id) is None:
            return False
        await self._store.in_thread(self._store.delete, conversation_id)
        return True

    async def stream(
        self, owner: str, conversation_id: str, agent: Agent, prompt: str, **options: Any
    ) -> AsyncIterator[Event]:
        """See :class:`Conversations`."""
        info = await self._own(owner, conversation_id)
        if info.status in ("waiting", "interrupted"):
            raise ConversationBusyError("the last run is to go on first, or to be given up")
        session = await self._store.in_thread(self._store.get, conversation_id)
        async for event in _told_busy(session.stream(agent, prompt, **options)):
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
        await self._own(owner, conversation_id)
        session = await self._store.in_thread(self._store.get, conversation_id)
        async for event in _told_busy(session.resume_stream(agent, answers, **options)):
            yield event

    async def abandon(self, owner: str, conversation_id: str) -> None:
        """See :class:`Conversations`."""
        await self._own(owner, conversation_id)
        session = await self._store.in_thread(self._store.get, conversation_id)
        try:
            await session.abandon()
        except SessionBusyError as error:
            raise ConversationBusyError(str(error)) from error

    async def _info(self, owner: str, conversation_id: str) -> SessionInfo | None:
        try:
            info = await self._store.in_thread(self._store.info, conversation_id)
        except UserError:
            return None
        return info if info.metadata.get(_OWNER) == owner else None

    async def _own(self, owner: str, conversation_id: str) -> SessionInfo:
        info = await self._info(owner, conversation_id)
        if info is None:
            raise UserError(f"there is no conversation {conversation_id!r:.100}")
        return info


async def _told_busy(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    try:
        async with aclosing(events) as run:  # type: ignore[type-var]
            async for event in run:
                yield event
    except SessionBusyError as error:
        raise ConversationBusyError(str(error)) from error


def _conversation(info: SessionInfo, runs: list[RunInfo] | None = None) -> Conversation:
    return Conversation(
        id=info.id,
        agent=info.agent,
        title=info.title,
        created=info.created,
        updated=info.updated,
        status=info.status,
        runs=tuple(map(_run, runs or ())),
    )


def _run(run: RunInfo) -> ConversationRun:
    prompt = "\n".join(m.content for m in run.prompt if isinstance(m, UserMessage))
    return ConversationRun(id=run.id, prompt=prompt, result=run.result, error=run.error)
