"""``/v1/sessions``: conversations that the server keeps, their runs, prompts and citations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from agentkit.events import Event
from agentkit.messages import message_to_dict
from agentkit.result import RunResult
from agentkit.resuming import read_answers
from agentkit.server.agents import (
    Answer,
    Run,
    answer_run,
    given_answers,
    run_deps,
    run_in_place,
    run_sampling,
    served_agent,
)
from agentkit.server.auth import Caller
from agentkit.server.chat_request import Text
from agentkit.server.context import ServerContext
from agentkit.server.conversations import (
    Conversation,
    ConversationBusyError,
    ConversationRun,
)
from agentkit.server.errors import ApiError
from agentkit.server.event_json import run_to_dict
from agentkit.server.prompts import prompt_of_step, prompt_to_dict
from agentkit.server.sending import JSONReply

__all__ = ["router", "session_to_dict"]

SESSIONS = "/v1/sessions"
SESSION = SESSIONS + "/{session_id}"
RUNS = SESSION + "/runs"
RESUME = RUNS + "/{run_id}/resume"

router = APIRouter(tags=["sessions"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class SessionRequest(_Body):
    """A session to begin."""

    agent: Annotated[str, Field(max_length=256)]
    """Which agent it is with."""
    title: Annotated[str, Field(max_length=200)] = ""
    """What it is called; if not given, as its first prompt begins."""


class RenameRequest(_Body):
    """A session's new name."""

    title: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
    """The name."""


class SessionRunRequest(_Body):
    """A run that goes on from a session."""

    input: Annotated[Text, Field(min_length=1)]
    """What the user says."""
    tool_choice: Annotated[str, Field(max_length=64)] | None = None
    """In place of the agent's: ``auto``, ``required``, ``none`` or a tool's name."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Of one turn, in place of the agent's."""
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    """In place of the agent's."""
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    """In place of the agent's."""
    stream: bool = False
    """Send each event as it happens."""


class SessionResumeRequest(_Body):
    """How a session's last run goes on."""

    approve: bool | dict[str, bool | Answer] | None = None
    """As for runs of agents; nothing for a run that was interrupted."""
    stream: bool = False
    """Send each event as it happens."""


