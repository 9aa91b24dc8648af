"""The little of Markdown that loading and chunking need: headings and front matter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Heading", "find_headings", "split_front_matter"]

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
# Lines that are no paragraph, so that an underline below them is a rule or a table instead.
_NO_PARAGRAPH = re.compile(r"\s*(?:$|[>|]|[-*+][ \t]|\d+[.)][ \t]|#)| {4}|\t")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
_ANCHOR = re.compile(r"\{#[^{}]*\}$")
_FRONT_MATTER_KEY = re.compile(r"([A-Za-z_][\w-]*)[ \t]*[:=](?:[ \t]+(.*)|[ \t]*)$")
_FRONT_MATTER_ENDS = {"---": ("---", "..."), "+++": ("+++",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """One heading and where it stands."""

    start: int
    """Offset of its first line, in characters."""
    end: int
    """Offset one past its last character; the section's body begins here."""
    level: int
    """1 for the highest, 6 for the lowest."""
    title: str
    """Its text without markup; may be empty."""


def find_headings(text: str) -> list[Heading]:
    """All headings of a Markdown text, in order; lines inside fenced code are none."""
    found: list[Heading] = []
    before, last = "", ""
    last_start = 0
    for start, line in _lines_outside_code(text):
        end = start + len(line)
        if atx := _ATX.match(line):
            title = _plain(_without_closing_hashes(atx[2] or ""))
            found.append(Heading(start=start, end=end, level=len(atx[1]), title=title))
        elif (under := _UNDERLINE.match(line)) and _is_lone_paragraph(before, last):
            level = 1 if under[1][0] == "=" else 2
            found.append(Heading(start=last_start, end=end, level=level, title=_plain(last)))
        before, last, last_start = last, line, start
    return found


def split_front_matter(text: str) -> tuple[dict[str, str], str]:
    """Take YAML (``---``) or TOML (``+++``) front matter off a Markdown text.

    Only plain ``key: value`` lines are read, which is what titles and tags need; nested
    values are dropped. A text that merely begins with a rule has no front matter.

    Returns:
        The values by key, and the text after the front matter.
    """
    lines = text.split("\n")
    ends = _FRONT_MATTER_ENDS.get(lines[0].rstrip())
    if ends is None or len(lines) < 2 or not _FRONT_MATTER_KEY.match(lines[1]):
        return {}, text
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() in ends:
            pairs = filter(None, map(_FRONT_MATTER_KEY.match, lines[1:number]))
            values = {pair[1]: _unquote(pair[2] or "") for pair in pairs}
            return values, "\n".join(lines[number + 1 :])
    return {}, text


def _lines_outside_code(text: str) -> Iterator[tuple[int, str]]:
    """Each line with its offset; a fenced code block counts as one empty line."""
    start = 0
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            # CommonMark: closed by at least as many of the same mark, with nothing after.
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
                yield start, ""
        elif mark and not (mark[1][0] == "`" and "`" in mark[2]):
            fence = mark[1]
        else:
            yield start, line
        start += len(line) + 1


def _is_lone_paragraph(before: str, line: str) -> bool:
    """Whether ``line`` can be a heading once it is underlined: a paragraph of one line."""
    return not before.strip() and not _NO_PARAGRAPH.match(line)


def _without_closing_hashes(title: str) -> str:
    title = title.strip()
    bare = title.rstrip("#")
    return bare.rstrip() if not bare or bare[-1] in " \t" else title


def _plain(title: str) -> str:
    title = _ANCHOR.sub("", _LINK.sub(r"\1", title.strip()))
    return title.replace("**", "").replace("__", "").replace("`", "").strip()


def _unquote(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
