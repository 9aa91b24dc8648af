"""Cutting documents into passages that an embedding model can take in whole."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentkit.errors import UserError
from agentkit_retrievers.code_structure import find_definitions
from agentkit_retrievers.identity import document_id
from agentkit_retrievers.markdown import Heading, find_headings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agentkit.retrieval import Document

__all__ = ["Chunker"]

# Where to cut, best first. Each pattern matches the gap itself: the chunk ends where the gap
# begins, so a gap may lie just past the limit.
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LIST_ITEM = re.compile(r"\n(?=[ \t]*(?:[-*+•|]|\d{1,3}[.)])[ \t])")
_SENTENCE = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)\]]))\s+(?![a-z\s])|(?<=[。！？])\s*")
_LINE = re.compile(r"\s*\n\s*")
_WORD = re.compile(r"\s+")
_BETWEEN_SENTENCES = (_PARAGRAPH, _LIST_ITEM, _SENTENCE, _LINE)

# How far past the limit a gap is looked at; more than the gaps that matter are long.
_GAP_LOOKAHEAD = 16
_ZERO_WIDTH_JOINER = "\u200d"
_WITH_HEADINGS = frozenset({"markdown", "html", "docx"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunker:
    """Cuts documents into chunks that remember where they are from.

    A chunk never crosses a heading, nor in source code the beginning of a function or class.
    Longer sections are cut between paragraphs where
    possible, else between list items, sentences, lines or words, and only as a last resort
    inside a word. A heading with nothing below it goes with the section that follows.
    """

    max_size: int = 1000
    """Upper bound on a chunk, in what ``length`` counts. The default, 1000 characters, is
    about 230 tokens of English: it fits MiniLM's window of 256 with room for a title."""
    overlap: int = 150
    """How much of a chunk's end the next one of the same section repeats, at most, in what
    ``length`` counts; it begins at a sentence or at least a word."""
    length: Callable[[str], int] = len
    """Measures a text. Characters by default; pass ``embedder.count_tokens`` for tokens. Must
    not shrink (but by a token or so) when a text grows."""

    def __post_init__(self) -> None:
        if self.max_size < 1:
            raise UserError(f"max_size must be at least 1, not {self.max_size}")
        if not 0 <= self.overlap < self.max_size:
            raise UserError(
                f"overlap must be at least 0 and below max_size ({self.max_size}), "
                f"not {self.overlap}"
            )

    def split(self, document: Document) -> list[Document]:
        """Cut one document.

        Args:
            document: Its headings are looked for in ``text`` unless ``metadata["format"]``
                says that it has none, as plain text does.

        Returns:
            Chunks in order; none for a document of only white space. Between them they hold
            every character but white space. Each has the document's ``source``, a ``doc_id``
            ``"{id}#{n}"`` with ``n`` from 0, a ``title`` that leads to it by its headings
            (``"Guide > Install"``), and its span: ``document.text[chunk.start:chunk.end] ==
            chunk.text`` (if ``document`` is itself a chunk, the span is its source's and
            ``document.start`` has to be subtracted). Metadata is passed on; a PDF's chunks
            have ``page`` and ``last_page``, from 1, and a table's ``row`` and ``last_row``.

        Raises:
            UserError: ``length`` says that a single character is longer than ``max_size``.
        """
        text = document.text
        base = document.start or 0
        identity = document_id(document)
        chunks: list[Document] = []
        for begin, end, title in _sections(document):
            for start, stop in self._pack(text, begin, end):
                chunk = replace(
                    document,
                    text=text[start:stop],
                    doc_id=f"{identity}#{len(chunks)}",
                    title=title,
                    start=base + start,
                    end=base + stop,
                    metadata=_metadata(document.metadata, start, stop),
                )
                chunks.append(chunk)
        return chunks

    def split_all(self, documents: Iterable[Document]) -> list[Document]:
        """Cut several documents; their chunks, in order. See :meth:`split`."""
        return [chunk for document in documents for chunk in self.split(document)]

    def _pack(self, text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Spans of one section's chunks, without the white space at their ends."""
        end = begin + len(text[begin:end].rstrip())
        todo = start = _skip_space(text, begin, end)  # todo: first character not yet covered
        while todo < end:
            reach = self._reach(text, start, end)
            if reach <= todo:
                if start == todo:
                    raise UserError(
                        f"length() measures {self.length(text[todo])} for the one character "
                        f"{text[todo]!r}, above max_size={self.max_size}: raise max_size"
                    )
                start = todo  # The overlap leaves no room for anything new.
                continue
            cut = end if reach == end else self._cut(text, start, todo, reach, end)
            stop = start + len(text[start:cut].rstrip())
            yield start, stop
            todo = _skip_space(text, stop, end)
            start = self._overlap_start(text, start, stop, todo)

    def _reach(self, text: str, start: int, end: int) -> int:
        """The furthest offset at which a chunk from ``start`` still fits."""
        if self.length is len:
            return min(end, start + self.max_size)
        # About four characters a token; the search corrects any other guess.
        count = _largest(
            lambda n: self.length(text[start : start + n]) <= self.max_size,
            limit=end - start,
            guess=4 * self.max_size,
        )
        return start + count

    def _cut(self, text: str, start: int, todo: int, reach: int, end: int) -> int:
        """The best place to end a chunk: past ``todo``, not past ``reach``."""
        half, quarter = (start + reach) // 2, (3 * start + reach) // 4
        # The later half first: a paragraph's end near the start would leave a tiny chunk.
        for low, gaps in (
            (half, _BETWEEN_SENTENCES),
            (quarter, _BETWEEN_SENTENCES),
            (half, (_WORD,)),
            (todo, (_WORD,)),
        ):
            for gap in gaps:
                cut = _last_gap(gap, text, max(low, todo), reach, end)
                if cut > todo and self._fits(text[start:cut]):
                    return cut
        hard = _grapheme_start(text, reach, todo)
        return hard if self._fits(text[start:hard]) else reach

    def _fits(self, text: str) -> bool:
        # Tokens are not quite monotone: a text cut short can have one more.
        return self.length is len or self.length(text) <= self.max_size

    def _overlap_start(self, text: str, start: int, stop: int, todo: int) -> int:
        """Where the next chunk begins: in the last one's end, or at ``todo`` without overlap."""
        room = stop - start - 1  # The whole chunk again would be no progress.
        if self.length is len:
            count = min(room, self.overlap)
        else:
            count = _largest(
                lambda n: self.length(text[stop - n : stop]) <= self.overlap,
                limit=room,
                guess=4 * self.overlap,
            )
        if count <= 0:
            return todo
        first = stop - count
        for gap in (_PARAGRAPH, _SENTENCE, _WORD):
            for match in gap.finditer(text, first - 1, stop):
                if first <= match.end() < stop:
                    return match.end()
        while first < stop and _joined(text[first - 1], text[first]):
            first += 1
        return first if first < stop else todo


def _sections(document: Document) -> list[tuple[int, int, str]]:
    """Begin, end and title of each stretch of text that holds together."""
    text = document.text
    headings: list[Heading] = []
    form = document.metadata.get("format", "markdown")
    if form in _WITH_HEADINGS:
        headings = find_headings(text)
    elif form == "code":
        headings = find_definitions(text, str(document.metadata.get("language", "")))
    sections: list[tuple[int, int, str]] = []
    path: list[Heading] = []
    begin, title = 0, document.title
    body = 0  # Where the current section's text begins, after its heading.
    for heading in headings:
        if text[body : heading.start].strip():
            sections.append((begin, heading.start, title))
            begin = heading.start
        while path and path[-1].level >= heading.level:
            path.pop()
        path.append(heading)
        title = _title(document.title, [parent.title for parent in path])
        body = heading.end
    return [*sections, (begin, len(text), title)]


def _title(document_title: str, headings: list[str]) -> str:
    parts = [part for part in headings if part]
    # A Markdown document's title mostly is its first heading.
    if document_title and parts[:1] != [document_title]:
        parts.insert(0, document_title)
    return " > ".join(parts)


def _metadata(metadata: Any, start: int, stop: int) -> dict[str, Any]:
    """The document's metadata, with the numbers of pages or rows in place of their offsets."""
    own = dict(metadata)
    for many, one in (("pages", "page"), ("rows", "row")):
        offsets = own.pop(many, None)
        if offsets:
            own[one] = max(1, bisect_right(offsets, start))
            own[f"last_{one}"] = max(1, bisect_right(offsets, stop - 1))
    return own


def _largest(fits: Callable[[int], bool], *, limit: int, guess: int) -> int:
    """The largest count up to ``limit`` that fits, if all smaller ones do; 0 if none does."""
    low, step = 0, max(1, guess)
    while low < limit:
        high = min(limit, low + step)
        if not fits(high):
            break
        low, step = high, 2 * step
    else:
        return low
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def _skip_space(text: str, start: int, end: int) -> int:
    match = _WORD.match(text, start, end)
    return match.end() if match else start


def _last_gap(gap: re.Pattern[str], text: str, low: int, reach: int, end: int) -> int:
    """Where the last gap begins that does so between ``low`` and ``reach``; -1 for none."""
    found = -1
    for match in gap.finditer(text, low, min(end, reach + _GAP_LOOKAHEAD)):
        if match.start() > reach:
            break
        found = match.start()
    return found


def _grapheme_start(text: str, cut: int, floor: int) -> int:
    """The last place up to ``cut`` that is not inside one visible character."""
    place = cut
    while place > floor and place < len(text) and _joined(text[place - 1], text[place]):
        place -= 1
    return place if place > floor else cut


def _joined(left: str, right: str) -> bool:
    """Whether two neighbours are, by the simpler of Unicode's rules, one visible character."""
    if right < "\u0300":
        return False
    return (
        _ZERO_WIDTH_JOINER in (left, right)
        or unicodedata.category(right) in ("Mn", "Mc", "Me")
        or "\U0001f3fb" <= right <= "\U0001f3ff"  # skin tones
        or ("\ud800" <= left <= "\udbff" and "\udc00" <= right <= "\udfff")
    )
