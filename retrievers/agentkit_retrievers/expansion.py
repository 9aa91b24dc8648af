"""From the passage that was found to more of the text around it."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from agentkit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agentkit.retrieval import Document, ScoredDocument

__all__ = ["ContextExpander"]

# Between two chunks there is only white space; more than this, and a chunk is missing.
_MAX_GAP = 200


class ContextExpander:
    """Puts a chunk's neighbours, or the whole of its source, around it.

    Small chunks are found well and large ones are read well; so search for the former and
    show the latter. Hits of one source whose texts meet become one, with the best score and
    in the best one's place. Documents without ``start`` and ``end`` stay as they are.

    Args:
        documents: All chunks, such as ``retriever.documents``.
        before: Chunks to add before a hit; ``None`` for all of the source.
        after: Chunks to add after it; ``None`` for all.
        max_chars: Nearest chunks are added first, and none that would make the text longer.

    Raises:
        UserError: A number is below 0.

    Example:
        >>> expander = ContextExpander(retriever.documents, before=1, after=1)
        >>> hits = expander.expand(retriever.retrieve("How do I reset it?"))
    """

    def __init__(
        self,
        documents: Iterable[Document],
        *,
        before: int | None = 1,
        after: int | None = 1,
        max_chars: int = 4000,
    ) -> None:
        for name, value in (("before", before), ("after", after), ("max_chars", max_chars)):
            if value is not None and value < 0:
                raise UserError(f"{name} must be at least 0, not {value}")
        self.before, self.after = before, after
        self.max_chars = max_chars
        self._chunks: dict[str, list[Document]] = defaultdict(list)
        for document in documents:
            if document.start is not None and document.end is not None:
                self._chunks[document.source].append(document)
        for chunks in self._chunks.values():
            chunks.sort(key=_span)
        self._starts = {
            source: [_span(chunk) for chunk in chunks] for source, chunks in self._chunks.items()
        }

    def expand(self, hits: Sequence[ScoredDocument]) -> list[ScoredDocument]:
        """The hits with more text around them, best first.

        Returns:
            At most as many as ``hits``. A document that grew has the ``doc_id`` of the best
            hit in it, ``start`` and ``end`` of the text that it now has, and in
            ``metadata["matched"]`` the spans that were found, as ``[start, end]`` in the source.
        """
        grown: list[ScoredDocument] = []
        for hit in hits:
            wide = self._widen(hit)
            for i, other in enumerate(grown):
                joined = _join(other, wide, limit=self.max_chars)
                if joined is not None:
                    grown[i] = joined
                    break
            else:
                grown.append(wide)
        return grown

    def _widen(self, hit: ScoredDocument) -> ScoredDocument:
        chunks = self._chunks.get(hit.document.source, [])
        if hit.document.start is None or hit.document.end is None:
            return hit
        place = bisect_left(self._starts.get(hit.document.source, []), _span(hit.document))
        if place >= len(chunks) or _span(chunks[place]) != _span(hit.document):
            return hit  # Not one of the documents that the expander knows.
        matched = {**hit.document.metadata, "matched": [[hit.document.start, hit.document.end]]}
        text = replace(hit.document, metadata=matched)
        left, right = place - 1, place + 1
        first = 0 if self.before is None else max(0, place - self.before)
        last = len(chunks) - 1 if self.after is None else min(len(chunks) - 1, place + self.after)
        while left >= first or right <= last:
            # In turns, so that the hit stays in the middle.
            if right <= last:
                more = _concatenate(text, chunks[right], limit=self.max_chars)
                text, right = (more, right + 1) if more else (text, last + 1)
            if left >= first:
                more = _concatenate(chunks[left], text, limit=self.max_chars)
                text, left = (more, left - 1) if more else (text, first - 1)
        return replace(hit, document=replace(text, doc_id=hit.document.doc_id, metadata=matched))


def _span(document: Document) -> tuple[int, int]:
    return document.start or 0, document.end or 0


def _concatenate(first: Document, second: Document, *, limit: int) -> Document | None:
    """Two pieces of one source as one; ``None`` if they do not meet or are too long."""
    (begin, end), (start, stop) = _span(first), _span(second)
    if start > end + _MAX_GAP or start < begin or max(end, stop) - begin > limit:
        return None
    text = first.text
    if stop > end:
        # White space for the white space between chunks, so that offsets stay true.
        text += "\n\n".ljust(start - end)[: max(0, start - end)]
        text += second.text[max(0, end - start) :]
    return replace(first, text=text, end=max(end, stop))


def _join(best: ScoredDocument, other: ScoredDocument, *, limit: int) -> ScoredDocument | None:
    """A hit with a worse one merged into it; ``None`` if they do not overlap or touch."""
    a, b = best.document, other.document
    if a.source != b.source or None in (a.start, a.end, b.start, b.end):
        return None
    first, second = (a, b) if _span(a) <= _span(b) else (b, a)
    if _span(second)[0] > _span(first)[1]:
        return None
    inside = _span(second)[1] <= _span(first)[1]
    merged = _concatenate(first, second, limit=max(limit, len(first.text)) if inside else limit)
    if merged is None:
        return None
    spans = [*a.metadata.get("matched", []), *b.metadata.get("matched", [])]
    document = replace(
        a,
        text=merged.text,
        start=merged.start,
        end=merged.end,
        metadata={**a.metadata, "matched": spans},
    )
    return replace(best, document=document)
