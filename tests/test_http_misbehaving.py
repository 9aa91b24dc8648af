"""HTTPTool against a server that misbehaves: a typed error and a short observation each time."""

from __future__ import annotations

import asyncio
import ssl
import time
import tracemalloc
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from agentkit import Agent, ScriptedModel, ToolCall
from agentkit_tools import (
    HTTPConnectionError,
    HTTPRedirectError,
    HTTPResponseError,
    HTTPStatusError,
    HTTPTimeoutError,
    NetworkPolicy,
)
from http_support import CONTEXT, call, failure, make
from misbehaving import BEHAVIOURS, MisbehavingServer

if TYPE_CHECKING:
    from http_support import Service

pytestmark = pytest.mark.usefixtures("http_environment")

GARBLED = "the service broke off or garbled its answer ("
CUT = "the response could not be decompressed"


@pytest.fixture(scope="module")
def server() -> Iterator[MisbehavingServer]:
    running = MisbehavingServer()
    yield running
    running.close()


FAILURES: dict[str, tuple[type[Exception], str]] = {
    "hang": (HTTPTimeoutError, "did not answer within 0.3 s"),
    "hang-in-headers": (HTTPTimeoutError, "did not answer within 0.3 s"),
    "slow-body": (HTTPTimeoutError, "did not answer within 0.3 s"),
    "endless-1xx": (HTTPTimeoutError, "did not answer within 0.3 s"),
    "endless-body": (HTTPResponseError, "larger than the limit of 100000 bytes"),
    "ten-gigabytes": (HTTPResponseError, "larger than the limit of 100000 bytes"),
    "endless-headers": (HTTPConnectionError, GARBLED),
    "endless-chunk-line": (HTTPConnectionError, GARBLED),
    "endless-error-body": (HTTPStatusError, "answered 500 Oops"),
    "reset": (HTTPConnectionError, "the connection to the service broke"),
    "empty-reply": (HTTPConnectionError, GARBLED),
    "dies-in-headers": (HTTPConnectionError, GARBLED),
    "dies-in-body": (HTTPConnectionError, GARBLED),
    "dies-in-chunk": (HTTPConnectionError, GARBLED),
    "no-last-chunk": (HTTPConnectionError, GARBLED),
    "bad-chunk": (HTTPConnectionError, GARBLED),
    "negative-length": (HTTPConnectionError, GARBLED),
    "two-lengths": (HTTPConnectionError, GARBLED),
    "not-http": (HTTPConnectionError, GARBLED),
    "bad-status": (HTTPConnectionError, GARBLED),
    "bad-header": (HTTPConnectionError, GARBLED),
    "nul-in-header": (HTTPConnectionError, GARBLED),
    "gzip-bomb": (HTTPResponseError, "larger than the limit of 100000 bytes"),
    "gzip-broken": (HTTPResponseError, CUT),
    "gzip-cut": (HTTPResponseError, f"{CUT}: it ends too early"),
    "gzip-twice": (HTTPResponseError, f"{CUT}: it is compressed as 'gzip, gzip'"),
    "brotli": (HTTPResponseError, f"{CUT}: it is compressed as 'br'"),
    "html-for-json": (HTTPResponseError, "JSON that cannot be read"),
    "html-page": (HTTPResponseError, "text/html (19 bytes), not with application/json"),
    "html-error": (HTTPStatusError, "answered 500 Oops (the service has a problem of its own"),
    "nan": (HTTPResponseError, "NaN is not JSON"),
    "deep": (HTTPResponseError, "nested too deep"),
    "cut-json": (HTTPResponseError, "JSON that cannot be read"),
    "not-utf-8": (HTTPResponseError, "JSON that cannot be read"),
    "huge-number": (HTTPResponseError, "JSON that cannot be read"),
    "long-reason": (HTTPStatusError, "answered 404 no no"),
    "binary": (HTTPResponseError, "application/octet-stream (3 bytes), not with"),
    "odd-charset": (HTTPResponseError, "text/plain (5 bytes), not with"),
    "redirect-loop": (HTTPRedirectError, "redirects more than 5 times"),
    "redirect-private": (HTTPRedirectError, "to http://10.0.0.1, which is not followed"),
    "redirect-metadata": (HTTPRedirectError, "to http://169.254.169.254, which is not"),
    "redirect-file": (HTTPRedirectError, "to file://"),
    "redirect-other-port": (HTTPRedirectError, "to http://127.0.0.1, which is not"),
    "redirect-garbage": (HTTPRedirectError, "to an address that cannot be read"),
    "redirect-userinfo": (HTTPRedirectError, "to http://elsewhere.test, which is not"),
    "switching": (HTTPConnectionError, GARBLED),
}
SUCCESSES = {
    "fine": {"a": 1},
    "chunked": [1],
    "until-close": [1],
    "http-1.0": [1],
    "100-continue": "done (204 No, no content)",
    "103-hints": "done (204 No, no content)",
    "extra-bytes": [1],
    "gzip": [1],
    "deflate": [1],
    "raw-deflate": [1],
    "gzip-and-more": [1],
    "no-reason": [1],
    "empty-204": "done (204 No Content, no content)",
}