@router.get(SESSIONS, summary="Sessions, the last first")
async def list_sessions(
    request: Request,
    search: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> JSONReply:
    """The caller's sessions, without their runs."""
    server, owner = _asked(request)
    found = await server.conversations.list(owner, search=_plain(search), limit=limit)
    return JSONReply({"object": "list", "data": [session_to_dict(each) for each in found]})


@router.post(SESSIONS, summary="Begin a session")
async def create_session(request: Request, body: SessionRequest) -> JSONReply:
    """A session without runs."""
    server, owner = _asked(request)
    served_agent(server, body.agent)
    made = await server.conversations.create(owner, agent=body.agent, title=_plain(body.title))
    return JSONReply(session_to_dict(made), status_code=201)


@router.get(SESSION, summary="A session with its runs")
async def get_session(request: Request, session_id: str) -> JSONReply:
    """The session; each run has the messages that it added."""
    found = await _session(request, session_id)
    runs = [_shown(run, found.agent) for run in found.runs]
    return JSONReply({**session_to_dict(found), "runs": runs})


@router.patch(SESSION, summary="Rename a session")
async def rename_session(request: Request, session_id: str, body: RenameRequest) -> JSONReply:
    """The session under its new name."""
    server, owner = _asked(request)
    found = await server.conversations.rename(owner, session_id, _plain(body.title.strip()))
    if found is None:
        raise _no_session(session_id)
    return JSONReply(session_to_dict(found))


@router.delete(SESSION, summary="Delete a session")
async def delete_session(request: Request, session_id: str) -> JSONReply:
    """It is gone for good."""
    server, owner = _asked(request)
    if not await server.conversations.delete(owner, session_id):
        raise _no_session(session_id)
    return JSONReply({"id": session_id, "object": "session", "deleted": True})


@router.post(RUNS, summary="Run a session's agent")
async def run_session(session_id: str, body: SessionRunRequest, asked: Run) -> Response:
    """As ``/v1/agents/NAME/runs``; the session is the history, and keeps the run."""
    server, owner = _asked(asked.request)
    session = await _session(asked.request, session_id)
    agent = served_agent(server, session.agent)
    options: dict[str, Any] = {
        "tool_choice": body.tool_choice,
        "sampling": run_sampling(agent, body, server),
        "deps": await run_deps(asked),
    }
    events = server.conversations.stream(owner, session_id, agent, body.input, **options)
    run = run_in_place(asked, session.agent, RUNS, _told_busy(events), keep=False)
    return await answer_run(asked, session.agent, run, stream=body.stream)


@router.post(RESUME, summary="Go on with a session's run that waits or was interrupted")
async def resume_session(
    session_id: str, run_id: str, body: SessionResumeRequest, asked: Run
) -> Response:
    """As ``/v1/agents/NAME/runs/ID/resume``."""
    server, owner = _asked(asked.request)
    session = await _session(asked.request, session_id)
    agent = served_agent(server, session.agent)
    last = session.runs[-1] if session.runs else None
    if last is None or last.id != run_id or session.status not in ("waiting", "interrupted"):
        raise ApiError(404, f"no run {run_id!r:.100} can go on", code="run_not_found")
    answers = None if body.approve is None else given_answers(body)
    if session.status == "waiting" and last.result is not None and answers is not None:
        read_answers(last.result, answers)  # What is wrong with them is known at once.
    deps = await run_deps(asked)
    events = server.conversations.resume_stream(owner, session_id, agent, answers, deps=deps)
    steps = len(last.result.steps) if last.result is not None else 0
    run = run_in_place(asked, session.agent, RESUME, _told_busy(events), earlier=steps, keep=False)
    return await answer_run(asked, session.agent, run, stream=body.stream)


@router.delete(RUNS + "/{run_id}", summary="Give up a run that waits or was interrupted")
async def abandon_run(request: Request, session_id: str, run_id: str) -> JSONReply:
    """The session is ready for the next prompt then."""
    server, owner = _asked(request)
    session = await _session(request, session_id)
    if not session.runs or session.runs[-1].id != run_id or session.status == "idle":
        raise ApiError(404, f"no run {run_id!r:.100} can be given up", code="run_not_found")
    try:
        await server.conversations.abandon(owner, session_id)
    except ConversationBusyError as error:
        raise _busy(error) from error
    return JSONReply({"id": run_id, "object": "agent.run", "abandoned": True})


@router.get(RUNS + "/{run_id}/prompts/{step}", summary="The exact prompt of a step")
async def get_prompt(
    request: Request, session_id: str, run_id: str, step: Annotated[int, Field(ge=0)]
) -> JSONReply:
    """What the model read before it wrote the step: the text, and its parts by who wrote them."""
    session = await _session(request, session_id)
    result = await _run(request, session_id, run_id)
    agent = served_agent(request.app.state.agentkit, session.agent)
    prompt = await asyncio.to_thread(prompt_of_step, agent, result, step)
    usage = result.steps[step].usage
    figures = {"prompt_tokens": usage.prompt_tokens, "reused_tokens": usage.reused_tokens}
    return JSONReply({"object": "prompt", "step": step, **figures, **prompt_to_dict(prompt)})


@router.get(RUNS + "/{run_id}/citations", summary="Where a run's answer is from")
async def get_citations(request: Request, session_id: str, run_id: str) -> JSONReply:
    """The answer's sentences, each with the places in the run's sources that say the same."""
    await _session(request, session_id)
    result = await _run(request, session_id, run_id)
    sentences: list[Any] = []
    if result.sources and result.output:
        from agentkit_retrievers import ground

        grounded = await asyncio.to_thread(ground, result)
        sentences = grounded.to_dict()["sentences"]
    return JSONReply({"object": "citations", "answer": result.output, "sentences": sentences})


def session_to_dict(session: Conversation) -> dict[str, Any]:
    """A session, without its runs."""
    return {
        "id": session.id,
        "object": "session",
        "agent": session.agent,
        "title": session.title,
        "created": session.created,
        "updated": session.updated,
        "status": session.status,
    }


def _shown(run: ConversationRun, agent: str) -> dict[str, Any]:
    """A run with its own messages only: earlier ones are those of the runs before it."""
    kept = {"prompt": run.prompt, "error": run.error}
    result = run.result
    if result is None:
        return {"id": run.id, "object": "agent.run", "agent": agent, "result": None, **kept}
    data = run_to_dict(result, agent=agent)
    messages = [message_to_dict(message, generation=False) for message in result.new_messages]
    data["result"] = {**data["result"], "messages": messages, "new_from": 0, "documents": []}
    return {**data, **kept}


def _asked(request: Request) -> tuple[ServerContext, str]:
    """The server, and who owns what is asked for: a key's; without keys, everyone's."""
    caller: Caller = request.scope["agentkit.caller"]
    return request.app.state.agentkit, "" if caller.key is None else caller.name


async def _session(request: Request, session_id: str) -> Conversation:
    server, owner = _asked(request)
    found = await server.conversations.get(owner, session_id)
    if found is None:
        raise _no_session(session_id)
    return found


async def _run(request: Request, session_id: str, run_id: str) -> RunResult:
    server, owner = _asked(request)
    found = await server.conversations.run(owner, session_id, run_id)
    if found is not None:
        return found
    raise ApiError(404, f"the session has no run {run_id!r:.100}", code="run_not_found")


async def _told_busy(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    try:
        async for event in events:
            yield event
    except ConversationBusyError as error:
        raise _busy(error) from error
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


def _busy(error: ConversationBusyError) -> ApiError:
    return ApiError(409, str(error), code="session_busy")


def _no_session(session_id: str) -> ApiError:
    return ApiError(404, f"there is no session {session_id!r:.100}", code="session_not_found")


def _plain(text: str) -> str:
    """Text without half surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8")
