"""HTTPTool: what the model is given of a response."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentkit.errors import SchemaError, UserError
from agentkit_tools import HTTPResponseError, JMESPath
from http_support import Reply, call, failure, make

if TYPE_CHECKING:
    from http_support import Service

pytestmark = pytest.mark.usefixtures("http_environment")


def test_a_response_over_the_limit_is_refused(service: Service) -> None:
    squeezed = gzip.compress(b"[" + b"0," * 100_000 + b"0]")
    service.replies += [
        Reply(body=b'"' + b"x" * 98 + b'"'),
        Reply(body=b'"' + b"x" * 99 + b'"'),
        Reply(body=squeezed, headers={"Content-Encoding": "gzip"}),
    ]
    tool = make(service.url, max_response_bytes=100)
    assert call(tool) == "x" * 98
    expected = "the response is larger than the limit of 100 bytes; ask for less"
    assert failure(tool) == expected
    assert failure(make(service.url, max_response_bytes=2000)) == expected.replace("100", "2000")
    assert len(service.requests) == 3


def test_kinds_of_content(service: Service) -> None:
    service.replies += [
        Reply(
            body="grün".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1"}
        ),
        Reply(body=b'{"a": 1}', headers={"Content-Type": "application/problem+json"}),
        Reply(body=b"\x89PNG", headers={"Content-Type": "image/png"}),
        Reply(body=b"{broken"),
        Reply(204, b""),
        Reply(body=b"not gzip", headers={"Content-Encoding": "gzip"}),
    ]
    tool = make(service.url)
    assert call(tool) == "grün"
    assert call(tool) == {"a": 1}
    assert call(tool) == "the service answered with image/png (4 bytes), which cannot be shown"
    assert "JSON that cannot be read" in failure(tool)
    assert call(tool) == "done (204 No Content, no content)"
    assert failure(tool) == "the response could not be decompressed"
    assert call(make(service.url, method="HEAD")) == "done (200 OK, no content)"


def test_a_part_of_the_response_can_be_taken(service: Service) -> None:
    async def total(data: Any) -> int:
        return sum(item["n"] for item in data["items"])

    data = Reply(body=b'{"items": [{"n": 1}, {"n": 2}], "text": "t"}')
    service.replies += [data] * 6
    assert call(make(service.url, response="items[1].n")) == 2
    assert call(make(service.url, response=total)) == 3
    assert call(make(service.url, response=len)) == 2
    message = failure(make(service.url, response="items[0].m"))
    assert message == "the service's response.items[0] has no 'm'; its keys are n"
    assert "an array of 2 items" in failure(make(service.url, response="items[2]"))
    assert "has no parts" in failure(make(service.url, response="text[0]"))


def test_json_pointers(service: Service) -> None:
    service.replies += [Reply(body=b'{"a/b": [{"~": 1, "": 2}], "2": 3}')] * 6
    assert call(make(service.url, response="/a~1b/0/~0")) == 1
    assert call(make(service.url, response="/a~1b/0/")) == 2
    assert call(make(service.url, response="/2")) == 3
    assert "has no '00'" in failure(make(service.url, response="/a~1b/00"), HTTPResponseError)
    assert "array of 1 items" in failure(make(service.url, response="/a~1b/7"))
    assert "its keys are a/b, 2" in failure(make(service.url, response="/b"))


def test_jmespath(service: Service) -> None:
    body = b'{"items": [{"n": 1, "p": 5}, {"n": 2, "p": 15}]}'
    service.replies += [Reply(body=body)] * 3
    cheap = JMESPath("items[?p < `10`].n")
    assert call(make(service.url, response=cheap)) == [1]
    assert call(make(service.url, response=JMESPath("nothing.here"))) is None
    message = failure(make(service.url, response=JMESPath("sum(items)")), HTTPResponseError)
    assert "does not fit" in message
    assert len(message) < 300
    with pytest.raises(SchemaError, match="items"):
        JMESPath("items[")


def test_long_and_deep_responses_are_cut_and_say_so(service: Service) -> None:
    body = {"items": list(range(250)), **{f"k{n}": n for n in range(5)}, "deep": [[[[1, 2]]]]}
    service.replies += [Reply(body=json.dumps(body).encode())] * 4
    shown = call(make(service.url, max_items=3, max_depth=3))
    assert shown == {
        "items": [0, 1, 2, "… 247 more of 250 items, not shown"],
        "k0": 0,
        "k1": 1,
        "…": "4 more of 7 entries, not shown",
    }
    deep = call(make(service.url, response="deep", max_depth=3))
    assert deep == [[["… 2 items, not shown"]]]
    assert len(call(make(service.url))["items"]) == 101
    assert call(make(service.url, max_items=None, max_depth=None)) == body


def test_only_accepted_types_are_given_to_the_model(service: Service) -> None:
    page = Reply(body=b"<p>Log in</p>", headers={"Content-Type": "text/html; charset=utf-8"})
    service.replies += [page, page, Reply(headers={"Content-Type": "application/hal+json"})]
    tool = make(service.url, accept=["application/json"])
    message = failure(tool, HTTPResponseError)
    assert message == "the service answered with text/html (13 bytes), not with application/json"
    assert service.requests[0]["headers"]["accept"] == "application/json"
    assert call(make(service.url)) == "<p>Log in</p>"
    assert call(tool) == {}


@pytest.mark.parametrize(
    ("body", "charset", "expected"),
    [
        (b'\xef\xbb\xbf{"a": "\xc3\xa4"}', "", {"a": "ä"}),
        ('{"a": "ä"}'.encode("latin-1"), "; charset=iso-8859-1", {"a": "ä"}),
        ('{"a": "ä"}'.encode(), "; charset=iso-8859-1", {"a": "ä"}),
        ('{"a": "ä"}'.encode("utf-16"), "", {"a": "ä"}),
        (b'{"a": 1, "a": 2}', "; charset=no-such", {"a": 2}),
        (b'{"a": "\xff"}', "", "cannot be read"),
        (b'{"a": NaN}', "", "NaN is not JSON"),
        (b"[-Infinity]", "", "-Infinity is not JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "", "nested too deep"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "", "more than 200 levels"),
        (b"[" + b"9" * 5000 + b"]", "", "cannot be read"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_odd_json(service: Service, body: bytes, charset: str, expected: Any) -> None:
    service.replies.append(Reply(body=body, headers={"Content-Type": "application/json" + charset}))
    tool = make(service.url, max_depth=None)
    if isinstance(expected, str):
        message = failure(tool, HTTPResponseError)
        assert expected in message
        assert len(message) < 300
    else:
        assert call(tool) == expected


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"max_items": 0}, "max_items must be 1 or more"),
        ({"max_depth": 0}, "max_depth must be 1 or more"),
        ({"accept": "text/html"}, "['text/html']"),
        ({"response": "/a~2"}, "'/a~2'"),
    ],
)
def test_options_of_responses_out_of_range(options: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as caught:
        make("https://api.test/", **options)
    assert part in str(caught.value)