def tool(server: MisbehavingServer, path: str, **options: Any) -> Any:
    defaults = {
        "retries": 0,
        "attempt_timeout": 0.3 if "within" in FAILURES.get(path, ("", ""))[1] else 10,
        "max_response_bytes": 100_000,
        "accept": ["application/json"],
    }
    return make(f"{server.url}/{path}", **{**defaults, **options})


def test_the_tables_are_complete() -> None:
    assert FAILURES.keys() | SUCCESSES.keys() == BEHAVIOURS.keys()


@pytest.mark.parametrize("name", FAILURES)
def test_failures(server: MisbehavingServer, name: str) -> None:
    kind, text = FAILURES[name]
    tracemalloc.start()
    message = failure(tool(server, name), kind)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert text in message
    assert len(message) < 400
    assert "trace" not in message
    # The 50 MB of the bomb, or any of the endless bodies, would show here.
    assert peak < 8_000_000


@pytest.mark.parametrize("name", SUCCESSES)
def test_what_is_odd_but_fine(server: MisbehavingServer, name: str) -> None:
    assert call(tool(server, name)) == SUCCESSES[name]


def test_text_in_an_encoding_that_is_none(server: MisbehavingServer) -> None:
    assert call(tool(server, "odd-charset", accept=None)) == "plain"


def test_broken_off_answers_are_asked_for_again(server: MisbehavingServer) -> None:
    server.seen.clear()
    assert ", 3 times; it may work later" in failure(tool(server, "dies-in-body", retries=2))
    assert server.seen == ["dies-in-body"] * 3
    server.seen.clear()
    failure(tool(server, "dies-in-body", retries=2, method="POST"))
    failure(tool(server, "bad-chunk", retries=2, method="PATCH"))
    assert server.seen == ["dies-in-body", "bad-chunk"]


def test_the_call_s_own_timeout_ends_it(server: MisbehavingServer) -> None:
    slow = tool(server, "hang", timeout=0.2, attempt_timeout=10)
    began = time.perf_counter()
    assert "within 0.2 s" in failure(slow, HTTPTimeoutError)
    assert time.perf_counter() - began < 5


def test_cancelling_closes_the_connection() -> None:
    server = MisbehavingServer()

    async def until(wanted: int) -> None:
        while server.open != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def run() -> None:
        slow = tool(server, "slow-body", attempt_timeout=30)
        task = asyncio.create_task(slow.call({}, CONTEXT))
        await until(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(0)

    try:
        asyncio.run(asyncio.wait_for(run(), 20))
    finally:
        server.close()


def test_an_agent_goes_on_after_each_of_them(server: MisbehavingServer) -> None:
    tools = {name: tool(server, name, name=name) for name in FAILURES}
    calls = [ToolCall(name=name, arguments={}) for name in tools]
    result = Agent(ScriptedModel([calls, "Done."]), tools=list(tools.values())).run_sync("Go")
    assert result.output == "Done."
    for record in result.calls:
        assert FAILURES[record.call.name][1] in record.observation


# --- TLS --------------------------------------------------------------------------------------


def tls_server(authority: trustme.CA, name: str) -> MisbehavingServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return MisbehavingServer(context)


def test_certificates_that_are_not_trusted() -> None:
    authority = trustme.CA()
    server = tls_server(authority, "127.0.0.1")
    try:
        message = failure(make(f"{server.url}/fine"), HTTPConnectionError)
        assert message.startswith("the service's certificate is not trusted (unable to get local")
        assert server.seen == []
    finally:
        server.close()


def test_certificates_of_another_name_and_trusted_ones() -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    right, wrong = tls_server(authority, "127.0.0.1"), tls_server(authority, "other.test")

    async def run(server: MisbehavingServer) -> Any:
        async with NetworkPolicy(allow_private=True).client(verify=trusting) as client:
            return await make(f"{server.url}/fine", client=client).call({}, CONTEXT)

    try:
        assert asyncio.run(run(right)) == {"a": 1}
        with pytest.raises(HTTPConnectionError, match=r"not trusted \(IP address mismatch"):
            asyncio.run(run(wrong))
    finally:
        right.close()
        wrong.close()


def test_plain_http_where_tls_is_expected_and_the_reverse(service: Service) -> None:
    url = service.url.replace("http:", "https:")
    message = failure(make(url, retries=0), HTTPConnectionError)
    assert message == ("the service could not be reached (wrong version number); it may work later")
    secure = tls_server(trustme.CA(), "127.0.0.1")
    try:
        plain = secure.url.replace("https:", "http:")
        failure(make(f"{plain}/fine", retries=0), HTTPConnectionError)
    finally:
        secure.close()
