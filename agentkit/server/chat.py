"""``/v1/chat/completions`` and ``/v1/models``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from agentkit.errors import ModelError
from agentkit.models.base import Model, ModelEvent, ModelRequest, ModelResponse
from agentkit.server.chat_request import ChatRequest, model_request
from agentkit.server.chat_response import CompletionWriter, completion
from agentkit.server.context import Exchange, ServerContext, exchange
from agentkit.server.errors import ApiError
from agentkit.server.sending import JSONReply
from agentkit.server.streams import EventStream, first_then_rest

__all__ = ["router"]

ROUTE = "/v1/chat/completions"

router = APIRouter(tags=["models"])


@router.post(ROUTE, summary="Answer a conversation")
async def chat_completions(
    body: ChatRequest, asked: Annotated[Exchange, Depends(exchange)]
) -> Response:
    """One turn of the model, whole or as server-sent events."""
    server = asked.server
    model = _model(server, body.model)
    request = model_request(body, server.options)
    turn = _turn(asked, model, request)
    if not body.stream:
        try:
            response = await asked.watch.do(_last(turn))
        finally:
            asked.watch.end()
        return JSONReply(completion(response, model=body.model))
    writer = CompletionWriter(model=body.model, include_usage=body.wants_usage)
    # What is wrong with the request shows before the first event: a status can still tell of it.
    events = await first_then_rest(_written(turn, writer), asked.watch)
    return EventStream(events, asked.watch, heartbeat=server.options.heartbeat)


@router.get("/v1/models", summary="Models that may be asked for")
async def models(request: Request) -> JSONReply:
    """The models in OpenAI's form."""
    server: ServerContext = request.app.state.agentkit
    return JSONReply({"object": "list", "data": [_described(server, n) for n in _names(server)]})


@router.get("/v1/models/{name:path}", summary="One model")
async def one_model(request: Request, name: str) -> JSONReply:
    """A model in OpenAI's form."""
    server: ServerContext = request.app.state.agentkit
    if name not in _names(server):
        raise _no_model(server, name)
    return JSONReply(_described(server, name))


async def _turn(asked: Exchange, model: Model, request: ModelRequest) -> AsyncIterator[ModelEvent]:
    """The turn's events, once there is a place for it."""
    server = asked.server
    request = replace(request, messages=server.generations.restore(request.messages))
    async with server.gate.place():
        timed = server.metrics.timed_turn(model.stream(request), route=ROUTE, arrived=asked.arrived)
        async with aclosing(timed) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, ModelResponse):
                    server.generations.remember(event.to_message())
                    usage = event.usage
                    spent = usage.prefilled_tokens + usage.generated_tokens
                    server.rates.spend(asked.caller, spent)
                yield event


async def _last(turn: AsyncIterator[ModelEvent]) -> ModelResponse:
    response: Any = None
    async with aclosing(turn) as events:  # type: ignore[type-var]
        async for event in events:
            response = event
    if not isinstance(response, ModelResponse):
        raise ModelError("the model ended its stream without a response")
    return response


async def _written(turn: AsyncIterator[ModelEvent], writer: CompletionWriter) -> AsyncIterator[str]:
    begun = False
    async with aclosing(turn) as events:  # type: ignore[type-var]
        async for event in events:
            chunks = "".join(writer.write(event))
            if not begun:
                begun = True
                chunks = writer.begin() + chunks
            if chunks:
                yield chunks


def _model(server: ServerContext, name: str) -> Model:
    if server.model is None or name not in (server.model.name, *server.options.served_names):
        raise _no_model(server, name)
    return server.model


def _names(server: ServerContext) -> list[str]:
    chat = () if server.model is None else (server.model.name, *server.options.served_names)
    embedding = () if server.embeddings is None else (server.embeddings.name,)
    return list(dict.fromkeys((*chat, *embedding)))


def _no_model(server: ServerContext, name: str) -> ApiError:
    return ApiError(
        404,
        f"there is no model {name!r:.200}; there are {', '.join(_names(server)) or 'none'}",
        code="model_not_found",
        param="model",
    )


def _described(server: ServerContext, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": server.started, "owned_by": "agentkit"}
