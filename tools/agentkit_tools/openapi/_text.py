"""Descriptions as written for people's browsers, made short enough for models' prompts."""

from __future__ import annotations

import html
import re

__all__ = ["shortened"]

_INLINE_TAG = re.compile(r"</?(?:a|b|code|em|i|span|strong|tt|u)(?:\s[^<>]*)?>", re.IGNORECASE)
_TAG = re.compile(r"<[/!a-zA-Z][^<>]*>")
_LINK = re.compile(r"!?\[([^\]\[]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)")
_MARKS = re.compile(r"\*\*|^#+\s*|^>\s*|^```\w*$|`", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")


def shortened(text: str, limit: int) -> str:
    """Plain text of at most ``limit`` characters, whole sentences where that is possible.

    Args:
        text: Markdown or HTML.
        limit: Characters.
    """
    text = html.unescape(_TAG.sub(" ", _INLINE_TAG.sub("", text)))
    text = _MARKS.sub("", _LINK.sub(r"\1", text))
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    kept = ""
    for sentence in _SENTENCE.split(text):
        longer = f"{kept} {sentence}".strip()
        if len(longer) > limit:
            break
        kept = longer
    return kept or f"{text[: limit - 1].rsplit(' ', 1)[0].rstrip(',;:')}…"
