"""Web pages as Markdown, from a server on this machine; and where the tool does not go."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import tracemalloc
import zlib

import pytest

from agentkit import Agent, ScriptedModel, Tool, ToolCall, ToolContext, ToolError, UserError
from agentkit_tools import NetworkPolicy, WebPageTool
from agentkit_tools._page_markdown import page_markdown
from http_support import Reply, Service

pytestmark = pytest.mark.usefixtures("http_environment")
HTML = {"Content-Type": "text/html; charset=utf-8"}
PACKED = {**HTML, "Content-Encoding": "gzip"}
LATIN = {"Content-Type": "text/plain; charset=latin-1"}

PAGE = """<!DOCTYPE html><html><head><title> The  Title </title><style>p {}</style></head><body>
<nav><a href="/home">Home</a></nav>
<main><h1>Heading</h1><p>Some <b>bold</b> words &amp; a <a href="/next?a=1">link</a>,
<a href="javascript:alert(1)">script</a>.</p><script>evil()</script><!-- comment -->
<p hidden>hidden words</p><p style="display: none">invisible</p>
<ul><li>one</li><li>two</li></ul><pre><code>x = 1\ny = 2</code></pre>
<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>
<img src="data:image/png;base64,AAAA" alt="a picture"><p>snake_case * star</p></main>
<footer>Imprint</footer></body></html>"""


def tool_for(service: Service, **options: object) -> WebPageTool:
    allowed = f"127.0.0.1:{service.port}"
    return WebPageTool(policy=NetworkPolicy(allow_hosts=[allowed]), **options)  # type: ignore[arg-type]


def read(tool: WebPageTool, url: str, **arguments: object) -> str:
    context = ToolContext(tool_name="read_web_page")
    return asyncio.run(tool.call({"url": url, **arguments}, context))


def test_a_page_becomes_markdown(service: Service) -> None:
    service.replies.append(Reply(body=PAGE.encode(), headers=HTML))
    text = read(tool_for(service), f"{service.url}/page#part")
    assert text.startswith(f"The Title\n{service.url}/page\n\n# Heading\n")
    assert "Some **bold** words & a link" in text
    assert "- one\n- two" in text
    assert "```\nx = 1\ny = 2\n```" in text
    assert "| a | b |" in text
    assert "a picture" in text
    assert "snake_case * star" in text
    for gone in ("Home", "evil", "comment", "hidden words", "invisible", "Imprint", "base64"):
        assert gone not in text
    headers = service.requests[0]["headers"]
    assert headers["user-agent"].startswith("agentkit")
    assert "cookie" not in headers
    assert "authorization" not in headers


def test_links_are_completed_if_wanted(service: Service) -> None:
    service.replies.append(Reply(body=PAGE.encode(), headers=HTML))
    text = read(tool_for(service, links=True), f"{service.url}/page")
    assert f"[link]({service.url}/next?a=1)" in text
    assert "javascript:" not in text


def test_long_pages_are_read_in_parts_and_fetched_once(service: Service) -> None:
    words = "\n".join(f"<p>{number} paragraph</p>" for number in range(500))
    service.replies.append(Reply(body=f"<title>T</title>{words}".encode(), headers=HTML))
    tool = tool_for(service, max_chars=1000)
    seen, offset = "", 0
    while offset is not None:
        part = read(tool, service.url, offset=offset)
        body, _, note = part.partition("\n[characters ")
        seen += body + "\n"
        offset = int(re.findall(r"offset=(\d+)", note)[0]) if note else None
    assert re.findall(r"(\d+) paragraph", seen) == [str(number) for number in range(500)]
    assert len(service.requests) == 1
    with pytest.raises(ToolError, match="smaller offset"):
        read(tool, service.url, offset=10**9)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(body=b'{"a": 1}', headers={"Content-Type": "application/json"}), '{"a": 1}'),
        (Reply(body="grüß".encode("latin-1"), headers=LATIN), "grüß"),
        (Reply(body="<html><meta charset=windows-1252><p>grüß".encode("cp1252"),
               headers={"Content-Type": "text/html"}), "grüß"),
        (Reply(body=b"<html><p>no type", headers={}), "no type"),
        (Reply(body=gzip.compress(b"<p>packed"), headers=PACKED), "packed"),
        (Reply(body=b"<html><script>render()</script>", headers=HTML), "has no text"),
        (Reply(body=b"<div>" * 5000 + b"deep", headers=HTML), "deep"),
    ],
)  # fmt: skip
def test_kinds_of_pages(service: Service, reply: Reply, expected: str) -> None:
    service.replies.append(reply)
    assert expected in read(tool_for(service), service.url)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(status=404), "404 Not Found: there is no such page"),
        (Reply(status=403), "does not let programs"),
        (Reply(status=503), "the site has a problem"),
        (Reply(body=b"%PDF", headers={"Content-Type": "application/pdf"}), "is application/pdf"),
        (Reply(body=b"no gzip at all", headers=PACKED), "decompressed"),
        (Reply(status=302, headers={"Location": "http://169.254.169.254/"}), "metadata"),
        (Reply(status=302, headers={"Location": "http://127.0.0.1:1/"}), "loopback"),
        (Reply(status=302, headers={"Location": "file:///etc/passwd"}), "file"),
    ],
)
def test_what_is_no_page(service: Service, reply: Reply, message: str) -> None:
    service.replies.append(reply)
    with pytest.raises(ToolError, match=re.escape(message)):
        read(tool_for(service), service.url)


def test_redirects_end(service: Service) -> None:
    service.replies.extend([Reply(status=302, headers={"Location": "/again"})] * 10)
    with pytest.raises(ToolError, match="more than 5 times"):
        read(tool_for(service), service.url)
    assert len(service.requests) == 6


def test_huge_pages_are_cut_and_slow_ones_given_up(service: Service) -> None:
    bomb = gzip.compress(b"<p>" + b"word " * 5_000_000)
    service.replies.append(Reply(body=bomb, headers=PACKED))
    text = read(tool_for(service, max_bytes=1000), service.url)
    assert len(text) < 1200
    assert "longer than what is read" in text
    service.replies.append(Reply(wait=True))
    with pytest.raises(ToolError, match=r"within 0\.3 s"):
        read(tool_for(service, timeout=0.3), service.url)
    service.released.set()


def test_a_bomb_is_never_unpacked_beyond_the_limit(service: Service) -> None:
    # 200 MB of nothing, in 200 kB: of which httpx would make chunks of 64 MB.
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    parts = [packer.compress(b"a" * 1_000_000) for _ in range(200)]
    bomb = b"".join([*parts, packer.flush()])
    service.replies.append(
        Reply(body=bomb, headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"})
    )
    tool = tool_for(service, max_bytes=100_000)
    tracemalloc.start()
    try:
        text = read(tool, service.url)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "longer than" in read(tool, service.url, offset=96_000)
    assert text.count("a") > 5000
    assert peak < 5_000_000


def test_a_page_compressed_otherwise(service: Service) -> None:
    headers = {**HTML, "Content-Encoding": "br"}
    service.replies.append(Reply(body=b"?", headers=headers))
    with pytest.raises(ToolError, match="compressed as 'br'"):
        read(tool_for(service), service.url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:{port}/", "loopback"),
        ("http://localhost:{port}/", "loopback"),
        ("http://0x7f000001:{port}/", "loopback"),
        ("http://[::ffff:127.0.0.1]:{port}/", "loopback"),
        ("http://10.0.0.1/", "private"),
        ("http://169.254.169.254/latest/meta-data", "metadata"),
        ("file:///etc/passwd", "not the address of a page"),
        ("ftp://example.org/", "'ftp' is not allowed"),
        ("http://ann:secret@example.org/", "user name or password"),
        ("the weather in Oslo", "not the address of a page"),
        ("", "not the address of a page"),
        ("https://example.org/" + "a" * 3000, "not the address of a page"),
    ],
)
def test_where_it_does_not_go(service: Service, url: str, message: str) -> None:
    with pytest.raises(ToolError, match=re.escape(message)):
        read(WebPageTool(), url.format(port=service.port))
    assert not service.requests


def test_a_page_without_a_main_part() -> None:
    title, text = page_markdown(b"<h1>Only</h1><article><p>a</article><p>outside", url="http://x/")
    assert title == "Only"
    assert text == "# Only\n\na\n\noutside"


def test_in_an_agent(service: Service) -> None:
    service.replies.append(Reply(body=b"<p>Opened in 1889", headers=HTML))
    tool = tool_for(service)
    assert isinstance(tool, Tool)
    assert json.dumps(tool.definition.to_openai())
    model = ScriptedModel(
        [ToolCall(name="read_web_page", arguments={"url": service.url}), "In 1889."]
    )
    result = Agent(model, [tool]).run_sync("When did it open?")
    assert "Opened in 1889" in result.calls[0].observation
    with pytest.raises(UserError, match="max_chars"):
        WebPageTool(max_chars=0)
