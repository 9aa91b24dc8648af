"""Calls arrive at a real server as the document says, and documents are read as written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, AssistantMessage, ScriptedModel, ToolCall
from agentkit.errors import SchemaError, UserError
from agentkit_tools.openapi import OpenAPITools
from http_support import Reply, Service, call
from openapi_support import PETS, document, only_tool, operation

pytestmark = pytest.mark.usefixtures("http_environment")

ORDERS = """
openapi: 3.1.0
info: {title: Orders, version: "1"}
servers: [{url: "SERVER/api"}]
paths:
  /shops/{shop-id}/orders:
    parameters:
      - {name: shop-id, in: path, required: true, schema: {type: string}}
      - {name: X-Request-Source, in: header, schema: {type: string}}
    get:
      operationId: findOrders
      parameters:
        - {name: "filter[status]", in: query, schema: {type: string, enum: [open, NO]}}
        - {name: ids, in: query, explode: false, schema: {type: array, items: {type: integer}}}
        - {name: range, in: query, style: deepObject, schema: {type: object}}
        - {name: where, in: query, content: {application/json: {schema: {type: object}}}}
        - {name: Accept, in: header, schema: {type: string}}
    post:
      operationId: addOrder
      parameters:
        - {name: X-Request-Source, in: header, required: true, schema: {type: string}}
        - {name: note, in: query, schema: {type: string}}
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [items]
              properties:
                items: {type: array, items: {$ref: "#/components/schemas/Item"}}
                note: {type: string}
                created: {type: string, format: date, readOnly: true}
  /shops/{shop-id}/orders/{number}/notes:
    put:
      operationId: putNote
      parameters:
        - {name: shop-id, in: path, required: true, schema: {type: string}}
        - {name: lang, in: cookie, schema: {type: string}}
      requestBody:
        required: true
        content: {text/markdown: {schema: {type: string}}}
components:
  schemas:
    Item: {type: object, required: [sku], properties: {sku: {type: string}, count: {type: integer}}}
