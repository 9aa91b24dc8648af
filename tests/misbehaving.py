"""A server that does wrong what can be done wrong: each path is a way to misbehave."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Awaitable, Callable

Writer = asyncio.StreamWriter
Behaviour = Callable[[Writer], Awaitable[None]]

JSON = b"Content-Type: application/json\r\n"


def raw(data: bytes) -> Behaviour:
    """Send bytes and hang up."""

    async def behave(writer: Writer) -> None:
        writer.write(data)
        await writer.drain()

    return behave


def answer(body: bytes, headers: bytes = JSON, status: bytes = b"200 OK") -> Behaviour:
    """A well-formed response around a body that may not be."""
    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), headers)
    return raw(head + body)


def redirect(location: bytes) -> Behaviour:
    return raw(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % location)


async def hang(writer: Writer) -> None:
    await asyncio.sleep(30)


async def hang_in_headers(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    await drip(writer, b"a")


async def slow_body(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n" + JSON + b"\r\n")
    await drip(writer, b" ")


async def drip(writer: Writer, byte: bytes) -> None:
    while True:
        writer.write(byte)
        await writer.drain()
        await asyncio.sleep(0.02)


async def endless_body(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n")
    await pour(writer, b"[1,")


async def ten_gigabytes(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n" + JSON + b"\r\n")
    await pour(writer, b" " * 65_536)


async def endless_headers(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await pour(writer, b"X-More: " + b"y" * 1000 + b"\r\n")


async def endless_1xx(writer: Writer) -> None:
    await pour(writer, b"HTTP/1.1 102 Processing\r\n\r\n")


async def endless_error_body(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\n\r\n")
    await pour(writer, b"sorry ")


async def endless_chunk_line(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + JSON + b"\r\n")
    await pour(writer, b"0" * 1000)


async def pour(writer: Writer, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()


async def reset(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n" + JSON + b"\r\n[1,")
    await writer.drain()
    await asyncio.sleep(0.05)
    # Not to linger makes it a reset.
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


BOMB = gzip.compress(b"[" + b" " * 50_000_000)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + JSON + b"\r\n"
GZIP = JSON + b"Content-Encoding: gzip\r\n"
HTML = b"Content-Type: text/html\r\n"

BEHAVIOURS: dict[str, Behaviour] = {
    "fine": answer(b'{"a": 1}'),
    "chunked": raw(CHUNKED + b"3\r\n[1]\r\n0\r\n\r\n"),
    "until-close": raw(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n[1]"),
    "http-1.0": raw(b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\n[1]"),
    "100-continue": raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + b"HTTP/1.1 204 No\r\n\r\n"),
    "103-hints": raw(b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No\r\n\r\n"),
    "extra-bytes": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" + JSON + b"\r\n[1]garbage"),
    "gzip": answer(gzip.compress(b"[1]"), GZIP),
    "deflate": answer(zlib.compress(b"[1]"), JSON + b"Content-Encoding: deflate\r\n"),
    "raw-deflate": answer(zlib.compress(b"[1]")[2:-4], JSON + b"Content-Encoding: deflate\r\n"),
    "gzip-and-more": answer(gzip.compress(b"[1]") + b"garbage", GZIP),
    "no-reason": raw(b"HTTP/1.1 200\r\nContent-Length: 3\r\n" + JSON + b"\r\n[1]"),
    "odd-charset": answer(b"plain", b"Content-Type: text/plain; charset=hex\r\n"),
    "empty-204": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "binary": answer(b"\x00\x01\x02", b"Content-Type: application/octet-stream\r\n"),
    "hang": hang,
    "hang-in-headers": hang_in_headers,
    "slow-body": slow_body,
    "endless-body": endless_body,
    "ten-gigabytes": ten_gigabytes,
    "endless-headers": endless_headers,
    "endless-1xx": endless_1xx,
    "endless-error-body": endless_error_body,
    "endless-chunk-line": endless_chunk_line,
    "reset": reset,
    "empty-reply": raw(b""),
    "dies-in-headers": raw(b"HTTP/1.1 200 OK\r\nContent-"),
    "dies-in-body": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n" + JSON + b"\r\n[1"),
    "dies-in-chunk": raw(CHUNKED + b"64\r\n[1"),
    "no-last-chunk": raw(CHUNKED + b"3\r\n[1]\r\n"),
    "bad-chunk": raw(CHUNKED + b"zz\r\n[1]\r\n0\r\n\r\n"),
    "negative-length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"),
    "two-lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n[1]"),
    "not-http": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "bad-status": raw(b"HTTP/1.1 2000 OK\r\n\r\n"),
    "bad-header": raw(b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n"),
    "nul-in-header": raw(b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"),
    "gzip-bomb": answer(BOMB, GZIP),
    "gzip-broken": answer(b"\x1f\x8b\x08\x00garbage-garbage", GZIP),
    "gzip-cut": answer(gzip.compress(b"[1, 2, 3]")[:-9], GZIP),
    "gzip-twice": answer(
        gzip.compress(gzip.compress(b"[1]")), JSON + b"Content-Encoding: gzip, gzip\r\n"
    ),
    "brotli": answer(b"\x0b\x01\x80[1]\x03", JSON + b"Content-Encoding: br\r\n"),
    "html-for-json": answer(b"<html>Log in</html>", JSON),
    "html-page": answer(b"<html>Log in</html>", HTML),
    "html-error": answer(b"<html>Stack trace</html>", HTML, b"500 Oops"),
    "nan": answer(b'{"a": NaN}'),
    "deep": answer(b"[" * 100_000),
    "cut-json": answer(b'{"a": [1, 2'),
    "not-utf-8": answer(b'{"a": "\xff\xfe"}'),
    "huge-number": answer(b"1" * 10_000),
    "long-reason": raw(b"HTTP/1.1 404 " + b"no " * 1000 + b"\r\nContent-Length: 0\r\n\r\n"),
    "redirect-loop": redirect(b"/redirect-loop"),
    "redirect-private": redirect(b"http://10.0.0.1/"),
    "redirect-metadata": redirect(b"http://169.254.169.254/latest/meta-data/"),
    "redirect-file": redirect(b"file:///etc/passwd"),
    "redirect-other-port": redirect(b"http://127.0.0.1:1/"),
    "redirect-garbage": redirect(b"http://[::1"),
    "redirect-userinfo": redirect(b"//ann:pw@elsewhere.test/"),
    "switching": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
}


class MisbehavingServer:
    """Runs in a thread of its own.

    Args:
        tls: To speak TLS with.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[str] = []
        self.open = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        starting = asyncio.start_server(self._handle, "127.0.0.1", 0, ssl=tls)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"

    async def _handle(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.open += 1
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            name = request.split()[1].decode().strip("/").partition("?")[0]
            self.seen.append(name)
            await BEHAVIOURS[name](writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()

    def close(self) -> None:
        async def stop() -> None:
            self._server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.01)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
