"""Texts cut into sentences that know where they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Sentence", "split_sentences"]

# After an end mark and perhaps a quotation mark or bracket; at a line's end; and in scripts that
# put no space between sentences. No sentence ends after common abbreviations and initials.
_END = re.compile(
    r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)\]]))[ \t]+(?=[\"'“‘(\[]?[A-ZÀ-ÖØ-Þ0-9])"
    r"|(?<=[。！？])|\s*\n\s*"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|No|Fig|Eq|vs|etc|e\.g|i\.e|approx|Inc|Ltd|Co|U\.S)|"
    r"\b[A-Z])\.$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """One sentence of a text: ``text[start:end]``."""

    text: str
    """Without white space at its ends."""
    start: int
    """Offset of its first character."""
    end: int
    """Offset one past its last."""


def split_sentences(text: str) -> list[Sentence]:
    """Cut a text at its sentences' and lines' ends; together they hold all but white space."""
    sentences: list[Sentence] = []
    begin = 0
    for gap in _END.finditer(text):
        piece = text[begin : gap.start()]
        if "\n" not in gap[0] and _ABBREVIATION.search(piece):
            continue
        _add(sentences, text, begin, gap.start())
        begin = gap.end()
    _add(sentences, text, begin, len(text))
    return sentences


def _add(sentences: list[Sentence], text: str, begin: int, end: int) -> None:
    piece = text[begin:end]
    start = begin + len(piece) - len(piece.lstrip())
    stripped = piece.strip()
    if stripped:
        sentences.append(Sentence(text=stripped, start=start, end=start + len(stripped)))
