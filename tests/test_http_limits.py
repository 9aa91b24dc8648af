"""HTTPTool: limits of a host, idempotency keys, and the cache."""

from __future__ import annotations

import asyncio
import gzip
import time
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from agentkit.errors import UserError
from agentkit_tools import APIKeyAuth, BearerAuth, HostLimits, HTTPTimeoutError
from http_support import CITY, CONTEXT, SECRET, Reply, call, failure, make

if TYPE_CHECKING:
    from http_support import Service

pytestmark = pytest.mark.usefixtures("http_environment")

FRESH = {"Cache-Control": "max-age=600"}


# --- limits -----------------------------------------------------------------------------------


def test_tools_share_the_slots_of_a_host(service: Service) -> None:
    limits = HostLimits(concurrency=3)
    tools = [make(service.url, limits=limits) for _ in range(4)]

    async def run() -> None:
        await asyncio.gather(*(tool.call({}, CONTEXT) for tool in tools for _ in range(6)))

    asyncio.run(run())
    asyncio.run(run())
    assert len(service.requests) == 48
    assert service.most_active <= 3


def test_requests_are_spread_over_time(service: Service) -> None:
    tool = make(service.url, limits=HostLimits(requests=20, per=1.0, burst=4))

    async def run() -> float:
        began = time.monotonic()
        await asyncio.gather(*(tool.call({}, CONTEXT) for _ in range(10)))
        return time.monotonic() - began

    # Four at once, then six at 50 ms each; it can only take longer.
    assert asyncio.run(run()) >= 0.3


def test_each_host_has_its_own_limits() -> None:
    limits = HostLimits(concurrency=1, requests=0.001)

    async def run() -> None:
        async with limits.slot("a"), limits.slot("b"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), limits.slot("a"):
                    pass

    asyncio.run(run())


def test_retry_after_holds_back_the_other_calls(service: Service) -> None:
    service.replies.append(Reply(429, headers={"Retry-After": "1"}))
    limits = HostLimits(concurrency=5)
    tool = make(service.url, limits=limits, retries=0)

    async def run() -> float:
        with pytest.raises(Exception, match="429"):
            await tool.call({}, CONTEXT)
        began = time.monotonic()
        await tool.call({}, CONTEXT)
        return time.monotonic() - began

    assert asyncio.run(run()) >= 0.9


def test_waiting_for_a_slot_ends_with_the_tool_s_timeout(service: Service) -> None:
    limits = HostLimits(requests=0.001)
    tool = make(service.url, limits=limits, timeout=0.1)
    call(tool)
    assert "within 0.1 s" in failure(tool, HTTPTimeoutError)
    assert len(service.requests) == 1


@pytest.mark.parametrize("option", ["concurrency", "requests", "per", "burst"])
def test_limits_are_positive(option: str) -> None:
    with pytest.raises(UserError, match=f"HostLimits: {option} must be more than 0"):
        HostLimits(**{option: 0})


