"""Credentials of HTTPTool: sent to the service, and shown to nobody else."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickle
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from agentkit.errors import UserError
from agentkit_tools import APIKeyAuth, BasicAuth, BearerAuth
from http_support import CONTEXT, SECRET, Reply, call, failure, make

if TYPE_CHECKING:
    from http_support import Service

pytestmark = pytest.mark.usefixtures("http_environment")


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (BearerAuth(env="PROBE_TOKEN"), "authorization", f"Bearer {SECRET}"),
        (APIKeyAuth(env="PROBE_TOKEN", header="X-Key"), "x-key", SECRET),
        (BearerAuth(token=lambda: SECRET), "authorization", f"Bearer {SECRET}"),
        (APIKeyAuth(key=lambda: SECRET, cookie="sid"), "cookie", f"sid={SECRET}"),
        (
            BasicAuth(user=lambda: "ann", password=lambda: SECRET),
            "authorization",
            "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode(),
        ),
        (
            BasicAuth(user_env="PROBE_USER", password_env="PROBE_TOKEN"),
            "authorization",
            "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode(),
        ),
    ],
)
def test_credentials_are_sent_and_never_shown(
    service: Service, auth: Any, header: str, value: str
) -> None:
    tool = make(service.url, auth=auth)
    echoed = call(tool)
    assert service.requests[0]["headers"][header] == value
    assert "[secret]" in echoed["headers"][header]
    service.replies.append(Reply(403, json.dumps({"bad": value}).encode()))
    message = failure(tool)
    assert "[secret]" in message
    for text in (message, str(echoed), repr(tool), repr(auth)):
        assert value not in text
        assert SECRET not in text


def test_a_key_in_the_query_is_sent_and_never_shown(service: Service) -> None:
    auth = APIKeyAuth(env="PROBE_TOKEN", query="key")
    echoed = call(make(service.url + "/?a=1", auth=auth))
    assert service.requests[0]["query"] == [("a", "1"), ("key", SECRET)]
    assert SECRET not in str(echoed)
    assert "token%2Bvalue" not in str(echoed)


def test_missing_credentials_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = BearerAuth(env="PROBE_TOKEN")
    tool = make("http://127.0.0.1:9/", auth=auth)
    monkeypatch.delenv("PROBE_TOKEN")
    with pytest.raises(UserError, match="PROBE_TOKEN"):
        make("http://127.0.0.1:9/", auth=auth)
    with pytest.raises(UserError, match="PROBE_TOKEN"):
        call(tool)
    monkeypatch.setenv("PROBE_TOKEN", "two\nlines")
    with pytest.raises(UserError, match="cannot be sent") as caught:
        make("http://127.0.0.1:9/", auth=auth)
    assert "lines\n" not in str(caught.value)
    with pytest.raises(UserError, match="not both"):
        APIKeyAuth(env="PROBE_TOKEN")


def test_a_cookie_joins_those_of_the_tool(service: Service, monkeypatch: Any) -> None:
    monkeypatch.setenv("PROBE_TOKEN", "a;b c")
    auth = APIKeyAuth(env="PROBE_TOKEN", cookie="sid")
    tool = make(service.url, cookies={"lang": "en", "sid": "old"}, auth=auth)
    shown = call(tool)["headers"]["cookie"]
    assert service.requests[0]["headers"]["cookie"] == "lang=en; sid=a%3Bb%20c"
    assert shown == "lang=en; sid=[secret]"


def test_functions_give_each_call_its_own_credential(service: Service) -> None:
    user = ContextVar("user", default="nobody")

    async def token() -> str:
        await asyncio.sleep(0.01)
        return f"token-of-{user.get()}"

    tool = make(service.url, auth=BearerAuth(token=token))

    async def one(name: str) -> Any:
        user.set(name)
        return await tool.call({}, CONTEXT)

    async def run() -> list[Any]:
        return await asyncio.gather(*(asyncio.create_task(one(f"user{n}")) for n in range(10)))

    shown = asyncio.run(run())
    assert {seen["headers"]["authorization"] for seen in service.requests} == {
        f"Bearer token-of-user{n}" for n in range(10)
    }
    assert {seen["headers"]["authorization"] for seen in shown} == {"Bearer [secret]"}


@pytest.mark.parametrize("given", ["", "two\nlines", 7, None])
def test_what_a_function_gives_is_checked(service: Service, given: Any) -> None:
    tool = make(service.url, auth=BearerAuth(token=lambda: given))
    with pytest.raises(UserError, match="printable ASCII") as caught:
        call(tool)
    assert "lines" not in str(caught.value)
    assert service.requests == []


@pytest.mark.parametrize("spelling", ["plain", "json", "slashes", "url"])
def test_echoes_in_other_spellings_are_blotted_out(
    service: Service, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    secret = 'a"b/c+d&e'
    monkeypatch.setenv("PROBE_TOKEN", secret)
    echo = {
        "plain": secret,
        "json": 'a\\"b/c+d&e',
        "slashes": 'a\\"b\\/c+d&e',
        "url": "a%22b%2Fc%2Bd%26e",
    }[spelling]
    service.replies.append(Reply(400, f"bad: {echo}".encode(), {"Content-Type": "text/plain"}))
    assert failure(make(service.url, auth=BearerAuth(env="PROBE_TOKEN"))).endswith(
        ": bad: [secret]"
    )


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"you sent": [f"Bearer {SECRET}"]}).encode(),
        json.dumps({SECRET: 1, "beside": "é"}, ensure_ascii=False).encode(),
        b'{"a": "' + "".join(f"\\u{ord(c):04x}" for c in SECRET).encode() + b'"}',
        json.dumps([SECRET]).encode("utf-16"),
        json.dumps([SECRET]).encode("utf-32-le"),
    ],
    ids=["value", "key", "escaped", "utf-16", "utf-32"],
)
def test_echoes_within_json_are_blotted_out(
    service: Service, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setenv("PROBE_TOKEN", SECRET)
    service.replies.append(Reply(200, body, {"Content-Type": "application/json"}))
    shown = str(call(make(service.url, auth=BearerAuth(env="PROBE_TOKEN"))))
    assert SECRET not in shown
    assert "[secret]" in shown


def test_logs_hold_no_credentials(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.replies.append(Reply(headers={"X-Echo": SECRET}))
    with caplog.at_level(logging.DEBUG):
        call(make(service.url + "/?a=1", auth=APIKeyAuth(env="PROBE_TOKEN", query="key")))
    text = caplog.text
    assert "HTTP Request: GET" in text
    assert "key=[secret]" in text
    assert "[secret]" in text.partition("X-Echo")[2][:40]
    assert SECRET not in text
    assert "s3cret" not in text


def test_credentials_can_be_printed_and_pickled() -> None:
    for auth in (
        BearerAuth(env="PROBE_TOKEN"),
        APIKeyAuth(env="PROBE_TOKEN", header="X-Key"),
        BasicAuth(user_env="PROBE_USER", password_env="PROBE_TOKEN"),
    ):
        assert pickle.loads(pickle.dumps(auth)) == auth
        assert SECRET not in repr(auth)


@pytest.mark.parametrize(
    ("make_auth", "part"),
    [
        (lambda: BearerAuth(), "give either env=... or token=..."),
        (lambda: BearerAuth(env="A", token=lambda: "x"), "give either env=... or token=..."),
        (lambda: BasicAuth(user_env="A"), "password_env=... or password=..."),
        (lambda: APIKeyAuth(env="A", header="X", cookie="c"), "and not both"),
    ],
)
def test_one_source_and_one_place(make_auth: Any, part: str) -> None:
    with pytest.raises(UserError) as caught:
        make_auth()
    assert part in str(caught.value)
