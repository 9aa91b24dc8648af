"""Reading of bodies whose size nobody vouches for."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from agentkit_tools.http_errors import HTTPResponseError

if TYPE_CHECKING:
    import httpx

__all__ = ["ACCEPT_ENCODING", "read_body"]

ACCEPT_ENCODING = "gzip, deflate"
"""What :func:`read_body` can decompress."""

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


async def read_body(response: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """Read a body, up to a limit.

    httpx would decompress each chunk as a whole, and so let 64 kB become 64 MB in memory, or far
    more with codecs denser than gzip. Here no more than the limit is ever decompressed.

    Args:
        response: Whose body has not been read.
        limit: In bytes, decompressed.

    Returns:
        The body, or its beginning, and whether it was complete.

    Raises:
        HTTPResponseError: It is compressed in another way than was asked for, or damaged.
    """
    body = bytearray()
    codec = response.headers.get("Content-Encoding", "").strip().lower()
    inflate = None if codec in ("", "identity") else _Inflate(codec)
    # The announced length may be missing, compressed or a lie: count what arrives.
    async for chunk in response.aiter_raw():
        body += chunk if inflate is None else inflate.feed(chunk, limit + 1 - len(body))
        if len(body) > limit:
            return bytes(body[:limit]), False
    if inflate is not None and body and not inflate.complete:
        raise HTTPResponseError("the response could not be decompressed: it ends too early")
    return bytes(body), True


class _Inflate:
    def __init__(self, codec: str) -> None:
        if codec not in ("gzip", "x-gzip", "deflate"):
            raise HTTPResponseError(
                f"the response could not be decompressed: it is compressed as {codec[:40]!r}"
            )
        self._raw_deflate = codec == "deflate"
        self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._begun = False

    @property
    def complete(self) -> bool:
        return self._zlib.eof

    def feed(self, chunk: bytes, limit: int) -> bytes:
        """Decompress, to no more than ``limit`` bytes."""
        if self._zlib.eof:
            return b""  # Whatever follows is not part of it.
        try:
            try:
                return self._zlib.decompress(chunk, limit)
            except zlib.error:
                if self._begun or not self._raw_deflate:
                    raise
                # "deflate" is meant to have a zlib header, which some services leave out.
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
                return self._zlib.decompress(chunk, limit)
        except zlib.error as error:
            raise HTTPResponseError("the response could not be decompressed") from error
        finally:
            self._begun = True
