"""Which operations of a document become tools, where they call and with what credentials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, ScriptedModel
from agentkit.errors import SchemaError, UserError
from agentkit_tools import BearerAuth, HTTPTool
from agentkit_tools.openapi import OpenAPITools
from http_support import Reply, Service, call
from openapi_support import PETS, document, only_tool, operation


def names(spec: Any = PETS, **options: Any) -> list[str]:
    return [tool.definition.name for tool in OpenAPITools.from_spec(spec, **options)]


# --- selection --------------------------------------------------------------------------------


def test_by_default_only_what_reads_and_is_not_deprecated() -> None:
    assert names() == ["listPets", "get_pets_petId"]
    assert names(deprecated=True) == ["listPets", "get_pets_petId", "oldPet"]


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        (["addPet"], ["addPet"]),
        (["*Pet"], ["addPet", "deletePet"]),
        (["GET /pets*"], ["listPets", "get_pets_petId"]),
        (["DELETE /pets/{petId}", "listPets"], ["listPets", "deletePet"]),
        (["oldPet"], ["oldPet"]),
    ],
)
def test_operations_are_named_by_id_key_or_pattern(include: list[str], expected: list[str]) -> None:
    assert names(include=include) == expected
    assert names(include=include, exclude=[include[0]]) == expected[: len(include) - 1]


def test_what_fits_nothing_is_told_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"no operation fits 'addPets'; did you mean 'addPet'"):
        names(include=["addPets"])
    with pytest.raises(UserError, match=r"the operations are: listPets, GET /pets, addPet"):
        names(include=["zzzzzzzzzzzzzzz"])
    with pytest.raises(UserError, match="no operation fits 'PUT"):
        names(exclude=["PUT *"])
    with pytest.raises(UserError, match=r"include must be a list, as in include=\['addPet'\]"):
        names(include="addPet")


def test_names_are_valid_and_unique_and_may_have_a_prefix() -> None:
    paths = {
        "/a b/{x}": {"get": {}},
        "/a/b/{x}": {"get": {}},
        "/v2": {"get": {"operationId": "v1/öffnen:now"}},
        f"/{'long' * 30}": {"get": {}},
    }
    made = names(document(paths=paths), prefix="my.")
    assert made[:3] == ["my.get_a_b_x", "my.get_a_b_x_2", "my.v1_ffnen_now"]
    assert len(made[3]) == 64


def test_an_agent_takes_them_as_they_are() -> None:
    tools = OpenAPITools.from_spec(PETS, include=["*"], approval="ask")
    agent = Agent(ScriptedModel(["hello"]), tools)
    assert agent.tools.names == [tool.definition.name for tool in tools]
    assert isinstance(tools[0], HTTPTool)
    asks = {tool.definition.name: getattr(tool, "approval", None) for tool in tools}
    assert asks == {
        "listPets": None,
        "addPet": "ask",
        "get_pets_petId": None,
        "deletePet": "ask",
    }


def test_what_a_pattern_takes_in_and_cannot_be_called_is_left_out_and_told() -> None:
    upload = {
        "requestBody": {"required": True, "content": {"image/png": {"schema": {"type": "string"}}}}
    }
    spec = operation("post", "/images", **upload)
    spec["paths"]["/pets"] = PETS["paths"]["/pets"]
    tools = OpenAPITools.from_spec(spec, include=["*"])
    assert [tool.definition.name for tool in tools] == ["listPets", "addPet"]
    (skipped,) = tools.skipped
    assert skipped.operation.key == "POST /images"
    assert "#/paths/~1images/post/requestBody/content: the body must be image/png" in skipped.reason
    with pytest.raises(SchemaError, match=r"POST /images cannot be a tool: .*image/png"):
        OpenAPITools.from_spec(spec, include=["it"])


# --- servers ----------------------------------------------------------------------------------


def url_of(spec: Any, **options: Any) -> str:
    return repr(only_tool(spec, **options)).split("'")[-2]


def test_the_nearest_server_with_its_variables_is_called() -> None:
    region = {
        "url": "https://{region}.example.org/{base}/",
        "description": "Production",
        "variables": {
            "region": {"default": "eu", "enum": ["eu", "us"]},
            "base": {"default": "v2"},
        },
    }
    spec = {**operation(), "servers": [region, {"url": "https://test", "description": "Sandbox"}]}
    assert url_of(spec) == "https://eu.example.org/v2/things"
    changed = url_of(spec, server_variables={"region": "us"})
    assert changed == "https://us.example.org/v2/things"
    assert url_of(spec, server="sandbox") == "https://test/things"
    assert url_of(spec, server="http://localhost:1/x/") == "http://localhost:1/x/things"
    spec["paths"]["/things"]["servers"] = [{"url": "https://path.example.org"}]
    assert url_of(spec) == "https://path.example.org/things"
    spec["paths"]["/things"]["get"]["servers"] = [{"url": "https://own.example.org"}]
    assert url_of(spec) == "https://own.example.org/things"


def test_servers_that_cannot_be_used_are_told() -> None:
    variable = {"url": "https://{x}.org", "variables": {"x": {"enum": ["a"]}}}
    spec = {**operation(), "servers": [variable]}
    with pytest.raises(UserError, match="/variables/x: the server's url needs a value for 'x'"):
        only_tool(spec)
    with pytest.raises(UserError, match="is 'b'; it must be one of 'a'"):
        only_tool(spec, server_variables={"x": "b"})
    with pytest.raises(UserError, match="neither a URL nor the description of a server"):
        only_tool(spec, server="staging")
    with pytest.raises(SchemaError, match="relative to where the document is published"):
        only_tool({**operation(), "servers": [{"url": "/v1"}]})
    with pytest.raises(SchemaError, match="names no server; give server="):
        only_tool({**operation(), "servers": []})


def test_relative_servers_are_below_where_the_document_is(service: Service) -> None:
    spec = json.dumps({**operation(), "servers": [{"url": "../v2"}]}).encode()
    service.replies.append(Reply(body=spec))
    assert url_of(f"{service.url}/docs/openapi.json") == f"{service.url}/v2/things"


# --- credentials ------------------------------------------------------------------------------

SCHEMES = {
    "header": {"type": "apiKey", "in": "header", "name": "X-Key"},
    "query": {"type": "apiKey", "in": "query", "name": "key"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "sid"},
    "bearer": {"type": "http", "scheme": "Bearer"},
    "basic": {"type": "http", "scheme": "basic"},
    "oauth": {"type": "oauth2", "flows": {"implicit": {"scopes": {}}}},
    "digest": {"type": "http", "scheme": "digest"},
}


def secured(*alternatives: dict[str, list[str]], server: str = "https://x.org") -> dict[str, Any]:
    spec = operation(security=list(alternatives))
    return {
        **spec,
        "servers": [{"url": server}],
        "components": {"securitySchemes": SCHEMES},
    }


@pytest.mark.parametrize(
    ("scheme", "variables", "sent"),
    [
        ("header", "PROBE_KEY", ("x-key", "the-key")),
        ("cookie", "PROBE_KEY", ("cookie", "sid=the-key")),
        ("bearer", "PROBE_KEY", ("authorization", "Bearer the-key")),
        ("oauth", "PROBE_KEY", ("authorization", "Bearer the-key")),
        ("basic", ("PROBE_USER", "PROBE_KEY"), ("authorization", "Basic YW5uOnRoZS1rZXk=")),
    ],
)
@pytest.mark.usefixtures("http_environment")
def test_security_schemes_become_credentials(
    scheme: str,
    variables: Any,
    sent: tuple[str, str],
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROBE_KEY", "the-key")
    tool = only_tool(secured({scheme: []}, server=service.url), auth={scheme: variables})
    call(tool)
    assert service.requests[0]["headers"][sent[0]] == sent[1]


@pytest.mark.usefixtures("http_environment")
def test_of_alternatives_the_first_that_can_be_met_is_used_as_a_whole(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_KEY", "the-key")
    spec = secured({"bearer": []}, {"header": [], "query": []}, server=service.url)
    call(only_tool(spec, auth={"header": "PROBE_KEY", "query": "PROBE_KEY"}))
    (request,) = service.requests
    assert request["headers"]["x-key"] == "the-key"
    assert request["query"] == [("key", "the-key")]
    assert "authorization" not in request["headers"]


@pytest.mark.usefixtures("http_environment")
def test_credentials_go_only_where_they_are_asked_for(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_KEY", "the-key")
    open_to_all = secured(server=service.url)
    call(only_tool(open_to_all, auth={"header": "PROBE_KEY"}))
    optional = secured({"bearer": []}, {}, server=service.url)
    call(only_tool(optional, auth={"header": "PROBE_KEY"}))
    for request in service.requests:
        assert "the-key" not in json.dumps(request)


@pytest.mark.usefixtures("http_environment")
def test_client_credentials_fetch_a_token_with_the_operations_scopes(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_ID", "me")
    monkeypatch.setenv("PROBE_KEY", "the-key")
    flow = {"tokenUrl": f"{service.url}/token", "scopes": {"read": "", "write": ""}}
    spec = secured({"oauth": ["read"]}, server=service.url)
    spec["components"]["securitySchemes"] = {
        "oauth": {"type": "oauth2", "flows": {"clientCredentials": flow}}
    }
    tool = only_tool(spec, auth={"oauth": ["PROBE_ID", "PROBE_KEY"]})
    service.replies.append(Reply(body=b'{"access_token": "t0ken", "token_type": "bearer"}'))
    call(tool)
    fetch, request = service.requests
    assert fetch["path"] == "/token"
    assert "scope=read" in fetch["body"]
    assert request["headers"]["authorization"] == "Bearer t0ken"


def test_credentials_that_do_not_fit_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_KEY", "the-key")
    with pytest.raises(UserError, match="no security scheme fits 'beaer'; did you mean 'bearer'"):
        only_tool(secured({"bearer": []}), auth={"beaer": "PROBE_KEY"})
    with pytest.raises(UserError, match=r"get/security: GET /things needs .* bearer; auth has he"):
        only_tool(secured({"bearer": []}), auth={"header": "PROBE_KEY"})
    with pytest.raises(UserError, match=r"auth\['basic'\]: name the environment 2 variables"):
        only_tool(secured({"basic": []}), auth={"basic": "PROBE_KEY"})
    with pytest.raises(UserError, match=r"securitySchemes/digest: .* is not supported"):
        only_tool(secured({"digest": []}), auth={"digest": "PROBE_KEY"})
    with pytest.raises(UserError, match="there is no client credentials flow"):
        only_tool(secured({"oauth": []}), auth={"oauth": ["PROBE_ID", "PROBE_KEY"]})
    with pytest.raises(UserError, match="NO_SUCH_KEY is not set"):
        only_tool(secured({"header": []}), auth={"header": "NO_SUCH_KEY"})
    with pytest.raises(UserError, match="auth must be a BearerAuth or the like"):
        only_tool(secured(), auth="PROBE_KEY")
    anything = only_tool(secured({"digest": []}), auth=BearerAuth(env="PROBE_KEY"))
    assert anything.definition.name == "it"


def test_a_document_may_be_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "pets.json"
    path.write_text(json.dumps(PETS))
    assert names(path) == names(str(path)) == names()
