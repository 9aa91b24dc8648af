"""HTTP over a bare socket: what is timed with it is the server's work and not the client's.

A full client such as httpx takes a millisecond or two of its own for a request, and, with hundreds
of connections, most of a core.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    """HTTP's."""
    body: bytes
    """The pieces joined."""
    first: float
    """Seconds from sending to the first piece of the body."""


class Connection:
    """A connection that is kept open from one request to the next.

    Args:
        url: Such as ``http://127.0.0.1:8000``.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: dict[str, Any], *, asleep: bool = False) -> Reply:
        """Send JSON, and read the whole answer.

        Args:
            path: Where to.
            body: What.
            asleep: Wake up when the answer is complete and not for every piece of it, as far as
                the system knows how. A client on the machine of the server takes time from its
                model, which clients elsewhere do not.
        """
        if asleep:
            await self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        if asleep and hasattr(socket, "SO_RCVLOWAT"):
            # Fewer bytes than these are no news, unless they are the last.
            opened = writer.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 20)
        data = json.dumps(body).encode()
        after = "close" if asleep else "keep-alive"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\nConnection: {after}\r\n\r\n"
        )
        begin = time.perf_counter()
        writer.write(head.encode() + data)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if line)
        if fields.get("transfer-encoding") == "chunked":
            content, first = await _chunks(reader, begin)
        else:
            content = await reader.readexactly(int(fields["content-length"]))
            first = time.perf_counter() - begin
        if fields.get("connection") == "close":
            await self.close()
        return Reply(int(lines[0].split()[1]), content, first)

    async def close(self) -> None:
        """Close it, if it is open."""
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()
            self._streams = None


async def _chunks(reader: asyncio.StreamReader, begin: float) -> tuple[bytes, float]:
    # Taken apart at the end: events, which have no carriage returns, do not end as the body does.
    raw, first = bytearray(), 0.0
    while not raw.endswith(b"0\r\n\r\n"):
        more = await reader.read(1 << 16)
        if not more:
            raise ConnectionError("the server closed the connection within an answer")
        raw += more
        first = first or time.perf_counter() - begin
    pieces, place = list[bytes](), 0
    while size := int(raw[place : (end := raw.index(b"\r\n", place))], 16):
        pieces.append(bytes(raw[end + 2 : end + 2 + size]))
        place = end + 2 + size + 2
    return b"".join(pieces), first
