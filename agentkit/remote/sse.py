"""Server-sent events: lines of bytes to the JSON that they carry."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from agentkit.errors import ModelConnectionError, ModelServerError

__all__ = ["MAX_EVENT_BYTES", "event_objects"]

MAX_EVENT_BYTES = 16 << 20
"""The largest event, or whole answer, that is taken in."""
_DONE = "[DONE]"


async def event_objects(pieces: AsyncIterator[bytes]) -> AsyncIterator[Mapping[str, Any]]:
    """The object that each event's data holds, until ``[DONE]`` or the end.

    Args:
        pieces: Of the body.

    Raises:
        ModelServerError: Data are no JSON object, or have no end.
    """
    data: list[str] = []
    async for line in _lines(pieces):
        if line:
            field, _, value = line.partition(b":")
            # Comments keep the connection open; names, ids and times do not matter here.
            if field == b"data":
                data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
            continue
        if not data:
            continue
        text, data = "\n".join(data), []
        if text.strip() == _DONE:
            return
        yield _object(text)
    if data and "\n".join(data).strip() != _DONE:
        # Some servers leave out the empty line at the end.
        try:
            last = _object("\n".join(data))
        except ModelServerError as error:
            raise ModelConnectionError("the server hung up amid the answer") from error
        yield last


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    # By bytes: str.splitlines() would also split at characters that JSON may hold.
    rest = bytearray()
    size = 0  # of the event so far
    async for piece in pieces:
        seen = len(rest)
        rest += piece
        while (end := rest.find(b"\n", seen)) >= 0:
            line = bytes(rest[:end]).removesuffix(b"\r")
            del rest[: end + 1]
            seen = 0
            size = size + len(line) if line else 0
            yield line
        if size + len(rest) > MAX_EVENT_BYTES:
            raise ModelServerError(f"the server sent an event of more than {MAX_EVENT_BYTES} bytes")
    if rest:
        yield bytes(rest).removesuffix(b"\r")


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelServerError(
            f"the server sent an event that is not JSON: {text[:200]!r}"
        ) from error
    if not isinstance(value, dict):
        raise ModelServerError(f"the server sent an event that is no object: {text[:200]!r}")
    return value
