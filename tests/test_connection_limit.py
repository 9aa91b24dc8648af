"""A client under a policy waits for its connections, no longer than it is told to."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from agentkit_tools import NetworkPolicy
from http_support import Reply, Service

pytestmark = pytest.mark.usefixtures("http_environment")


def client_for(service: Service, connections: int, **options: float) -> httpx.AsyncClient:
    policy = NetworkPolicy(allow_hosts=[f"127.0.0.1:{service.port}"])
    limits = httpx.Limits(max_connections=connections)
    return policy.client(limits=limits, timeout=httpx.Timeout(5.0, **options))


async def arrival(service: Service, count: int) -> None:
    """Wait until the server has got so many requests."""
    for _ in range(1000):
        if len(service.requests) >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(service.requests)} requests came, not {count}")


def test_no_more_connections_than_allowed_and_everybody_gets_one(service: Service) -> None:
    async def run() -> list[int]:
        async with client_for(service, 3) as client:
            responses = await asyncio.gather(*(client.get(service.url) for _ in range(40)))
            assert {response.status_code for response in responses} == {200}
            return sorted({seen["client"][1] for seen in service.requests})

    asyncio.run(run())
    assert len(service.requests) == 40
    assert 1 <= service.most_active <= 3


def test_waiting_for_a_connection_ends(service: Service) -> None:
    service.replies.append(Reply(wait=True))

    async def run() -> None:
        async with client_for(service, 1, pool=0.1) as client:
            first = asyncio.create_task(client.get(service.url))
            await arrival(service, 1)
            with pytest.raises(httpx.PoolTimeout, match=r"within 0\.1 s"):
                await client.get(service.url)
            service.released.set()
            assert (await first).status_code == 200
            assert (await client.get(service.url)).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize("waiting", [True, False], ids=["who-waits", "who-was-served"])
def test_who_is_cancelled_or_fails_leaves_no_place_taken(service: Service, waiting: bool) -> None:
    async def run() -> None:
        async with client_for(service, 1) as client:
            for _ in range(3):
                service.released.clear()
                service.replies.append(Reply(wait=True))
                before = len(service.requests)
                first = asyncio.create_task(client.get(service.url))
                await arrival(service, before + 1)
                second = asyncio.create_task(client.get(service.url))
                await asyncio.sleep(0.02)
                (second if waiting else first).cancel()
                service.released.set()
                ended = await asyncio.gather(first, second, return_exceptions=True)
                assert isinstance(ended[1 if waiting else 0], asyncio.CancelledError)
                assert isinstance(ended[0 if waiting else 1], httpx.Response)
            with pytest.raises(httpx.ConnectError):
                await client.get("http://name.invalid")
            assert (await client.get(service.url)).status_code == 200

    asyncio.run(run())


def test_a_body_that_is_not_read_to_its_end(service: Service) -> None:
    async def run() -> None:
        async with client_for(service, 1) as client:
            for _ in range(3):
                async with client.stream("GET", service.url) as response:
                    assert response.status_code == 200
            assert (await client.get(service.url)).status_code == 200

    asyncio.run(run())
