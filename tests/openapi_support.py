"""Small OpenAPI documents for tests."""

from __future__ import annotations

import copy
from typing import Any

from agentkit_tools import HTTPTool
from agentkit_tools.openapi import OpenAPITools

PETS: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "1"},
    "servers": [{"url": "https://pets.example.org/v1"}],
    "paths": {
        "/pets": {
            "get": {
                "operationId": "listPets",
                "summary": "List pets",
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 20}}
                ],
            },
            "post": {
                "operationId": "addPet",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}
                    },
                },
            },
        },
        "/pets/{petId}": {
            "parameters": [
                {"name": "petId", "in": "path", "required": True, "schema": {"type": "integer"}}
            ],
            "get": {"summary": "Get a pet"},
            "delete": {"operationId": "deletePet"},
            "head": {"operationId": "oldPet", "deprecated": True},
        },
    },
    "components": {
        "schemas": {
            "Pet": {
                "type": "object",
                "required": ["id", "name"],
                "properties": {
                    "id": {"type": "integer", "readOnly": True},
                    "name": {"type": "string"},
                    "tag": {"type": "string", "nullable": True},
                },
            }
        }
    },
}


def document(**changes: Any) -> dict[str, Any]:
    """The pets with other top-level fields."""
    return {**copy.deepcopy(PETS), **changes}


def operation(method: str = "get", path: str = "/things", **fields: Any) -> dict[str, Any]:
    """A document of one operation."""
    return document(paths={path: {method: {"operationId": "it", **fields}}})


def only_tool(spec: Any, **options: Any) -> HTTPTool:
    """The tool of a document of one operation."""
    (tool,) = OpenAPITools.from_spec(spec, include=["it"], **options)
    return tool


def schema_of(schema: dict[str, Any], version: str = "3.0.3", **schemas: Any) -> dict[str, Any]:
    """What becomes of a schema: that of a body that is one argument."""
    body = {"type": "array", "items": schema}
    spec = operation(
        "post",
        requestBody={"required": True, "content": {"application/json": {"schema": body}}},
    )
    spec |= {"openapi": version, "components": {"schemas": schemas}}
    parameters = dict(only_tool(spec).definition.parameters)
    made: dict[str, Any] = parameters["properties"]["body"]["items"]
    return {**made, "$defs": parameters["$defs"]} if "$defs" in parameters else made
