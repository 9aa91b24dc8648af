"""Credentials of HTTPTool: sent to the service, and shown to nobody else."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentkit.errors import UserError
from agentkit_tools import APIKeyAuth, BasicAuth, BearerAuth
from http_support import SECRET, Reply, call, failure, make

if TYPE_CHECKING:
    from http_support import Service

pytestmark = pytest.mark.usefixtures("http_environment")


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (BearerAuth(env="PROBE_TOKEN"), "authorization", f"Bearer {SECRET}"),
        (APIKeyAuth(env="PROBE_TOKEN", header="X-Key"), "x-key", SECRET),
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
