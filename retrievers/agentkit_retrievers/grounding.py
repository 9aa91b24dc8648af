"""Whether an answer is in the documents: citations, a check, and a refusal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentkit.errors import UserError
from agentkit.grounding import Citation, GroundedAnswer, GroundedSentence
from agentkit_retrievers.judging import judge_claim
from agentkit_retrievers.sentences import Sentence, split_sentences
from agentkit_retrievers.support import Evidence, EvidenceIndex, is_claim, is_refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentkit.models.base import Model
    from agentkit.result import RunResult
    from agentkit.retrieval import Document
    from agentkit_retrievers.embedding import Embedder

__all__ = ["REFUSAL", "Grounding", "aground", "ground"]

REFUSAL = "This cannot be answered from the documents."
"""What stands in the place of an answer that the documents do not support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounding:
    """How answers are checked against documents. Safe to share between threads."""

    threshold: float = 0.5
    """A sentence with at least this support, from 0 to 1, is grounded. Support is the part of
    its rarer words, and of its numbers, that one place in the documents has; with an
    :attr:`embedder` the closeness of meaning counts half."""
    min_grounded: float = 0.5
    """Part of the answer's claims that must be grounded, or it is refused. 0 never refuses."""
    max_citations: int = 2
    """Citations of one sentence, at most."""
    embedder: Embedder | None = field(default=None, repr=False)
    """Compares meanings, and not only words. Recommended where answers paraphrase."""
    judge: Model | None = field(default=None, repr=False)
    """A model that is asked of each claim with some support whether its sources support it. Its
    "no" wins. Small models are poor judges: measure before use."""
    refusal: str = REFUSAL
    """Takes a refused answer's place."""

    def __post_init__(self) -> None:
        for name in ("threshold", "min_grounded"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UserError(f"Grounding.{name} must be from 0 to 1, not {value}")
        if self.max_citations < 1:
            raise UserError(f"Grounding.max_citations must be at least 1, not {self.max_citations}")

    async def acheck(self, answer: str, documents: Sequence[Document]) -> GroundedAnswer:
        """Check an answer against documents.

        Args:
            answer: What a model wrote. Questions, greetings and the like in it are no claims,
                and are not checked.
            documents: What it should be in.

        Raises:
            ModelError: The judge failed.
        """
        sentences = split_sentences(answer)
        if not sentences or is_refusal(answer):
            return GroundedAnswer(
                text=answer or self.refusal, answer=answer, groundedness=0.0, refused=True
            )
        checked = await asyncio.to_thread(self._check, sentences, documents)
        if self.judge is not None:
            checked = [await self._judged(each, self.judge) for each in checked]
        claims = [each for each in checked if each.is_claim]
        groundedness = sum(each.grounded for each in claims) / len(claims) if claims else 1.0
        refused = groundedness < self.min_grounded
        return GroundedAnswer(
            text=self.refusal if refused else answer,
            answer=answer,
            sentences=tuple(checked),
            groundedness=groundedness,
            refused=refused,
        )

    def check(self, answer: str, documents: Sequence[Document]) -> GroundedAnswer:
        """:meth:`acheck`, for threads in which no event loop runs."""
        return asyncio.run(self.acheck(answer, documents))

    def _check(
        self, sentences: Sequence[Sentence], documents: Sequence[Document]
    ) -> list[GroundedSentence]:
        index = EvidenceIndex(documents, embedder=self.embedder)
        checked = []
        for sentence, found in zip(sentences, index.support(sentences), strict=True):
            best = found[0].support if found else 0.0
            claim = is_claim(sentence.text)
            checked.append(
                GroundedSentence(
                    text=sentence.text,
                    start=sentence.start,
                    end=sentence.end,
                    is_claim=claim,
                    support=best,
                    grounded=claim and best >= self.threshold,
                    citations=self._citations(found) if claim else (),
                )
            )
        return checked

    def _citations(self, found: Sequence[Evidence]) -> tuple[Citation, ...]:
        cited = [each for each in found if each.support >= self.threshold]
        return tuple(each.to_citation() for each in cited[: self.max_citations])

    async def _judged(self, sentence: GroundedSentence, judge: Model) -> GroundedSentence:
        if not sentence.grounded:
            return sentence
        source = "\n".join(citation.text for citation in sentence.citations)
        return sentence if await judge_claim(judge, sentence.text, source) else sentence.rejected()


async def aground(
    result: RunResult,
    *,
    grounding: Grounding | None = None,
    documents: Sequence[Document] = (),
) -> GroundedAnswer:
    """Check a run's answer against the documents that the model was shown.

    Args:
        result: Of a run with documents, from its retriever or its tools.
        grounding: ``None`` for ``Grounding()``.
        documents: Those that were given to the run itself, which its result does not hold.
    """
    shown = [*documents, *(hit.document for hit in result.sources)]
    # Of an agent with a grounding of its own, the output may be a refusal.
    answer = result.output if result.grounding is None else result.grounding.answer
    return await (grounding or Grounding()).acheck(answer, shown)


def ground(
    result: RunResult,
    *,
    grounding: Grounding | None = None,
    documents: Sequence[Document] = (),
) -> GroundedAnswer:
    """:func:`aground`, for threads in which no event loop runs.

    Example:
        >>> result = agent.run_sync("What is the fine for a late return?")
        >>> print(ground(result).marked())
    """
    return asyncio.run(aground(result, grounding=grounding, documents=documents))
