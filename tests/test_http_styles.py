"""HTTPTool: OpenAPI's styles, cookies, and bodies that are not JSON."""

from __future__ import annotations

import email
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit.errors import SchemaError, UserError
from agentkit_tools import ParameterStyle
from agentkit_tools._http_style import encode_cookie, pairs_of, write
from http_support import call, failure, make

if TYPE_CHECKING:
    from http_support import Service

ANY = {"properties": {"color": {}}}
REQUIRED = {**ANY, "required": ["color"]}
TEXT, LIST, OBJECT = "blue", ["blue", "black"], {"R": 100, "G": 200}


# The table of OpenAPI 3.1.1, "Style Examples".
@pytest.mark.parametrize(
    ("style", "explode", "value", "expected"),
    [
        ("matrix", False, TEXT, ";color=blue"),
        ("matrix", False, LIST, ";color=blue,black"),
        ("matrix", False, OBJECT, ";color=R,100,G,200"),
        ("matrix", True, TEXT, ";color=blue"),
        ("matrix", True, LIST, ";color=blue;color=black"),
        ("matrix", True, OBJECT, ";R=100;G=200"),
        ("label", False, TEXT, ".blue"),
        ("label", False, LIST, ".blue,black"),
        ("label", False, OBJECT, ".R,100,G,200"),
        ("label", True, LIST, ".blue.black"),
        ("label", True, OBJECT, ".R=100.G=200"),
        ("simple", False, TEXT, "blue"),
        ("simple", False, LIST, "blue,black"),
        ("simple", False, OBJECT, "R,100,G,200"),
        ("simple", True, LIST, "blue,black"),
        ("simple", True, OBJECT, "R=100,G=200"),
        ("simple", None, ["a,b", "c/d"], "a%2Cb,c%2Fd"),
        ("json", None, LIST, "%5B%22blue%22%2C%20%22black%22%5D"),
    ],
)
def test_styles_in_a_path(
    service: Service, style: Any, explode: bool | None, value: Any, expected: str
) -> None:
    tool = make(
        service.url + "/x/{color}/y",
        parameters=REQUIRED,
        styles={"color": ParameterStyle(style, explode)},
    )
    assert call(tool, color=value)["target"] == f"/x/{expected}/y"


@pytest.mark.parametrize(
    ("style", "explode", "value", "expected"),
    [
        ("form", None, TEXT, "color=blue"),
        ("form", None, LIST, "color=blue&color=black"),
        ("form", None, OBJECT, "R=100&G=200"),
        ("form", False, LIST, "color=blue,black"),
        ("form", False, OBJECT, "color=R,100,G,200"),
        ("form", False, ["a,b", "c&d=e"], "color=a%2Cb,c%26d%3De"),
        ("spaceDelimited", None, LIST, "color=blue%20black"),
        ("spaceDelimited", None, OBJECT, "color=R%20100%20G%20200"),
        ("pipeDelimited", None, LIST, "color=blue%7Cblack"),
        ("pipeDelimited", True, LIST, "color=blue&color=black"),
        ("deepObject", None, OBJECT, "color%5BR%5D=100&color%5BG%5D=200"),
        (
            "deepObject",
            None,
            {"a": {"b": [1, 2]}},
            "color%5Ba%5D%5Bb%5D=1&color%5Ba%5D%5Bb%5D=2",
        ),
        ("json", None, LIST, "color=%5B%22blue%22%2C%20%22black%22%5D"),
        ("form", None, [], ""),
        ("form", False, {}, ""),
        ("form", None, None, ""),
    ],
)
def test_styles_in_a_query(
    service: Service, style: Any, explode: bool | None, value: Any, expected: str
) -> None:
    styles = {"color": ParameterStyle(style, explode)}
    query = "?a=1&" + expected if expected else "?a=1"
    for options in ({}, {"query": {"color": "{color}"}}):
        tool = make(service.url + "/?a=1", parameters=ANY, styles=styles, **options)
        assert call(tool, color=value)["target"] == "/" + query


def test_without_a_style(service: Service) -> None:
    tool = make(
        service.url + "/{color}",
        parameters=REQUIRED,
        query={"q": "{color}"},
        headers={"X-Color": "{color}"},
    )
    seen = call(tool, color=LIST)
    assert seen["target"] == "/blue,black?q=blue&q=black"
    assert seen["headers"]["x-color"] == "blue,black"
    assert call(tool, color=OBJECT)["query"] == [["q", '{"R": 100, "G": 200}']]


def test_reserved_characters_and_names_on_the_wire(service: Service) -> None:
    styles = {
        "color": ParameterStyle("form", allow_reserved=True),
        "id": ParameterStyle("matrix", name="item-id"),
    }
    schema = {"properties": {"color": {}, "id": {}}, "required": ["id"]}
    tool = make(service.url + "/a{id}", parameters=schema, styles=styles)
    assert call(tool, color="/a?b:c&d#e", id=7)["target"] == ("/a;item-id=7?color=/a?b:c%26d%23e")


def test_cookies(service: Service) -> None:
    schema = {"properties": {"sid": {"type": "string"}, "tags": {"type": "array"}}}
    cookies = {"session": "{sid}", "lang": "en", "tags": "{tags}"}
    tool = make(
        service.url, parameters=schema, cookies=cookies, styles={"tags": ParameterStyle("form")}
    )
    seen = call(tool, sid="a;b c%", tags=["x", "y"])
    assert seen["headers"]["cookie"] == "session=a%3Bb%20c%25; lang=en; tags=x; tags=y"
    assert call(tool)["headers"]["cookie"] == "lang=en"
    commas = make(
        service.url,
        parameters=schema,
        cookies=cookies,
        styles={"tags": ParameterStyle("form", False)},
    )
    assert call(commas, tags=["x", "y"])["headers"]["cookie"] == "lang=en; tags=x,y"


