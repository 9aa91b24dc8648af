"""``/v1/agents``: whole runs of agents, streamed as the SDK's own events."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from agentkit.agent import Agent
from agentkit.approvals import Approval, ApprovalAnswer
from agentkit.errors import ModelError
from agentkit.events import Event, RunFinished
from agentkit.models.base import Sampling
from agentkit.result import RunResult
from agentkit.resuming import read_answers
from agentkit.server.chat_request import ChatMessage, DocumentSpec, Text, read_messages
from agentkit.server.context import Exchange, ServerContext, exchange
from agentkit.server.errors import ApiError
from agentkit.server.event_json import event_to_dict, run_to_dict
from agentkit.server.paused import PausedRun
from agentkit.server.plain_json import AnyObject
from agentkit.server.sending import JSONReply, json_text
from agentkit.server.streams import EventStream, first_then_rest

__all__ = [
    "ResumeRequest",
    "RunRequest",
    "answer_run",
    "given_answers",
    "router",
    "run_deps",
    "run_in_place",
    "run_sampling",
    "served_agent",
]

RUNS = "/v1/agents/{name}/runs"
RESUME = RUNS + "/{run_id}/resume"

Run: TypeAlias = Annotated[Exchange, Depends(exchange)]

router = APIRouter(tags=["agents"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class RunRequest(_Body):
    """A run of an agent."""

    input: Text | Annotated[list[ChatMessage], Field(min_length=1)]
    """What the user says, or messages."""
    history: list[ChatMessage] | None = None
    """An earlier conversation to go on from."""
    documents: list[DocumentSpec] | None = None
    """Documents for this run."""
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


class Answer(_Body):
    """Whether a call may run."""

    approve: bool
    """Whether it may."""
    reason: Annotated[str, Field(max_length=10_000)] = ""
    """Why not; told to the model."""
    arguments: AnyObject | None = None
    """Run it with these arguments in place of the model's."""


class ResumeRequest(_Body):
    """Answers for a run that waits."""

    approve: bool | dict[str, bool | Answer]
    """One answer for all calls, or answers by the ids of calls; those without one wait on."""
    stream: bool = False
    """Send each event as it happens."""


@router.get("/v1/agents", summary="Agents that may be run")
async def agents(request: Request) -> JSONReply:
    """The agents, with their tools."""
    server: ServerContext = request.app.state.agentkit
    data = [_described(name, agent) for name, agent in server.agents.items()]
    return JSONReply({"object": "list", "data": data})


@router.get("/v1/agents/{name}", summary="One agent")
async def one_agent(request: Request, name: str) -> JSONReply:
    """An agent, with its tools."""
    return JSONReply(_described(name, served_agent(request.app.state.agentkit, name)))


@router.post(RUNS, summary="Run an agent")
async def run_agent(name: str, body: RunRequest, asked: Run) -> Response:
    """A whole run. One that has to ask whether a call may run ends with the status
    ``requires_approval``, and goes on by ``…/runs/ID/resume``."""
    server = asked.server
    agent = served_agent(server, name)
    prompt: Any = body.input
    events = agent.stream(
        prompt if isinstance(prompt, str) else read_messages(prompt),
        history=read_messages(body.history) if body.history else None,
        documents=[d.document(i) for i, d in enumerate(body.documents or (), start=1)],
        tool_choice=body.tool_choice,
        sampling=run_sampling(agent, body, server),
        deps=await run_deps(asked),
    )
    return await answer_run(
        asked, name, run_in_place(asked, name, RUNS, events), stream=body.stream
    )


@router.get(RUNS + "/{run_id}", summary="A run that waits for approval")
async def paused_run(request: Request, name: str, run_id: str) -> JSONReply:
    """The run so far, with the calls that wait."""
    server: ServerContext = request.app.state.agentkit
    served_agent(server, name)
    found = await server.paused.get(run_id)
    caller = request.scope["agentkit.caller"].name
    if found is None or (found.agent, found.caller) != (name, caller):
        raise no_such_run(run_id)
    return JSONReply(run_to_dict(found.result, agent=name))


@router.post(RESUME, summary="Go on with a run that waits for approval")
async def resume_run(name: str, run_id: str, body: ResumeRequest, asked: Run) -> Response:
    """Calls that are approved run now, those denied are told to the model, and the run goes on."""
    server = asked.server
    agent = served_agent(server, name)
    found = await server.paused.get(run_id)
    if found is None or (found.agent, found.caller) != (name, asked.caller.name):
        raise no_such_run(run_id)
    answers = given_answers(body)
    read_answers(found.result, answers)  # What is wrong with them must not cost the run.
    deps = await run_deps(asked)
    if await server.paused.take(run_id) is None:
        raise ApiError(409, f"run {run_id!r:.100} is going on already", code="run_in_progress")
    events = _resumed(asked, agent, found, answers, deps)
    return await answer_run(asked, name, events, stream=body.stream)


