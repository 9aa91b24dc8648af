"""HTTPTool: retries, redirects, time limits, and the connections beneath."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from typing import TYPE_CHECKING

import httpx
import pytest
import stamina

from agentkit_tools import APIKeyAuth, BearerAuth
from http_support import CONTEXT, SECRET, Reply, call, failure, make

if TYPE_CHECKING:
    from http_support import Service

pytestmark = pytest.mark.usefixtures("http_environment")


def test_a_failed_request_is_sent_again(service: Service) -> None:
    service.replies += [Reply(503), Reply(429, headers={"Retry-After": "1"}), Reply(body=b"[1]")]
    assert call(make(service.url)) == [1]
    assert len(service.requests) == 3


def test_retries_end(service: Service) -> None:
    service.replies += [Reply(502, b'{"detail": "down"}')] * 5
    message = failure(make(service.url, retries=1))
    assert message.startswith("the service answered 502 Bad Gateway")
    assert message.endswith(': {"detail": "down"}')
    assert len(service.requests) == 2


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_is_not_idempotent_is_sent_once(service: Service, method: str) -> None:
    service.replies += [Reply(503)] * 3
    assert "503" in failure(make(service.url, method=method))
    assert len(service.requests) == 1


@pytest.mark.parametrize("after", ["3600", "Fri, 31 Dec 2999 23:59:59 GMT"])
def test_a_long_retry_after_is_not_waited_for(service: Service, after: str) -> None:
    service.replies += [Reply(429, headers={"Retry-After": after})] * 3
    assert "it asks to wait" in failure(make(service.url))
    assert len(service.requests) == 1


@pytest.mark.parametrize("after", ["0", "Thu, 01 Jan 1970 00:00:00 GMT", "soon"])
def test_a_retry_after_of_the_past_or_of_no_meaning(service: Service, after: str) -> None:
    service.replies += [Reply(503, headers={"Retry-After": after})]
    assert call(make(service.url))["method"] == "GET"
    assert len(service.requests) == 2


def test_a_short_retry_after_is_obeyed_without_test_mode(service: Service) -> None:
    service.replies += [Reply(503, headers={"Retry-After": "0"})]
    with stamina.set_testing(False):
        assert call(make(service.url))["method"] == "GET"


def test_a_slow_service_is_given_up_and_tried_again(service: Service) -> None:
    service.replies += [Reply(wait=True)] * 2
    message = failure(make(service.url, attempt_timeout=0.2, retries=1))
    assert message == "the service did not answer within 0.2 s, 2 times; it may work later"
    assert len(service.requests) == 2


def test_an_unreachable_service() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    message = failure(make(f"http://127.0.0.1:{port}/", retries=0))
    assert message.startswith("the service could not be reached")


def test_error_responses_are_described_briefly(service: Service) -> None:
    service.replies += [
        Reply(404, b'{"detail": "no such city"}'),
        Reply(500, b"<html>" + b"x" * 100, {"Content-Type": "text/html"}),
        Reply(400, b"y" * 1_000_000, {"Content-Type": "text/plain"}),
        Reply(401),
    ]
    tool = make(service.url)
    assert failure(tool) == (
        "the service answered 404 Not Found (nothing is there under these arguments): "
        '{"detail": "no such city"}'
    )
    assert "html" not in failure(tool)
    assert len(failure(tool)) < 400
    assert "credentials" in failure(tool)


def test_redirects_on_the_same_host_are_followed_with_credentials(service: Service) -> None:
    service.replies += [Reply(302, headers={"Location": "/new?x=1"})]
    auth = APIKeyAuth(env="PROBE_TOKEN", query="key")
    call(make(service.url + "/old", auth=auth))
    assert service.requests[1]["path"] == "/new"
    assert service.requests[1]["query"] == [("x", "1"), ("key", SECRET)]


def test_redirects_to_another_host_are_not_followed(service: Service) -> None:
    elsewhere = f"http://localhost:{service.port}/?key=abc"
    service.replies += [Reply(307, headers={"Location": elsewhere})]
    message = failure(make(service.url, method="POST", auth=BearerAuth(env="PROBE_TOKEN")))
    assert "redirects to http://localhost, which is not followed" in message
    assert len(service.requests) == 1


def test_endless_redirects_end(service: Service) -> None:
    service.replies += [Reply(302, headers={"Location": "/"})] * 20
    assert failure(make(service.url)) == "the service redirects more than 5 times"


# --- event loops ------------------------------------------------------------------------------


def test_connections_are_kept_within_a_loop_and_closed_with_it(service: Service) -> None:
    tool = make(service.url)

    async def twice() -> None:
        await tool.call({}, CONTEXT)
        await tool.call({}, CONTEXT)

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        asyncio.run(twice())
        asyncio.run(twice())
        gc.collect()
    clients = [tuple(seen["client"]) for seen in service.requests]
    assert clients[0] == clients[1]
    assert clients[2] == clients[3]
    assert clients[1] != clients[2]


def test_concurrent_calls_and_closing(service: Service) -> None:
    tool = make(service.url)

    async def run() -> list[str]:
        first = await asyncio.gather(*(tool.call({}, CONTEXT) for _ in range(8)))
        await tool.aclose()
        await tool.aclose()
        return [seen["method"] for seen in (*first, await tool.call({}, CONTEXT))]

    assert asyncio.run(run()) == ["GET"] * 9


def test_a_client_of_one_s_own_is_used_and_left_open(service: Service) -> None:
    async def run() -> bool:
        async with httpx.AsyncClient(headers={"X-Mine": "1"}) as client:
            tool = make(service.url, client=client)
            await tool.call({}, CONTEXT)
            await tool.aclose()
            return client.is_closed

    assert asyncio.run(run()) is False
    assert service.requests[0]["headers"]["x-mine"] == "1"
