"""A model whose turns are written elsewhere, and written again where an engine dies."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from agentkit.cluster.routing import RouteKey, route_key
from agentkit.errors import ModelConnectionError, ModelError
from agentkit.models.base import (
    CallDelta,
    CallParsed,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    TextDelta,
)

__all__ = ["Dispatch", "EngineDied", "RoutedModel"]

Dispatch: TypeAlias = Callable[[ModelRequest, RouteKey], AsyncGenerator[ModelEvent, None]]
"""Has a request carried out by some engine."""


logger = logging.getLogger(__name__)


class EngineDied(Exception):
    """The engine that wrote a turn is gone; another one may write it."""


class RoutedModel:
    """A :class:`agentkit.Model` in front of many engines.

    Where an engine dies amid a turn, another one writes the turn again. What has been given out
    by then is not given out twice: sampling gets a seed of its own if it has none, so the turn
    comes out the same. If it does not, as backends that reckon differently in company can make
    it, the turn fails rather than turn into a mixture of two.

    Args:
        dispatch: Has a request carried out; raises :class:`EngineDied`.
        name: What the model is called.
        attempts: How many engines may be asked for one turn.
    """

    def __init__(self, dispatch: Dispatch, *, name: str, attempts: int = 3) -> None:
        self._dispatch = dispatch
        self._name = name
        self._attempts = attempts

    @property
    def name(self) -> str:
        """What the model is called."""
        return self._name

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Write one turn; see :meth:`agentkit.models.base.Model.stream`.

        Raises:
            ModelConnectionError: Too many engines died.
        """
        request, key = _repeatable(request), route_key(request)
        given = _Given()
        for attempt in range(1, self._attempts + 1):
            events = self._dispatch(request, key)
            try:
                async for event in events:
                    for new in given.only_new(event):
                        yield new
                return
            except EngineDied as error:
                if attempt == self._attempts:
                    raise ModelConnectionError(
                        f"{attempt} engines died one after another under the same turn"
                    ) from error
                logger.warning("an engine died amid a turn; another one writes it again")
                given.rewind()
            finally:
                await events.aclose()

    async def aclose(self) -> None:
        """The engines are not this object's to close."""


@dataclass(slots=True)
class _Given:
    """What a turn has given out, so that it is not given out again."""

    pieces: list[TextDelta | CallDelta] = field(default_factory=list)
    calls: list[CallParsed] = field(default_factory=list)
    ahead: deque[TextDelta | CallDelta] = field(default_factory=deque)
    """Pieces that the turn, written anew, must come to before anything is new."""

    def rewind(self) -> None:
        """The turn begins anew."""
        merged: list[TextDelta | CallDelta] = []
        for piece in self.pieces:
            if merged and _kind(merged[-1]) == _kind(piece):
                merged[-1] = replace(merged[-1], text=merged[-1].text + piece.text)
            else:
                merged.append(piece)
        self.pieces = merged
        self.ahead = deque(merged)

    def only_new(self, event: ModelEvent) -> list[ModelEvent]:
        """What of an event has not been given out."""
        match event:
            case TextDelta() | CallDelta():
                rest = self._past(event)
                if not rest.text:
                    return []
                self.pieces.append(rest)
                return [rest]
            case CallParsed():
                if event.index < len(self.calls):
                    if self.calls[event.index].call != event.call:
                        raise _differs()
                    return []
                self.calls.append(event)
                return [event]
            case ModelResponse():
                if self.ahead:
                    raise _differs()
                # Calls that were told of keep the ids they were told with.
                calls = tuple(
                    replace(call, id=told.call.id)
                    for call, told in zip(event.calls, self.calls, strict=False)
                )
                return [replace(event, calls=(*calls, *event.calls[len(calls) :]))]

    def _past(self, piece: TextDelta | CallDelta) -> TextDelta | CallDelta:
        """The part of a piece that lies past what was given out."""
        while self.ahead and piece.text:
            head = self.ahead[0]
            size = min(len(head.text), len(piece.text))
            if _kind(head) != _kind(piece) or head.text[:size] != piece.text[:size]:
                raise _differs()
            piece = replace(piece, text=piece.text[size:])
            if size == len(head.text):
                self.ahead.popleft()
            else:
                self.ahead[0] = replace(head, text=head.text[size:])
        return piece


def _repeatable(request: ModelRequest) -> ModelRequest:
    sampling = request.sampling
    if sampling.temperature == 0 or sampling.seed is not None:
        return request
    seed = random.SystemRandom().randrange(1 << 31)
    return replace(request, sampling=replace(sampling, seed=seed))


def _kind(piece: TextDelta | CallDelta) -> int:
    return piece.index if isinstance(piece, CallDelta) else -1


def _differs() -> ModelError:
    return ModelError(
        "the engine that wrote this turn died, and another one wrote it differently; run it again"
    )
