"""How well places in documents support a sentence."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agentkit.grounding import Citation
from agentkit_retrievers.sentences import Sentence, split_sentences
from agentkit_retrievers.terms import Analyzer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agentkit.retrieval import Document
    from agentkit_retrievers.embedding import Embedder

__all__ = ["Evidence", "EvidenceIndex", "is_claim", "is_refusal"]

_REFUSAL = re.compile(
    r"\b(?:do(?:es)? not|don[’']?t|doesn[’']?t|can(?:no|[’']?)t|could not|couldn[’']?t|unable to)\b"
    r"[^.!?]{0,60}\b(?:know|have|find|answer|contain|mention|provide|information|say)\b"
    r"|\b(?:cannot|can[’']?t|could not) be answered\b|\bno (?:information|answer|mention)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LETTERS = re.compile(r"[^\W\d_]")
_CLAIM_TERMS = 2
# A claim may stand in two sentences that follow one another.
_WINDOW = 2
# Cosine similarities of unrelated and of equivalent sentences, for MiniLM and its kind.
_UNRELATED, _EQUIVALENT = 0.2, 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A place in a document, and how well it supports a sentence."""

    document: Document
    """Where it is."""
    start: int
    """Offset of its first character in the document's text."""
    end: int
    """Offset one past its last."""
    support: float
    """From 0 to 1."""

    def to_citation(self) -> Citation:
        """The place, its offsets those in the source."""
        base = self.document.start or 0
        return Citation(
            doc_id=self.document.doc_id,
            source=self.document.source,
            title=self.document.title,
            start=base + self.start,
            end=base + self.end,
            text=self.document.text[self.start : self.end],
            support=self.support,
        )


class EvidenceIndex:
    """All places of some documents: their sentences, and pairs of neighbouring ones.

    Args:
        documents: Where to look.
        embedder: Compares meanings too; ``None`` for words alone.
    """

    def __init__(self, documents: Sequence[Document], *, embedder: Embedder | None = None) -> None:
        self._embedder = embedder
        self._analyzer = Analyzer()
        self._places: list[tuple[Document, int, int]] = []
        for document in documents:
            sentences = split_sentences(document.text)
            for size in range(1, _WINDOW + 1):
                for first, last in zip(sentences, sentences[size - 1 :], strict=False):
                    self._places.append((document, first.start, last.end))
        texts = [document.text[start:end] for document, start, end in self._places]
        self._terms = [frozenset(self._analyzer.terms(text)) for text in texts]
        self._numbers = [_numbers(text) for text in texts]
        titles = {id(document): self._analyzer.terms(document.title) for document in documents}
        self._titles = [frozenset(titles[id(document)]) for document, _, _ in self._places]
        # Rare terms say more: as for keyword search, by the sentences that have them.
        self._frequency = Counter(term for terms in self._terms for term in terms)
        self._vectors = embedder.embed_documents(texts) if embedder and texts else None

    def support(self, sentences: Sequence[Sentence]) -> list[list[Evidence]]:
        """For each sentence the places with any support, best first, one of each overlap."""
        if not self._places:
            return [[] for _ in sentences]
        vectors = None
        if self._embedder is not None:
            vectors = self._embedder.embed_documents([each.text for each in sentences])
        found = []
        for number, sentence in enumerate(sentences):
            scores = self._lexical(sentence.text)
            if vectors is not None and self._vectors is not None:
                cosines = self._vectors @ vectors[number]
                meaning = np.clip((cosines - _UNRELATED) / (_EQUIVALENT - _UNRELATED), 0, 1)
                scores = (scores + meaning) / 2
            # A number that a place does not have: what is said there is something else.
            wanted = _numbers(sentence.text)
            if wanted:
                scores *= [1.0 if wanted <= has else 0.5 for has in self._numbers]
            found.append(self._best(scores))
        return found

    def _lexical(self, text: str) -> NDArray[np.float64]:
        """The part of a sentence's terms, by weight, that each place has."""
        terms = set(self._analyzer.terms(text))
        count = len(self._places)
        weights = {term: math.log(1 + count / (1 + self._frequency.get(term, 0))) for term in terms}
        total = sum(weights.values()) or 1.0
        # A title's words hold for all of its passage.
        shared = [
            sum(weights[term] for term in terms & (own | title))
            for own, title in zip(self._terms, self._titles, strict=True)
        ]
        return np.array(shared) / total

    def _best(self, scores: NDArray[np.float64]) -> list[Evidence]:
        chosen: list[Evidence] = []
        # Stable: of equals the earlier, and single sentences stand before pairs in a document.
        for i in np.argsort(-scores, kind="stable")[:50]:
            document, start, end = self._places[i]
            overlaps = any(
                each.document is document and start < each.end and each.start < end
                for each in chosen
            )
            if scores[i] > 0 and not overlaps:
                support = min(1.0, float(scores[i]))
                chosen.append(Evidence(document=document, start=start, end=end, support=support))
        return chosen


def is_claim(sentence: str) -> bool:
    """Whether a sentence says something that can be checked: no question, and some content."""
    if sentence.rstrip().endswith("?") or not _LETTERS.search(sentence):
        return False
    return len(Analyzer().terms(sentence)) >= _CLAIM_TERMS


def is_refusal(answer: str) -> bool:
    """Whether an answer says, in its first sentence, that there is none."""
    sentences = split_sentences(answer)
    return bool(sentences and len(sentences) <= 3 and _REFUSAL.search(sentences[0].text))


def _numbers(text: str) -> frozenset[str]:
    return frozenset(number.replace(",", "") for number in _NUMBER.findall(text))
