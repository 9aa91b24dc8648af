"""Texts as the terms that a keyword search compares: lower case, stemmed, without filler."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

from agentkit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Analyzer"]

# Words of two or more characters; in scripts without spaces each character is a term.
_SPACELESS = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TERM = re.compile(rf"[{_SPACELESS}]|(?:(?![{_SPACELESS}])\w){{2,}}|\d")


class Analyzer:
    """Cuts texts into terms: Snowball stems, without the language's stop words.

    Args:
        language: One of Snowball's, such as ``"english"``; ``None`` for neither stemming nor
            stop words.
        stop_words: Words to leave out; ``None`` for the language's own list, where there is
            one. English's is a long one, with question words and pronouns: conversations are
            full of them.

    Raises:
        UserError: Snowball does not know the language.
    """

    def __init__(
        self, language: str | None = "english", *, stop_words: Iterable[str] | None = None
    ) -> None:
        import Stemmer

        if language is not None and language not in Stemmer.algorithms():
            raise UserError(
                f"no stemmer for the language {language!r}; there are "
                f"{', '.join(Stemmer.algorithms())}, and None for none"
            )
        self.language = language
        if stop_words is None:
            stop_words = _stop_words(language)
        self.stop_words = frozenset(word.lower() for word in stop_words)
        self._stemmer: Any = None if language is None else Stemmer.Stemmer(language)
        # PyStemmer's objects keep state while they work.
        self._lock = threading.Lock()

    def terms(self, text: str) -> list[str]:
        """The terms of a text, in order, repeated ones too."""
        words = [word for word in _TERM.findall(text.lower()) if word not in self.stop_words]
        if self._stemmer is None:
            return words
        with self._lock:
            return list(self._stemmer.stemWords(words))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able settings, for a saved index; ``Analyzer(**settings)`` reverses it."""
        return {"language": self.language, "stop_words": sorted(self.stop_words)}


def _stop_words(language: str | None) -> Iterable[str]:
    if language is None:
        return ()
    from bm25s import stopwords as lists

    if language == "english":
        words: Iterable[str] = lists.STOPWORDS_EN_PLUS
        return words
    found: Iterable[str] = getattr(lists, f"STOPWORDS_{language.upper()}", ())
    return found