# --- idempotency ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_key_makes_a_request_repeatable(service: Service, method: str) -> None:
    service.replies += [Reply(503), Reply(502)]
    tool = make(service.url, method=method, idempotency_header="Idempotency-Key")
    call(tool)
    keys = [seen["headers"]["idempotency-key"] for seen in service.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    call(tool)
    assert service.requests[3]["headers"]["idempotency-key"] not in keys


def test_what_was_never_sent_may_be_sent_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = httpx.AsyncClient.send
    attempts = []

    async def send(self: Any, request: httpx.Request, **options: Any) -> httpx.Response:
        attempts.append(request)
        if len(attempts) == 1:
            raise httpx.ConnectError("refused")
        return await real(self, request, **options)

    monkeypatch.setattr(httpx.AsyncClient, "send", send)
    assert call(make(service.url, method="POST", parameters=CITY), city="Oslo")["body"] == {
        "city": "Oslo"
    }
    assert len(service.requests) == 1


# --- cache ------------------------------------------------------------------------------------


def test_a_fresh_response_is_not_asked_for_again(service: Service, tmp_path: Path) -> None:
    service.replies += [Reply(body=b"[1]", headers=FRESH), Reply(body=b"[2]", headers=FRESH)]
    schema = {"properties": {"q": {"type": "string"}}}
    tool = make(service.url, parameters=schema, cache=tmp_path / "a" / "b")
    assert [call(tool, q="x"), call(tool, q="y"), call(tool, q="x")] == [[1], [2], [1]]
    # Another tool, as another process would be, finds them in the folder.
    again = make(service.url, parameters=schema, cache=str(tmp_path / "a" / "b"))
    assert call(again, q="y") == [2]
    assert len(service.requests) == 2


def test_a_temporary_cache_outlives_event_loops(service: Service) -> None:
    squeezed = {**FRESH, "Content-Encoding": "gzip"}
    service.replies += [Reply(body=gzip.compress(b'{"a": "\xc3\xa4"}'), headers=squeezed)]
    tool = make(service.url, cache=True)
    assert [call(tool), call(tool)] == [{"a": "ä"}] * 2
    assert len(service.requests) == 1
    assert call(make(service.url, cache=True))["method"] == "GET"


def test_a_stale_response_is_confirmed(service: Service) -> None:
    headers = {"Cache-Control": "no-cache", "ETag": '"v1"'}
    service.replies += [Reply(body=b"[1]", headers=headers), Reply(304, b"", headers)]
    tool = make(service.url, cache=True)
    assert [call(tool), call(tool)] == [[1], [1]]
    assert service.requests[1]["headers"]["if-none-match"] == '"v1"'


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"[1]"),
        Reply(body=b"[1]", headers={"Cache-Control": "no-store"}),
        Reply(404, headers={"Cache-Control": "no-store"}),
        Reply(503, headers=FRESH),
    ],
    ids=["undeclared", "no-store", "not-found", "unavailable"],
)
def test_what_is_not_declared_to_be_fresh_is_asked_for(service: Service, reply: Reply) -> None:
    service.replies += [reply, Reply(body=b"[2]")]
    tool = make(service.url, cache=True, retries=0)
    if reply.status == 200:
        assert call(tool) == [1]
    else:
        assert str(reply.status) in failure(tool)
    assert call(tool) == [2]


@pytest.mark.parametrize("place", ["header", "query", "cookie"])
def test_no_credential_is_written_to_the_cache(
    service: Service, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.replies += [Reply(body=b"[1]", headers=FRESH), Reply(body=b"[2]", headers=FRESH)]
    auth = APIKeyAuth(env="PROBE_TOKEN", **{place: "x-key"})
    tool = make(service.url, auth=auth, cache=tmp_path)
    assert [call(tool), call(tool)] == [[1], [1]]
    assert SECRET.split("/")[0] in str(service.requests)
    for file in tmp_path.iterdir():
        assert b"s3cret" not in file.read_bytes()
    monkeypatch.setenv("PROBE_TOKEN", "of-another-user")
    assert call(make(service.url, auth=auth, cache=tmp_path)) == [2]


def test_responses_to_different_cookies_are_kept_apart(service: Service, tmp_path: Path) -> None:
    service.replies += [Reply(body=b"[1]", headers=FRESH), Reply(body=b"[2]", headers=FRESH)]
    tool = make(service.url, parameters=CITY, cookies={"city": "{city}"}, cache=tmp_path)
    assert [call(tool, city="a"), call(tool, city="b"), call(tool, city="a")] == [[1], [2], [1]]


def test_a_response_over_the_limit_is_refused_also_with_a_cache(service: Service) -> None:
    service.replies += [Reply(body=b"[" + b" " * 5000 + b"]", headers=FRESH)] * 2
    tool = make(service.url, cache=True, max_response_bytes=1000)
    assert "larger than the limit" in failure(tool)
    assert "larger than the limit" in failure(tool)


def test_what_cannot_be_cached_is_refused(service: Service) -> None:
    user = ContextVar("user", default="x")
    with pytest.raises(UserError, match="credentials from a function"):
        make(service.url, auth=BearerAuth(token=user.get), cache=True)
    with pytest.raises(UserError, match="GET and HEAD, not POST"):
        make(service.url, method="POST", cache=True)
    with pytest.raises(UserError, match="client of your own"):
        make(service.url, client=httpx.AsyncClient(), cache=True)
