"""The main content of a web page as Markdown."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

from agentkit.errors import MissingExtraError

__all__ = ["check_installed", "page_markdown"]

_DROPPED = re.compile(
    "script|style|noscript|template|nav|aside|footer|svg|math|iframe|object|embed|button|select|"
    "textarea|input|form|dialog|link|meta"
)
_BLANK_LINES = re.compile(r"[ \t]*\n(?:[ \t]*\n){2,}")


def check_installed() -> None:
    """Fail early, with the name of what to install.

    Raises:
        MissingExtraError: A package is missing.
    """
    try:
        import bs4
        import markdownify
    except ImportError as error:
        raise MissingExtraError(
            f"WebPageTool needs {error.name}; install it with `pip install agentkit-granite[web]`"
        ) from error
    del bs4, markdownify


def page_markdown(
    data: bytes, *, url: str, charset: str | None = None, links: bool = False
) -> tuple[str, str]:
    """Title and content of a page.

    The content is that of ``<main>``, of the only ``<article>``, or of the whole body, without
    navigation, forms, scripts and what is hidden.

    Args:
        data: The page, as it came.
        url: Where it came from, to complete its links.
        charset: As the header names it; otherwise the page's own word for it counts.
        links: Keep the addresses of links, completed; otherwise only their words.
    """
    from bs4 import BeautifulSoup, Comment
    from markdownify import MarkdownConverter

    # The line break keeps BeautifulSoup from warning that a short text looks like a file name.
    soup = BeautifulSoup(data + b"\n", "html.parser", from_encoding=charset)
    found = soup.find("title") or soup.find("h1")
    title = " ".join(found.get_text(" ").split()) if found else ""
    main = _main(soup)
    for comment in main.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    for tag in main.find_all(lambda tag: _DROPPED.fullmatch(tag.name) or _is_hidden(tag)):
        tag.extract()
    for image in main.find_all("img"):
        image.replace_with(image.get("alt") or "")
    for anchor in main.find_all("a"):
        target = _target(url, anchor.get("href"))
        if links and target and anchor.get_text(strip=True):
            anchor["href"] = target
            del anchor["title"]
        else:
            anchor.unwrap()
    try:
        converter = MarkdownConverter(
            heading_style="ATX", bullets="-", escape_misc=False, escape_underscores=False,
            escape_asterisks=False, table_infer_header=True,
        )  # fmt: skip
        text = str(converter.convert_soup(main))
    except RecursionError:  # nested by the thousand: the words, without their form
        text = main.get_text("\n", strip=True)
    return title, _BLANK_LINES.sub("\n\n", text.replace("\xa0", " ")).strip()


def _main(soup: Any) -> Any:
    main = soup.find("main") or soup.find(attrs={"role": "main"})
    if main is None:
        articles = soup.find_all("article", limit=2)
        main = articles[0] if len(articles) == 1 else None
    # A main part that is nearly empty is filled by a script, which does not run here.
    if main is not None and len(main.get_text(strip=True)) >= 100:
        return main
    return soup.find("body") or soup


def _is_hidden(tag: Any) -> bool:
    style = re.sub(r"\s", "", str(tag.get("style") or "")).lower()
    return (
        tag.has_attr("hidden")
        or tag.get("aria-hidden") == "true"
        or tag.get("role") in ("navigation", "search", "dialog")
        or "display:none" in style
        or "visibility:hidden" in style
        or "headerlink" in (tag.get("class") or ())
    )


def _target(base: str, href: Any) -> str:
    """The absolute address of a link; empty for anchors, scripts and data."""
    if not isinstance(href, str) or href.strip().startswith("#"):
        return ""
    try:
        target = urljoin(base, href.strip())
        parts = urlsplit(target)
    except ValueError:
        return ""
    return target if parts.scheme in ("http", "https", "mailto") and len(target) < 500 else ""
