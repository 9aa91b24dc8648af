"""A tool that reads web pages, whose addresses the model chooses."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentkit.errors import ToolError, UserError
from agentkit.tools import ToolContext, ToolDefinition
from agentkit_tools._http_body import ACCEPT_ENCODING, read_body
from agentkit_tools._page_markdown import check_installed, page_markdown
from agentkit_tools.http_errors import (
    HTTPConnectionError,
    HTTPRedirectError,
    HTTPRequestError,
    HTTPResponseError,
    HTTPStatusError,
    HTTPTimeoutError,
)
from agentkit_tools.network import NetworkPolicy

if TYPE_CHECKING:
    import httpx

__all__ = ["WebPageTool"]

_MAX_REDIRECTS = 5
_MAX_URL_CHARS = 2000
_KEPT_PAGES = 8
_KEPT_S = 300.0
_HTML = ("text/html", "application/xhtml+xml")
_TEXT = ("application/json", "application/xml", "application/javascript", "application/yaml")


@dataclass(frozen=True, slots=True)
class _Page:
    url: str
    title: str
    text: str
    cut: bool
    fetched: float


class WebPageTool:
    """Fetches a page and gives its main content as Markdown.

    As the model chooses the address, every connection goes through a
    :class:`~agentkit_tools.network.NetworkPolicy`: by default only to public addresses, also
    after redirects and whatever a name resolves to. Nothing is sent but the request for the
    page: no credentials, no cookies. Scripts do not run. A long page is given in parts. What a
    page says is untrusted text, which the agent keeps from posing as anything else, but a model
    may still believe it.

    Args:
        policy: Where it may connect to; ``None`` for the public internet.
        name: Under which the model knows the tool.
        links: Keep the addresses of links, for models that go on to read those pages.
        max_chars: Characters of a page that one call gives.
        max_bytes: How much of a page is read at all, decompressed.
        timeout: Seconds that one call may take, redirects included.
        user_agent: How the tool introduces itself to sites.

    Raises:
        MissingExtraError: beautifulsoup4 or markdownify is not installed.
        UserError: An option is out of range.
    """

    def __init__(
        self,
        *,
        policy: NetworkPolicy | None = None,
        name: str = "read_web_page",
        links: bool = False,
        max_chars: int = 8000,
        max_bytes: int = 2_000_000,
        timeout: float = 20.0,
        user_agent: str = "agentkit (web page reader)",
    ) -> None:
        check_installed()
        for option, value in {
            "max_chars": max_chars,
            "max_bytes": max_bytes,
            "timeout": timeout,
        }.items():
            if not value > 0:
                raise UserError(f"WebPageTool: {option} must be more than 0, not {value!r}")
        self._policy = policy or NetworkPolicy()
        self._links = links
        self._max_chars = max_chars
        self._max_bytes = max_bytes
        self._seconds = timeout
        self._headers = {
            "User-Agent": user_agent,
            "Accept": "text/html, text/*;q=0.9, application/json;q=0.8, */*;q=0.1",
            "Accept-Encoding": ACCEPT_ENCODING,
        }
        self._pages: OrderedDict[str, _Page] = OrderedDict()
        self.timeout: float | None = timeout + 10
        """Seconds for the agent to wait: the tool's own limit, and some for converting."""
        self.definition = ToolDefinition(
            name=name,
            description="Read a web page as text.",
            parameters={
                "type": "object",
                "properties": {
                    "url": {
                        "type": "string",
                        "description": "Address of the page, such as https://example.org/news",
                    },
                    "offset": {
                        "type": "integer",
                        "description": "Where to go on in a page that was read in part",
                        "minimum": 0,
                        "default": 0,
                    },
                },
                "required": ["url"],
                "additionalProperties": False,
            },
        )
        """What the model is told."""

    def __repr__(self) -> str:
        return f"WebPageTool({self.definition.name!r})"

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Fetch a page, or give the next part of one.

        Args:
            arguments: ``url``, and ``offset`` in characters.
            context: Of this call.

        Raises:
            ToolError: The page is not allowed, not there, no text, or too slow.
        """
        url = _normal_url(arguments["url"])
        offset = arguments.get("offset") or 0
        page = self._kept(url)
        if page is None or not offset:
            page = await self._fetch(url)
            self._pages[url] = page
            while len(self._pages) > _KEPT_PAGES:
                self._pages.popitem(last=False)
        return self._part(page, offset)

    def _kept(self, url: str) -> _Page | None:
        page = self._pages.get(url)
        return page if page and time.monotonic() - page.fetched < _KEPT_S else None

    def _part(self, page: _Page, offset: int) -> str:
        if offset and offset >= len(page.text):
            raise ToolError(f"the page has {len(page.text)} characters; pass a smaller offset")
        if not page.text:
            return f"{page.url} has no text that can be read without running its scripts"
        end = _end_of_part(page.text, offset, self._max_chars)
        head = "" if offset else f"{page.title or 'Page'}\n{page.url}\n\n"
        note = ""
        if end < len(page.text):
            note = f"\n[characters {offset} to {end} of {len(page.text)}; offset={end} for more]"
        elif page.cut:
            note = "\n[the page is longer than what is read of a page]"
        return head + page.text[offset:end].strip() + note

    async def _fetch(self, url: str) -> _Page:
        import httpx

        try:
            async with (
                asyncio.timeout(self._seconds),
                self._policy.client(headers=self._headers, timeout=self._seconds) as client,
            ):
                response, body, cut = await self._follow(client, url)
        except TimeoutError as error:
            raise HTTPTimeoutError(
                f"{url} did not answer within {self._seconds:g} s; try another page"
            ) from error
        except httpx.TimeoutException as error:
            raise HTTPTimeoutError(f"{url} did not answer in time; try another page") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise HTTPConnectionError(
                f"{url} could not be reached ({str(error)[:200] or type(error).__name__}); check "
                "the address or try another page"
            ) from error
        # Parsing a large page takes seconds, in which other runs must go on.
        title, text = await asyncio.to_thread(self._read, response, body)
        return _Page(str(response.url), title, text, cut, time.monotonic())

    async def _follow(
        self, client: httpx.AsyncClient, url: str
    ) -> tuple[httpx.Response, bytes, bool]:
        request = client.build_request("GET", url)
        for _ in range(1 + _MAX_REDIRECTS):
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                if response.next_request is None:
                    _check(response)
                    return response, *await self._body(response)
            finally:
                await response.aclose()
            request = response.next_request
        raise HTTPRedirectError(f"{url} redirects more than {_MAX_REDIRECTS} times")

    async def _body(self, response: httpx.Response) -> tuple[bytes, bool]:
        try:
            body, complete = await read_body(response, self._max_bytes)
        except HTTPResponseError as error:
            raise HTTPResponseError(f"{response.url}: {error}") from error
        return body, not complete

    def _read(self, response: httpx.Response, body: bytes) -> tuple[str, str]:
        kind = _media_type(response)
        looks_like_html = re.match(rb"\s*(?:<!doctype html|<html)", body[:500], re.IGNORECASE)
        if kind in _HTML or (not kind and looks_like_html):
            return page_markdown(
                body, url=str(response.url), charset=response.charset_encoding, links=self._links
            )
        text = body.decode(response.encoding or "utf-8", "replace").lstrip("\ufeff")
        return "", text.replace("\r\n", "\n").strip()


def _normal_url(text: str) -> str:
    import httpx

    url = text.strip().strip("<>").partition("#")[0]
    if "://" not in url and re.match(r"[\w-]+(\.[\w-]+)+(:\d+)?(/|\?|$)", url):
        url = f"https://{url}"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if not parsed.host or len(url) > _MAX_URL_CHARS:
        raise HTTPRequestError(
            f"{text[:100]!r} is not the address of a page; pass one such as https://example.org/news"
        )
    if parsed.userinfo:
        raise HTTPRequestError("the address must not hold a user name or password")
    return url


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def _check(response: httpx.Response) -> None:
    """Refuse what is no page, before it is read."""
    url, status = response.url, response.status_code
    if not response.is_success:
        reason = f"{status} {response.reason_phrase}".strip()
        advice = {
            401: "it needs a login",
            403: "it does not let programs read it",
            404: "there is no such page; check the address",
            410: "the page is gone",
            429: "it was asked too often; try later",
        }.get(status, "the site has a problem; try another page" if status >= 500 else "")
        raise HTTPStatusError(
            f"{url} answered {reason}" + (f": {advice}" if advice else ""), status=status
        )
    kind = _media_type(response)
    known = (*_HTML, *_TEXT, "")
    if not (kind in known or kind.startswith("text/") or kind.endswith(("+json", "+xml"))):
        raise HTTPResponseError(f"{url} is {kind}, which is no text; only pages can be read")


def _end_of_part(text: str, start: int, size: int) -> int:
    """Where a part ends: between paragraphs, else between lines, else between words."""
    end = start + size
    if end >= len(text):
        return len(text)
    for mark in ("\n\n", "\n", " "):
        cut = text.rfind(mark, start + size // 2, end)
        if cut > 0:
            return cut + len(mark)
    return end