async def _resumed(
    asked: Exchange, agent: Agent, paused: PausedRun, answers: Any, deps: Any
) -> AsyncIterator[Event]:
    """The events of a run that goes on. Until something has run, it can be tried again."""
    begun = False
    try:
        resumed = agent.resume_stream(paused.result, answers, deps=deps)
        steps = len(paused.result.steps)
        run = run_in_place(asked, paused.agent, RESUME, resumed, earlier=steps)
        async with aclosing(run) as events:  # type: ignore[type-var]
            async for event in events:
                begun = True
                yield event
    finally:
        if not begun:
            await asked.server.paused.put(paused)


async def run_in_place(
    asked: Exchange,
    name: str,
    route: str,
    run: AsyncIterator[Event],
    *,
    earlier: int = 0,
    keep: bool = True,
) -> AsyncIterator[Event]:
    """The run's events, once there is a place for it.

    Args:
        asked: The request.
        name: Of the agent.
        route: For the metrics.
        run: Not begun yet.
        earlier: Steps that are accounted for already.
        keep: Whether a run that waits for approval is kept here; a session keeps its own.
    """
    server = asked.server
    async with server.gate.place():
        timed = server.metrics.timed_run(run, route=route, arrived=asked.arrived)
        async with aclosing(timed) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, RunFinished):
                    _account(asked, name, event.result, earlier)
                    if keep and event.result.pending:
                        await server.paused.put(
                            PausedRun(agent=name, caller=asked.caller.name, result=event.result)
                        )
                yield event


def _account(asked: Exchange, name: str, result: RunResult, earlier: int) -> None:
    server = asked.server
    server.metrics.count_run(name, result, earlier=earlier)
    for step in result.steps[earlier:]:
        used = step.usage
        server.rates.spend(asked.caller, used.prefilled_tokens + used.generated_tokens)


async def answer_run(
    asked: Exchange, name: str, run: AsyncIterator[Event], *, stream: bool
) -> Response:
    """The response to a run: its events as they happen, or its result."""
    if not stream:
        try:
            result = await asked.watch.do(_result(run))
        finally:
            asked.watch.end()
        return JSONReply(run_to_dict(result, agent=name))
    events = await first_then_rest(_written(run, name), asked.watch)
    return EventStream(events, asked.watch, heartbeat=asked.server.options.heartbeat)


async def _result(run: AsyncIterator[Event]) -> RunResult:
    async with aclosing(run) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, RunFinished):
                return event.result
    raise ModelError("the run ended without a result")


async def _written(run: AsyncIterator[Event], name: str) -> AsyncIterator[str]:
    async with aclosing(run) as events:  # type: ignore[type-var]
        async for event in events:
            data = event_to_dict(event, agent=name)
            yield f"event: {data['type']}\ndata: {json_text(data)}\n\n"


def given_answers(body: Any) -> bool | dict[str, ApprovalAnswer]:
    """The answers in the SDK's form."""
    if isinstance(body.approve, bool):
        return body.approve
    return {
        call_id: answer
        if isinstance(answer, bool)
        else Approval(
            decision="allow" if answer.approve else "deny",
            reason=answer.reason,
            arguments=answer.arguments,
        )
        for call_id, answer in body.approve.items()
    }


def run_sampling(agent: Agent, body: Any, server: ServerContext) -> Sampling | None:
    """How the model chooses tokens in a run, if its request says anything about it."""
    given = {
        name: value
        for name in ("max_tokens", "temperature", "seed")
        if (value := getattr(body, name)) is not None
    }
    if (body.max_tokens or 0) > server.options.max_tokens:
        raise ApiError(
            400,
            f"this server writes at most {server.options.max_tokens} tokens at once, not "
            f"{body.max_tokens}",
            code="invalid_value",
            param="max_tokens",
        )
    return replace(agent.sampling, **given) if given else None


async def run_deps(asked: Exchange) -> Any:
    """The ``deps`` of a run."""
    make = asked.server.deps
    deps = None if make is None else make(asked.request)
    return await deps if inspect.isawaitable(deps) else deps


def served_agent(server: ServerContext, name: str) -> Agent:
    """The agent of that name.

    Raises:
        ApiError: 404: there is none.
    """
    if name not in server.agents:
        names = ", ".join(server.agents) or "none"
        raise ApiError(
            404, f"there is no agent {name!r:.200}; there are {names}", code="agent_not_found"
        )
    return server.agents[name]


def no_such_run(run_id: str) -> ApiError:
    return ApiError(404, f"no run {run_id!r:.100} waits for approval", code="run_not_found")


def _described(name: str, agent: Agent) -> dict[str, Any]:
    return {
        "id": name,
        "object": "agent",
        "model": agent.model.name,
        "tools": [tool.to_openai()["function"] for tool in agent.tools.definitions],
    }
