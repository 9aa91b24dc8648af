"""HTTPTool: where arguments go in a request, and what is refused at construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest
from pydantic import BaseModel, Field

from agentkit.errors import SchemaError, UserError
from agentkit.tools import Tool
from agentkit.validation import ArgumentValidator
from agentkit_tools import HTTPTool
from http_support import CITY, call, failure, make

if TYPE_CHECKING:
    from http_support import Service


def test_get_puts_arguments_into_path_and_query(service: Service) -> None:
    tool = make(
        service.url + "/v1/cities/{city}/weather?lang=en",
        description="Forecast.",
        parameters={
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "hourly": {"type": "boolean"},
            },
            "required": ["city"],
        },
        query={"units": "metric"},
    )
    assert isinstance(tool, Tool)
    assert tool.definition.parameters["additionalProperties"] is False
    seen = call(tool, city="São Paulo", days=3, tags=["a", "b c"], hourly=True)
    assert seen["target"].startswith("/v1/cities/S%C3%A3o%20Paulo/weather?")
    assert sorted(seen["query"]) == [
        ["days", "3"],
        ["hourly", "true"],
        ["lang", "en"],
        ["tags", "a"],
        ["tags", "b c"],
        ["units", "metric"],
    ]
    assert seen["body"] is None


def test_post_puts_arguments_into_the_body(service: Service) -> None:
    number = {"type": "integer"}
    tool = make(
        service.url + "/orders/{shop}",
        method="post",
        parameters={"properties": dict.fromkeys(["shop", "a", "b", "c", "key"], number)}
        | {"required": ["shop"]},
        query={"dry": True},
        headers={"Idempotency-Key": "order-{key}"},
        body={"source": "agent", "filter": {"a": "{a}", "literal": "{{a}}"}, "all": ["{b}", 0]},
    )
    seen = call(tool, shop=7, a=1, c=3, key=9)
    assert seen["method"] == "POST"
    assert seen["path"] == "/orders/7"
    assert seen["query"] == [["dry", "true"]]
    assert seen["headers"]["idempotency-key"] == "order-9"
    # "b" was not given, so its place in the array is left out.
    filled = {"source": "agent", "filter": {"a": 1, "literal": "{a}"}, "all": [0], "c": 3}
    assert seen["body"] == filled
    assert "idempotency-key" not in call(tool, shop=7)["headers"]


def test_one_argument_can_be_the_whole_body(service: Service) -> None:
    schema = {"properties": {"order": {"type": "object"}}}
    tool = make(service.url, method="PUT", parameters=schema, body="{order}")
    assert call(tool, order={"n": [1, None]})["body"] == {"n": [1, None]}
    assert call(tool)["body"] is None


def test_names_on_the_wire_may_differ_and_defaults_are_sent(service: Service) -> None:
    schema = {
        "properties": {
            "text": {"type": "string"},
            "limit": {"type": "integer", "default": 5},
            "page": {"type": "integer", "default": 1},
        }
    }
    url = service.url + "/pages/{page}"
    tool = make(url, parameters=schema, query={"q": "{text}", "max": "{limit}"})
    seen = call(tool, text="x&y=z")
    assert seen["path"] == "/pages/1"
    assert sorted(seen["query"]) == [["max", "5"], ["q", "x&y=z"]]
    assert call(tool)["query"] == [["max", "5"]]


class Search(BaseModel):
    text: str = Field(alias="q", description="What to find")
    order: Literal["new", "old"] = "new"
    page: int | None = None


def test_a_pydantic_model_gives_the_schema_and_serialises(service: Service) -> None:
    tool = make(service.url, parameters=Search)
    assert tool.definition.parameters == {
        "type": "object",
        "properties": {
            "q": {"type": "string", "description": "What to find"},
            "order": {"type": "string", "enum": ["new", "old"], "default": "new"},
            "page": {"type": "integer"},
        },
        "required": ["q"],
        "additionalProperties": False,
    }
    assert ArgumentValidator(tool.definition).validate({"q": 1}).arguments == {"q": "1"}
    assert sorted(call(tool, q="x")["query"]) == [["order", "new"], ["q", "x"]]
    assert failure(tool, q="x", order="odd").startswith('$.order: got "odd"')


@pytest.mark.parametrize("city", ["a/b", "a?b=c", "a#b", "50%", "%2e%2e", "a;b", "ä\n", "x..y"])
def test_path_arguments_stay_within_their_segment(service: Service, city: str) -> None:
    seen = call(make(service.url + "/c/{city}/end", parameters=CITY), city=city)
    raw = seen["path"].split("/")
    assert len(raw) == 4
    assert (raw[1], raw[3]) == ("c", "end")
    assert httpx.URL(f"http://h/?{'x='}{raw[2]}").params["x"] == city
    assert seen["query"] == []


@pytest.mark.parametrize("city", ["..", ".", "../admin", "a/../../b", "..\\x", ""])
def test_path_arguments_that_climb_are_refused(service: Service, city: str) -> None:
    assert failure(make(service.url + "/c/{city}/end", parameters=CITY), city=city).startswith(
        "$.city: "
    )
    assert service.requests == []


def test_a_missing_path_argument_is_named() -> None:
    tool = make("http://127.0.0.1:9/{city}", parameters=CITY)
    assert failure(tool) == "$.city: missing; it is required"


def test_arguments_that_cannot_be_sent_are_refused(service: Service) -> None:
    two = {"properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["a", "b"]}
    side_by_side = make(service.url + "/{a}{b}/x", parameters=two)
    assert call(side_by_side, a="x", b="y")["path"] == "/xy/x"
    in_header = make(service.url, parameters=CITY, headers={"X-City": "{city}"})
    assert "'X-City'" in failure(in_header, city="x\r\nX-Evil: 1")
    assert "cannot be sent" in failure(make(service.url, parameters=CITY), city="\ud800")
    posted = make(service.url, method="POST", parameters=CITY)
    assert "cannot be sent" in failure(posted, city=float("nan"))
    assert len(service.requests) == 1


# --- what is refused at construction ---------------------------------------------------------

URL = "https://api.test/{city}"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"url": "https://api.test/{cty}"}, ["{cty}", "did you mean {city}?"]),
        ({"url": "https://{city}.test/"}, ["host must be fixed"]),
        ({"url": "https://ann:pw@api.test/"}, ["BasicAuth"]),
        ({"url": "ftp://api.test/"}, ["http://"]),
        ({"url": "api.test/{city}"}, ["http://"]),
        ({"url": "https://api.test/a/../b"}, ["'..'"]),
        ({"url": "https://api.test/{city"}, ["literal braces"]),
        ({"url": "https://api.test/{city!r}"}, ["plain name"]),
        ({"url": "https://api.test/{}"}, ["plain name"]),
        ({"query": {"q": "{town}"}}, ["query names {town}", "are: city"]),
        ({"headers": {"X": "{town}"}}, ["headers names {town}"]),
        ({"headers": {"X Y": "1"}}, ["'X Y'", "header"]),
        ({"method": "POST", "body": {"a": ["{town}"]}}, ["body names {town}"]),
        ({"method": "FETCH"}, ["'FETCH'"]),
        ({"body": {}}, ["GET", "query="]),
        ({"url": "https://api.test/", "query": {"city": "Oslo"}}, ["'city'", "collide"]),
        ({"url": "https://api.test/", "method": "PUT", "body": "x"}, ["'city'", "goes nowhere"]),
        ({"parameters": {"properties": {"city": {"type": "string"}}}}, ["'city'", "required"]),
        ({"parameters": {"city": {"type": "string"}}}, ['"properties"']),
        (
            {"parameters": {"properties": {"city": {"type": "str"}}, "required": ["city"]}},
            ['"str"'],
        ),
        ({"parameters": int}, ["int", "pydantic model"]),
        ({"response": "a..b"}, ["'a..b'", "data.items[0].name"]),
        ({"response": ""}, ["response=''"]),
    ],
)
def test_mistakes_are_found_at_construction(options: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(SchemaError) as caught:
        HTTPTool(name="probe", **{"url": URL, "parameters": CITY, **options})
    for part in ["tool 'probe'", *parts]:
        assert part in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"attempt_timeout": 0},
        {"retries": -1},
        {"max_response_bytes": 0},
        {"auth": "token"},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        make("https://api.test/", **options)