def test_headers_with_a_style(service: Service) -> None:
    tool = make(
        service.url,
        parameters=ANY,
        headers={"X-Color": "{color}"},
        styles={"color": ParameterStyle("simple", explode=True)},
    )
    assert call(tool, color=OBJECT)["headers"]["x-color"] == "R=100,G=200"
    assert "'X-Color'" in failure(tool, color=["a", "b\r\nX-Evil: 1"])


def test_form_bodies(service: Service) -> None:
    schema = {"properties": {"name": {}, "tags": {}, "filter": {}, "gone": {}}}
    tool = make(
        service.url,
        method="POST",
        parameters=schema,
        body={"source": "agent", "label": "{name}"},
        body_type="form",
        styles={"filter": "deepObject", "tags": ParameterStyle("form", explode=False)},
    )
    seen = call(tool, name="a&b ü", tags=["x", "y"], filter={"a": 1})
    assert seen["headers"]["content-type"] == "application/x-www-form-urlencoded"
    assert seen["body"] == "source=agent&label=a%26b%20%C3%BC&tags=x,y&filter%5Ba%5D=1"
    whole = make(
        service.url,
        method="POST",
        parameters={"properties": {"order": {}}},
        body="{order}",
        body_type="form",
    )
    assert call(whole, order={"n": [1, 2]})["body"] == "n=1&n=2"


def test_multipart_bodies(service: Service) -> None:
    schema = {"properties": {"name": {}, "tags": {}, "meta": {}}}
    tool = make(service.url, method="POST", parameters=schema, body_type="multipart")
    seen = call(tool, name="ü", tags=["x", "y"], meta={"a": 1})
    message = email.message_from_string(
        f"Content-Type: {seen['headers']['content-type']}\n\n{seen['body']}"
    )
    assert [
        (part.get_param("name", header="content-disposition"), part.get_content_type())
        for part in message.walk()
        if not part.is_multipart()
    ] == [
        ("name", "text/plain"),
        ("tags", "text/plain"),
        ("tags", "text/plain"),
        ("meta", "application/json"),
    ]
    assert "\r\nü\r\n" in seen["body"]


def test_text_bodies(service: Service) -> None:
    schema = {"properties": {"text": {"type": "string"}}, "required": ["text"]}
    options = {"method": "PUT", "parameters": schema, "body_type": "text", "body": "{text}"}
    seen = call(make(service.url, **options), text="grün & {x}")
    assert seen["body"] == "grün & {x}"
    assert seen["headers"]["content-type"] == "text/plain; charset=utf-8"
    xml = make(service.url, content_type="application/xml", **{**options, "body": "<a>{text}</a>"})
    seen = call(xml, text="b")
    assert (seen["body"], seen["headers"]["content-type"]) == ("<a>b</a>", "application/xml")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"styles": {"color": "matrix"}}, "'matrix' cannot be used in query; use form or"),
        ({"styles": {"colour": "form"}}, "did you mean {color}?"),
        ({"method": "POST", "styles": {"color": "form"}}, "body_type='form'"),
        ({"query": {"q": "x{color}"}, "styles": {"color": "form"}}, "stands nowhere alone"),
        ({"cookies": {"a;b": "1"}}, "'a;b' is not a cookie's name"),
        ({"cookies": {"a": "{town}"}}, "cookies names {town}"),
        ({"method": "POST", "body_type": "xml"}, "body_type='xml'"),
        ({"method": "POST", "body_type": "text", "body": {}}, "one template"),
        ({"method": "POST", "body_type": "text"}, "'color' goes nowhere"),
        ({"method": "POST", "body_type": "form", "body": "a={color}"}, "has fields"),
        ({"method": "POST", "body_type": "multipart", "content_type": "a/b"}, "be chosen"),
    ],
)
def test_mistakes_are_found_at_construction(options: dict[str, Any], part: str) -> None:
    with pytest.raises(SchemaError, match="tool 'probe'") as caught:
        make("https://api.test/", parameters=ANY, **options)
    assert part in str(caught.value)


def test_unknown_styles_are_named() -> None:
    with pytest.raises(UserError, match="'round' is not one of simple, "):
        make("https://api.test/", parameters=ANY, styles={"color": "round"})
    with pytest.raises(UserError, match="must be a ParameterStyle"):
        make("https://api.test/", parameters=ANY, styles={"color": 7})


# --- for all values ---------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(TEXTS, min_size=1), st.sampled_from(["form", "spaceDelimited", "pipeDelimited"]))
def test_items_of_a_query_can_be_told_apart(items: list[str], style: Any) -> None:
    ((name, text),) = pairs_of("a b", items, ParameterStyle(style, explode=False))
    delimiter = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}[style]
    assert unquote(name) == "a b"
    if delimiter == ",":
        assert [unquote(part) for part in text.split(",")] == items
    exploded = pairs_of("a b", items, ParameterStyle(style, explode=True))
    assert parse_qsl("&".join(map("=".join, exploded)), keep_blank_values=True) == [
        ("a b", item) for item in items
    ]


@given(st.dictionaries(TEXTS, TEXTS, min_size=1), st.sampled_from(["simple", "matrix", "label"]))
def test_a_path_holds_no_more_segments_than_its_template(values: Any, style: Any) -> None:
    for explode in (True, False):
        text = write("id", values, ParameterStyle(style, explode))
        assert not set(text) & set('/?#\\ "<>\r\n')
        assert text.isascii()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
def test_a_cookie_s_value_holds_what_cookies_may(text: str) -> None:
    encoded = encode_cookie(text)
    assert unquote(encoded) == text
    assert not set(encoded) & set('",;\\ \t\r\n')
    assert encoded.isascii()
