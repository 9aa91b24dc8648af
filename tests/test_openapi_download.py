"""OpenAPI documents from a URL: under the network policy, and no larger than is read."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

from agentkit.errors import UserError
from agentkit_tools import NetworkPolicy
from agentkit_tools.openapi import OpenAPITools
from http_support import Reply, Service

pytestmark = pytest.mark.usefixtures("http_environment")
SPEC = json.dumps(
    {
        "openapi": "3.1.0",
        "info": {"title": "Pets", "version": "1"},
        "servers": [{"url": "/v1"}],
        "paths": {"/pets": {"get": {"operationId": "list_pets", "responses": {}}}},
    }
).encode()
JSON = {"Content-Type": "application/json"}


def test_a_document_is_loaded_from_the_host_that_its_url_names(service: Service) -> None:
    packed = Reply(body=gzip.compress(SPEC), headers={**JSON, "Content-Encoding": "gzip"})
    service.replies += [Reply(body=SPEC, headers=JSON), packed]
    url = f"{service.url}/openapi.json"
    (tool,) = OpenAPITools.from_spec(url)
    assert tool.definition.name == "list_pets"

    async def within_a_loop() -> int:
        return len(OpenAPITools.from_spec(url))

    assert asyncio.run(within_a_loop()) == 1


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(302, headers={"Location": "http://169.254.169.254/latest"}), "metadata"),
        (Reply(302, headers={"Location": "http://10.0.0.1/openapi.json"}), "private"),
        (Reply(404), "404"),
        (Reply(headers={**JSON, "Content-Encoding": "gzip"}, body=b"none"), "decompressed"),
    ],
)
def test_what_cannot_be_loaded(service: Service, reply: Reply, message: str) -> None:
    service.replies.append(reply)
    with pytest.raises(UserError, match=message):
        OpenAPITools.from_spec(f"{service.url}/openapi.json")


def test_the_policy_of_the_options_holds_for_the_document(service: Service) -> None:
    policy = NetworkPolicy(only_hosts=["api.example.org"])
    with pytest.raises(UserError, match="not allowed"):
        OpenAPITools.from_spec(f"{service.url}/openapi.json", options={"network": policy})
    assert not service.requests