"""


@pytest.fixture
def orders(service: Service, tmp_path: Path) -> OpenAPITools:
    path = tmp_path / "orders.yaml"
    path.write_text(ORDERS.replace("SERVER", service.url))
    return OpenAPITools.from_spec(path, include=["*"])


def test_path_query_header_and_cookie_arrive(orders: OpenAPITools, service: Service) -> None:
    find, _, put = orders
    assert list(find.definition.parameters["properties"]) == [
        "shop-id",
        "X-Request-Source",
        "filter_status",
        "ids",
        "range",
        "where",
    ]
    call(
        find,
        **{
            "shop-id": "a/b",
            "X-Request-Source": "test",
            "filter_status": "NO",
            "ids": [1, 2],
            "range": {"min": 1, "max": 2},
            "where": {"a": [1]},
        },
    )
    call(put, **{"shop-id": "s", "number": "7", "lang": "no", "body": "# Hello"})
    first, second = service.requests
    assert (first["method"], first["path"]) == ("GET", "/api/shops/a%2Fb/orders")
    assert first["query"] == [
        ("filter[status]", "NO"),
        ("ids", "1,2"),
        ("range[min]", "1"),
        ("range[max]", "2"),
        ("where", '{"a": [1]}'),
    ]
    assert first["headers"]["x-request-source"] == "test"
    assert (second["method"], second["path"]) == ("PUT", "/api/shops/s/orders/7/notes")
    assert second["headers"]["content-type"] == "text/markdown"
    assert second["headers"]["cookie"] == "lang=no"
    assert second["body"] == "# Hello"


def test_an_agent_sends_a_body_and_reads_the_answer(orders: OpenAPITools, service: Service) -> None:
    add = orders[1]
    assert add.definition.parameters["required"] == ["shop-id", "X-Request-Source", "items"]
    assert list(add.definition.parameters["properties"])[-3:] == ["note", "items", "note_body"]
    arguments = {
        "shop-id": "s1",
        "X-Request-Source": "agent",
        "note": "in the query",
        "items": [{"sku": "a", "count": "2"}],
        "note_body": "in the body",
    }
    model = ScriptedModel(
        [AssistantMessage(tool_calls=(ToolCall(name="addOrder", arguments=arguments),)), "done"]
    )
    service.replies.append(Reply(status=201, body=b'{"number": 7}'))
    (record,) = Agent(model, orders).run_sync("order").steps[0].calls
    assert record.observation == '{"number": 7}'
    assert record.repairs  # "2" was made 2
    (request,) = service.requests
    assert request["method"] == "POST"
    assert request["query"] == [("note", "in the query")]
    assert request["body"] == {"items": [{"sku": "a", "count": 2}], "note": "in the body"}


def body_tool(service: Service, media_type: str, schema: Any, **fields: Any) -> Any:
    content = {media_type: {"schema": schema, **fields.pop("media", {})}}
    spec = operation("post", requestBody={"required": True, "content": content} | fields)
    return only_tool(spec, server=service.url)


def test_forms_and_bodies_of_one_value(service: Service) -> None:
    fields = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "address": {"type": "object"},
            "photo": {"type": "string", "format": "binary"},
        },
    }
    encoding = {"encoding": {"address": {"style": "deepObject", "explode": True}}}
    form = body_tool(service, "application/x-www-form-urlencoded", fields, media=encoding)
    call(form, name="Ann & co", tags=["a", "b"], address={"city": "Oslo"})
    listed = body_tool(service, "application/json", {"type": "array", "items": {"type": "integer"}})
    call(listed, body=[1, 2])
    merged = {"allOf": [fields, {"required": ["name"]}]}
    patch = body_tool(service, "application/merge-patch+json", merged)
    call(patch, body={"name": "x"})
    multipart = body_tool(service, "multipart/form-data", fields)
    assert "photo" not in multipart.definition.parameters["properties"]
    call(multipart, name="Ann")
    first, second, third, fourth = service.requests
    assert first["body"] == "name=Ann+%26+co&tags=a&tags=b&address%5Bcity%5D=Oslo".replace(
        "+", "%20"
    )
    assert second["body"] == [1, 2]
    assert third["headers"]["content-type"] == "application/merge-patch+json"
    assert json.loads(third["body"]) == {"name": "x"}
    assert 'name="name"' in fourth["body"]


def test_a_body_that_may_be_left_out_is_all_or_nothing(service: Service) -> None:
    schema = PETS["components"]["schemas"]["Pet"]
    tool = body_tool(service, "application/json", schema, required=False)
    assert list(tool.definition.parameters["properties"]) == ["body"]
    assert "required" not in tool.definition.parameters
    call(tool)
    call(tool, body={"name": "Rex"})
    assert [request["body"] for request in service.requests] == [None, {"name": "Rex"}]


def test_styles_of_the_path_are_kept(service: Service) -> None:
    numbers = {"type": "array", "items": {"type": "integer"}}
    parameters = [
        {"name": "a", "in": "path", "required": True, "style": "matrix", "schema": numbers},
        {"name": "b", "in": "path", "required": True, "style": "label", "schema": numbers},
        {"name": "unused", "in": "path", "required": True, "schema": numbers},
    ]
    spec = operation(path="/x/{a}/{b}/{forgotten}", parameters=parameters)
    tool = only_tool(spec, server=service.url)
    assert list(tool.definition.parameters["properties"]) == ["a", "b", "forgotten"]
    call(tool, a=[1, 2], b=[3, 4], forgotten="f")
    assert service.requests[0]["path"] == "/x/;a=1,2/.3,4/f"


# --- documents --------------------------------------------------------------------------------


def test_references_lead_to_other_files(service: Service, tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    pet = {"type": "object", "properties": {"owner": {"$ref": "people.json#/Person"}}}
    (tmp_path / "common" / "pet.json").write_text(json.dumps(pet))
    person = {"Person": {"type": "object", "properties": {"pet": {"$ref": "pet.json"}}}}
    (tmp_path / "common" / "people.json").write_text(json.dumps(person))
    items = {"post": {"operationId": "it", "requestBody": {"$ref": "#/components/requestBodies/B"}}}
    (tmp_path / "paths.yaml").write_text(json.dumps({"things": items}))
    body = {"content": {"application/json": {"schema": {"$ref": "common/pet.json"}}}}
    spec = document(paths={"/things": {"$ref": "paths.yaml#/things"}})
    # Of a path item in another file, "#/..." is that file's own.
    (tmp_path / "paths.yaml").write_text(
        json.dumps({"things": items, "components": {"requestBodies": {"B": body}}})
    )
    (tmp_path / "api.json").write_text(json.dumps(spec))
    tool = only_tool(tmp_path / "api.json", server=service.url)
    schema = tool.definition.parameters
    assert schema["properties"]["owner"] == {"$ref": "#/$defs/Person"}
    assert set(schema["$defs"]) == {"Person", "pet_json"}
    call(tool, owner={"pet": {"owner": {}}})
    assert service.requests[0]["body"] == {"owner": {"pet": {"owner": {}}}}


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("#/components/schemas/Nope", "'#/components/schemas/Nope' leads to nothing"),
        ("nope.json", "leads nowhere: .*nope.json cannot be read: No such file"),
        ("https://example.org/x.json", "is no local file; not followed"),
        ("#anchor", "is no JSON Pointer"),
    ],
)
def test_references_that_lead_nowhere_are_told_with_their_place(
    ref: str, message: str, tmp_path: Path
) -> None:
    parameters = [{"name": "a", "in": "query", "schema": {"items": {"$ref": ref}}}]
    path = tmp_path / "api.json"
    path.write_text(json.dumps(operation(parameters=parameters)))
    with pytest.raises(
        SchemaError, match=rf"api.json#/paths/~1things/get/parameters/0/schema/items: .*{message}"
    ):
        only_tool(path)


def test_a_document_from_the_web_does_not_read_this_machines_files(service: Service) -> None:
    parameters = [{"name": "a", "in": "query", "schema": {"$ref": "file:///etc/passwd"}}]
    service.replies.append(Reply(body=json.dumps(operation(parameters=parameters)).encode()))
    with pytest.raises(SchemaError, match="is of another host; not followed"):
        only_tool(f"{service.url}/openapi.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"swagger": "2.0"}, "this is Swagger 2.0, which is not supported; convert it"),
        ({"openapi": "4.0.0"}, "OpenAPI '4.0.0' is not supported"),
        ({"type": "object"}, "this is no OpenAPI document"),
        ([1], "this is no OpenAPI document"),
        ("{", "is not valid JSON"),
        ({"openapi": "3.0.0", "paths": []}, "#/paths must be an object"),
    ],
)
def test_what_is_no_document_of_version_3_is_refused(
    content: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "api.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(SchemaError, match=message):
        OpenAPITools.from_spec(path)


def test_documents_that_cannot_be_loaded_are_told(service: Service, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        OpenAPITools.from_spec("no/such/file.yaml")
    with pytest.raises(UserError, match="is a folder"):
        OpenAPITools.from_spec(tmp_path)
    service.replies.append(Reply(status=404))
    with pytest.raises(UserError, match="cannot be loaded: Client error '404 Not Found'"):
        OpenAPITools.from_spec(f"{service.url}/openapi.json")
    (tmp_path / "x.yaml").write_text("a: [b")
    with pytest.raises(SchemaError, match="is neither JSON nor YAML"):
        OpenAPITools.from_spec(tmp_path / "x.yaml")
    parameter = {"name": "a", "in": "body"}
    with pytest.raises(SchemaError, match=r"#/paths/~1things/get/parameters/0: .* is in 'body'"):
        only_tool(operation(parameters=[parameter]))
