"""HTML as the text that a reader of the page would call its content.

The result is light Markdown (``#`` headings, ``-`` items, fenced code), so that chunking finds
a page's structure, and small models read a form that they know.
"""

from __future__ import annotations

import re
from typing import Any

from bs4 import BeautifulSoup, NavigableString, Tag

__all__ = ["html_to_text"]

# Elements by name; each pattern is matched in full.
_DROPPED = re.compile(
    "script|style|noscript|template|head|nav|svg|math|iframe|object|button|select|textarea"
)
_BLOCKS = re.compile(
    "address|article|aside|blockquote|body|details|dialog|div|dl|fieldset|figcaption|figure|footer|"
    "form|header|hr|main|ol|p|section|summary|table|ul|h[1-6]"
)
_LINES = re.compile("dd|dt|li|tr|caption|thead|tbody|tfoot")
_SPACE = re.compile(r"\s+")


def html_to_text(markup: str) -> tuple[str, str]:
    """Title and main text of a page.

    The text is that of ``<main>``, of the only ``<article>``, or of the whole body, without
    scripts, styles, navigation and what is hidden.

    Args:
        markup: The page, decoded.

    Returns:
        The title (``<title>``, else the first ``<h1>``, else empty) and the text.
    """
    # The line break keeps BeautifulSoup from warning that a short text looks like a file name.
    soup = BeautifulSoup(markup + "\n", "html.parser")
    title = soup.find("title") or soup.find("h1")
    writer = _Writer()
    # A stack and no recursion: pages nested a thousand deep exist. An int on it is a break.
    stack: list[Any] = [_main(soup)]
    while stack:
        node = stack.pop()
        if isinstance(node, int):
            writer.break_lines(node)
        elif isinstance(node, Tag):
            stack.extend(reversed(_enter(node, writer)))
        elif type(node) is NavigableString:  # Its subclasses are comments and the like.
            writer.write(str(node))
    return (title.get_text(" ", strip=True) if title else ""), "".join(writer.parts)


def _main(soup: Any) -> Any:
    main = soup.find("main") or soup.find(attrs={"role": "main"})
    if main is None:
        articles = soup.find_all("article", limit=2)
        main = articles[0] if len(articles) == 1 else None
    return main or soup.find("body") or soup


def _enter(tag: Any, writer: _Writer) -> list[Any]:
    """Write what opens an element; what is left to visit in it."""
    name = tag.name.lower()
    if _DROPPED.fullmatch(name) or _is_hidden(tag):
        return []
    if name == "br":
        return [1]
    if name == "pre":
        writer.write_code(tag.get_text())
        return []
    lines = 2 if _BLOCKS.fullmatch(name) else 1 if _LINES.fullmatch(name) else 0
    if lines:
        writer.break_lines(lines)
    if re.fullmatch("h[1-6]", name):
        # On one line, whatever is inside: a line break would end the heading.
        writer.write("#" * int(name[1]) + " " + tag.get_text(" ", strip=True).replace("¶", ""))
        return [lines]
    if name == "li" and tag.get_text(strip=True):
        writer.prefix("- ")
    if name in ("td", "th") and tag.find_previous_sibling(("td", "th")):
        writer.write(" | ")
    return [*tag.children, lines] if lines else list(tag.children)


def _is_hidden(tag: Any) -> bool:
    return (
        tag.get("role") == "navigation"
        or tag.get("aria-hidden") == "true"
        or tag.has_attr("hidden")
        or "headerlink" in (tag.get("class") or ())  # Sphinx's and MkDocs' pilcrows
    )


class _Writer:
    """Collects text with HTML's white space rules: runs collapse, blocks break lines."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._breaks = 0
        self._space = False
        self._prefix = ""

    def break_lines(self, count: int) -> None:
        """End the line (1) or the paragraph (2); breaks in a row do not add up."""
        if self._prefix:
            return  # The line has only begun: a paragraph in a list item stays on its line.
        self._breaks = max(self._breaks, count)
        self._space = False

    def prefix(self, mark: str) -> None:
        """Begin the next line with ``mark``."""
        self._prefix = mark

    def write(self, text: str) -> None:
        words = _SPACE.sub(" ", text)
        if not words.strip():
            self._space = self._space or bool(words)
            return
        if self._breaks or not self.parts:
            self._open_line()
        elif self._space or words[0] == " ":
            self.parts.append(" ")
        self.parts.append(words.strip())
        self._space = words[-1] == " "

    def write_code(self, code: str) -> None:
        code = code.strip("\n").replace("\r", "")
        if code.strip():
            self._prefix = ""  # A fence must begin its line to be one.
            self.break_lines(2)
            self._open_line()
            fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", code)), 0)
            self.parts.append(f"{fence}\n{code}\n{fence}")
            self.break_lines(2)

    def _open_line(self) -> None:
        if self.parts:
            self.parts.append("\n" * self._breaks)
        self.parts.append(self._prefix)
        self._breaks, self._space, self._prefix = 0, False, ""
