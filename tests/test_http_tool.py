"""HTTPTool against a real server on this machine."""

from __future__ import annotations

import asyncio
import base64
import gc
import gzip
import json
import socket
import threading
import warnings
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import stamina
from pydantic import BaseModel, Field

from agentkit.errors import SchemaError, ToolError, UserError
from agentkit.tools import Tool, ToolContext
from agentkit.validation import ArgumentValidator
from agentkit_tools import APIKeyAuth, BasicAuth, BearerAuth, HTTPTool

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTEXT = ToolContext(tool_name="probe")
CITY = {"properties": {"city": {"type": "string"}}, "required": ["city"]}
SECRET = "s3cret/token+value"


@dataclass
class Reply:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] | None = None
    wait: bool = False


class Service:
    """Answers as told, else echoes the request as JSON."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.requests: list[dict[str, Any]] = []
        self.released = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                service.handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        seen = {
            "method": handler.command,
            "target": handler.path,
            "path": urlsplit(handler.path).path,
            "query": parse_qsl(urlsplit(handler.path).query, keep_blank_values=True),
            "headers": {key.lower(): value for key, value in handler.headers.items()},
            "body": json.loads(body) if body else None,
            "client": handler.client_address,
        }
        self.requests.append(seen)
        reply = self.replies.popleft() if self.replies else Reply(body=json.dumps(seen).encode())
        if reply.wait:
            self.released.wait(20)
        handler.send_response(reply.status)
        headers = {"Content-Type": "application/json", **(reply.headers or {})}
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(reply.body)

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _no_backoff() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_TOKEN", SECRET)
    monkeypatch.setenv("PROBE_USER", "ann")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def make(url: str, **options: Any) -> HTTPTool:
    return HTTPTool(name="probe", url=url, **options)


def call(tool: HTTPTool, **arguments: Any) -> Any:
    return asyncio.run(tool.call(arguments, CONTEXT))


def failure(tool: HTTPTool, **arguments: Any) -> str:
    with pytest.raises(ToolError) as caught:
        call(tool, **arguments)
    return str(caught.value)


# --- where arguments go -----------------------------------------------------------------------


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


# --- credentials ------------------------------------------------------------------------------


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


# --- failures, retries and redirects ----------------------------------------------------------


def test_a_failed_request_is_sent_again(service: Service) -> None:
    service.replies += [Reply(503), Reply(429, headers={"Retry-After": "1"}), Reply(body=b"[1]")]
    assert call(make(service.url)) == [1]
    assert len(service.requests) == 3


def test_retries_end(service: Service) -> None:
    service.replies += [Reply(502, b'{"detail": "down"}')] * 5
    message = failure(make(service.url, retries=1))
    assert message.startswith("the service answered 502 Bad Gateway")
    assert message.endswith(': {"detail": "down"}')
    assert len(service.requests) == 2


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_is_not_idempotent_is_sent_once(service: Service, method: str) -> None:
    service.replies += [Reply(503)] * 3
    assert "503" in failure(make(service.url, method=method))
    assert len(service.requests) == 1


@pytest.mark.parametrize("after", ["3600", "Fri, 31 Dec 2999 23:59:59 GMT"])
def test_a_long_retry_after_is_not_waited_for(service: Service, after: str) -> None:
    service.replies += [Reply(429, headers={"Retry-After": after})] * 3
    assert "it asks to wait" in failure(make(service.url))
    assert len(service.requests) == 1


@pytest.mark.parametrize("after", ["0", "Thu, 01 Jan 1970 00:00:00 GMT", "soon"])
def test_a_retry_after_of_the_past_or_of_no_meaning(service: Service, after: str) -> None:
    service.replies += [Reply(503, headers={"Retry-After": after})]
    assert call(make(service.url))["method"] == "GET"
    assert len(service.requests) == 2


def test_a_short_retry_after_is_obeyed_without_test_mode(service: Service) -> None:
    service.replies += [Reply(503, headers={"Retry-After": "0"})]
    with stamina.set_testing(False):
        assert call(make(service.url))["method"] == "GET"


def test_a_slow_service_is_given_up_and_tried_again(service: Service) -> None:
    service.replies += [Reply(wait=True)] * 2
    message = failure(make(service.url, attempt_timeout=0.2, retries=1))
    assert message == "the service did not answer within 0.2 s, 2 times; it may work later"
    assert len(service.requests) == 2


def test_an_unreachable_service() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    message = failure(make(f"http://127.0.0.1:{port}/", retries=0))
    assert message.startswith("the service could not be reached")


def test_error_responses_are_described_briefly(service: Service) -> None:
    service.replies += [
        Reply(404, b'{"detail": "no such city"}'),
        Reply(500, b"<html>" + b"x" * 100, {"Content-Type": "text/html"}),
        Reply(400, b"y" * 1_000_000, {"Content-Type": "text/plain"}),
        Reply(401),
    ]
    tool = make(service.url)
    assert failure(tool) == (
        "the service answered 404 Not Found (nothing is there under these arguments): "
        '{"detail": "no such city"}'
    )
    assert "html" not in failure(tool)
    assert len(failure(tool)) < 400
    assert "credentials" in failure(tool)


def test_redirects_on_the_same_host_are_followed_with_credentials(service: Service) -> None:
    service.replies += [Reply(302, headers={"Location": "/new?x=1"})]
    auth = APIKeyAuth(env="PROBE_TOKEN", query="key")
    call(make(service.url + "/old", auth=auth))
    assert service.requests[1]["path"] == "/new"
    assert service.requests[1]["query"] == [("x", "1"), ("key", SECRET)]


def test_redirects_to_another_host_are_not_followed(service: Service) -> None:
    elsewhere = f"http://localhost:{service.port}/?key=abc"
    service.replies += [Reply(307, headers={"Location": elsewhere})]
    message = failure(make(service.url, method="POST", auth=BearerAuth(env="PROBE_TOKEN")))
    assert "redirects to http://localhost, which is not followed" in message
    assert len(service.requests) == 1


def test_endless_redirects_end(service: Service) -> None:
    service.replies += [Reply(302, headers={"Location": "/"})] * 20
    assert failure(make(service.url)) == "the service redirects more than 5 times"


# --- responses --------------------------------------------------------------------------------


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
    assert "image/png (4 bytes)" in failure(tool)
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


# --- event loops ------------------------------------------------------------------------------


def test_connections_are_kept_within_a_loop_and_closed_with_it(service: Service) -> None:
    tool = make(service.url)

    async def twice() -> None:
        await tool.call({}, CONTEXT)
        await tool.call({}, CONTEXT)

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        asyncio.run(twice())
        asyncio.run(twice())
        gc.collect()
    clients = [tuple(seen["client"]) for seen in service.requests]
    assert clients[0] == clients[1]
    assert clients[2] == clients[3]
    assert clients[1] != clients[2]


def test_concurrent_calls_and_closing(service: Service) -> None:
    tool = make(service.url)

    async def run() -> list[str]:
        first = await asyncio.gather(*(tool.call({}, CONTEXT) for _ in range(8)))
        await tool.aclose()
        await tool.aclose()
        return [seen["method"] for seen in (*first, await tool.call({}, CONTEXT))]

    assert asyncio.run(run()) == ["GET"] * 9


def test_a_client_of_one_s_own_is_used_and_left_open(service: Service) -> None:
    async def run() -> bool:
        async with httpx.AsyncClient(headers={"X-Mine": "1"}) as client:
            tool = make(service.url, client=client)
            await tool.call({}, CONTEXT)
            await tool.aclose()
            return client.is_closed

    assert asyncio.run(run()) is False
    assert service.requests[0]["headers"]["x-mine"] == "1"


# --- what is refused at construction ----------------------------------------------------------

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
