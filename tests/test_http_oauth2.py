"""OAuth 2.0 client credentials: fetched once, kept, renewed, and never shown."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from agentkit.errors import UserError
from agentkit_tools import (
    HTTPAuthError,
    HTTPStatusError,
    NetworkPolicy,
    OAuth2ClientCredentials,
)
from http_support import CONTEXT, SECRET, Reply, Service, call, failure, make

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("http_environment")


def token(name: str, **more: Any) -> Reply:
    answer = {"access_token": f"token-{name}", "token_type": "Bearer", "expires_in": 3600, **more}
    return Reply(body=json.dumps(answer).encode())


@pytest.fixture
def issuer() -> Iterator[Service]:
    running = Service()
    yield running
    running.close()


def credentials(issuer: Service, **options: Any) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(
        token_url=issuer.url + "/token",
        client_id_env="PROBE_USER",
        client_secret_env="PROBE_TOKEN",
        **options,
    )


def tokens_seen(service: Service) -> list[str]:
    return [seen["headers"]["authorization"] for seen in service.requests]


def test_a_token_is_fetched_once_and_kept(service: Service, issuer: Service) -> None:
    issuer.replies += [token("a")]
    auth = credentials(issuer, scopes=["read", "write"], parameters={"audience": "api"})
    tool = make(service.url, auth=auth)
    for _ in range(2):
        assert call(tool)["headers"]["authorization"] == "Bearer [secret]"
    assert tokens_seen(service) == ["Bearer token-a"] * 2
    (fetched,) = issuer.requests
    assert fetched["method"] == "POST"
    assert parse_qs(fetched["body"]) == {
        "grant_type": ["client_credentials"],
        "audience": ["api"],
        "scope": ["read write"],
    }
    encoded = base64.b64encode(b"ann:s3cret%2Ftoken%2Bvalue").decode()
    assert fetched["headers"]["authorization"] == f"Basic {encoded}"
    for text in (repr(auth), repr(tool)):
        assert SECRET not in text
        assert "token-a" not in text


def test_the_secret_may_go_into_the_body(service: Service, issuer: Service) -> None:
    issuer.replies += [token("a")]
    auth = OAuth2ClientCredentials(
        token_url=issuer.url,
        client_id=lambda: "me",
        client_secret=lambda: SECRET,
        secret_in="body",
    )
    call(make(service.url, auth=auth))
    fetched = issuer.requests[0]
    assert "authorization" not in fetched["headers"]
    assert parse_qs(fetched["body"])["client_secret"] == [SECRET]
    assert parse_qs(fetched["body"])["client_id"] == ["me"]


def test_many_calls_fetch_one_token(service: Service, issuer: Service) -> None:
    issuer.replies += [token("a")]
    auth = credentials(issuer)
    tools = [make(service.url, auth=auth) for _ in range(3)]

    async def run() -> None:
        await asyncio.gather(*(tool.call({}, CONTEXT) for tool in tools for _ in range(5)))

    asyncio.run(run())
    assert len(issuer.requests) == 1
    assert tokens_seen(service) == ["Bearer token-a"] * 15


def test_a_token_that_expires_is_fetched_anew(service: Service, issuer: Service) -> None:
    issuer.replies += [token("a", expires_in="0.0001"), token("b", expires_in=None), token("c")]
    tool = make(service.url, auth=credentials(issuer))
    for _ in range(3):
        call(tool)
    assert tokens_seen(service) == ["Bearer token-a", "Bearer token-b", "Bearer token-b"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refused_token_is_renewed_once(service: Service, issuer: Service, method: str) -> None:
    issuer.replies += [token("a"), token("b"), token("c"), token("d")]
    service.replies += [Reply(401), Reply(body=b"[1]"), Reply(401), Reply(401)]
    tool = make(service.url, method=method, auth=credentials(issuer))
    assert call(tool) == [1]
    assert "credentials were not accepted" in failure(tool, HTTPStatusError)
    assert tokens_seen(service) == [f"Bearer token-{name}" for name in "abbc"]


def test_calls_refused_together_renew_the_token_together(service: Service, issuer: Service) -> None:
    issuer.replies += [token("a"), token("b")]
    service.replies += [Reply(401)] * 5
    tool = make(service.url, auth=credentials(issuer))

    async def run() -> list[Any]:
        return await asyncio.gather(*(tool.call({}, CONTEXT) for _ in range(5)))

    assert len(asyncio.run(run())) == 5
    assert len(issuer.requests) == 2
    assert sorted(tokens_seen(service)) == ["Bearer token-a"] * 5 + ["Bearer token-b"] * 5


@pytest.mark.parametrize(
    ("reply", "part"),
    [
        (Reply(401, b'{"error": "invalid_client"}'), "answered 401: invalid_client"),
        (Reply(400, f'{{"error": "bad {SECRET}"}}'.encode()), "answered 400: bad [secret]"),
        (Reply(500, b"<html>"), "answered 500)"),
        (Reply(200, b"[]"), "holds no access_token"),
        (Reply(200, b"not JSON"), "holds no access_token"),
        (Reply(200, b'{"access_token": "a\\nb"}'), "holds no access_token"),
        (token("x", token_type="mac"), "not a bearer token"),
        (Reply(200, b" " * 100_000), "larger than the limit"),
        (Reply(302, headers={"Location": "http://169.254.169.254/"}), "is not followed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_token_is_a_short_message(
    service: Service, issuer: Service, reply: Reply, part: str
) -> None:
    issuer.replies.append(reply)
    message = failure(make(service.url, auth=credentials(issuer)), HTTPAuthError)
    assert part in message
    assert message.startswith("the tool could not get an access token (")
    assert SECRET not in message
    assert service.requests == []


def test_a_busy_token_service_is_asked_again(service: Service, issuer: Service) -> None:
    issuer.replies += [Reply(503), Reply(429), token("a")]
    call(make(service.url, auth=credentials(issuer)))
    assert tokens_seen(service) == ["Bearer token-a"]


def test_a_cancelled_fetch_leaves_the_next_call_free(service: Service, issuer: Service) -> None:
    issuer.replies += [Reply(wait=True), token("b")]
    tool = make(service.url, auth=credentials(issuer))

    async def run() -> Any:
        first = asyncio.create_task(tool.call({}, CONTEXT))
        second = asyncio.create_task(tool.call({}, CONTEXT))
        await asyncio.sleep(0.1)
        first.cancel()
        return await second

    assert asyncio.run(asyncio.wait_for(run(), 20))["method"] == "GET"
    assert tokens_seen(service) == ["Bearer token-b"]


def test_the_token_service_is_under_a_network_policy(issuer: Service) -> None:
    with pytest.raises(UserError, match="token_url: forbidden"):
        credentials(issuer, network=NetworkPolicy(ports=[443]))


def test_copies_hold_no_token(service: Service, issuer: Service) -> None:
    issuer.replies += [token("a"), token("b")]
    auth = credentials(issuer)
    call(make(service.url, auth=auth))
    copied = pickle.dumps(auth)
    assert b"token-a" not in copied
    call(make(service.url, auth=pickle.loads(copied)))
    assert tokens_seen(service) == ["Bearer token-a", "Bearer token-b"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"scopes": "a b"}, "['a', 'b']"),
        ({"secret_in": "query"}, "'query'"),
        ({"client_id": lambda: "x"}, "client_id_env=... or client_id=..."),
    ],
)
def test_mistakes_are_named(issuer: Service, options: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as caught:
        credentials(issuer, **options)
    assert part in str(caught.value)
