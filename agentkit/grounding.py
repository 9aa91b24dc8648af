"""What the agent needs to know of checks of answers: a protocol, and what a check leaves behind.

The check itself is :class:`agentkit_retrievers.Grounding`; anything of this form works in its
place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentkit.retrieval import Document

__all__ = ["AnswerCheck", "Citation", "GroundedAnswer", "GroundedSentence", "unchecked"]


@runtime_checkable
class AnswerCheck(Protocol):
    """Anything that tells whether an answer is in documents."""

    @property
    def refusal(self) -> str:
        """Takes the place of an answer that is not."""
        ...

    async def acheck(self, answer: str, documents: Sequence[Document]) -> GroundedAnswer:
        """Check an answer against documents.

        Args:
            answer: What a model wrote.
            documents: What it should be in.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A place in a source that says what a sentence says."""

    doc_id: str | int
    """The document, or the chunk of one, that the place is in."""
    source: str
    """Where that is from."""
    title: str
    """Its title."""
    start: int
    """Offset of the place's first character in the source's text; in the document's own text
    if it is no chunk."""
    end: int
    """Offset one past its last character."""
    text: str
    """The place, word by word."""
    support: float
    """How well it supports the sentence, from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundedSentence:
    """One sentence of an answer, checked."""

    text: str
    """The sentence."""
    start: int
    """Offset of its first character in the answer."""
    end: int
    """Offset one past its last."""
    is_claim: bool
    """Whether it says something that can be checked."""
    support: float
    """The best place's support, from 0 to 1."""
    grounded: bool
    """Whether that is enough."""
    citations: tuple[Citation, ...] = ()
    """Places that support it, best first."""

    def rejected(self) -> GroundedSentence:
        """The sentence, not grounded after all."""
        return replace(self, grounded=False, citations=())


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundedAnswer:
    """An answer with its citations, or a refusal."""

    text: str
    """What to show: the answer, or the refusal in its place."""
    answer: str
    """What the model wrote."""
    sentences: tuple[GroundedSentence, ...] = ()
    """The answer's sentences, checked; none if the model itself refused."""
    groundedness: float
    """Part of the claims that are grounded, from 0 to 1."""
    refused: bool
    """Whether the documents do not support the answer, or the model itself said so."""

    @property
    def citations(self) -> tuple[Citation, ...]:
        """All citations, each place once, in the order of the answer."""
        places = {
            (each.doc_id, each.start, each.end): each
            for sentence in reversed(self.sentences)
            for each in reversed(sentence.citations)
        }
        return tuple(reversed(places.values()))

    def marked(self) -> str:
        """The answer with ``[1]`` after its sentences, and the places below, for people."""
        if self.refused:
            return self.text
        numbers: dict[tuple[str | int, int, int], int] = {}
        parts, done = [], 0
        for sentence in self.sentences:
            parts.append(self.answer[done : sentence.end])
            done = sentence.end
            for each in sentence.citations:
                key = (each.doc_id, each.start, each.end)
                parts.append(f" [{numbers.setdefault(key, len(numbers) + 1)}]")
        parts.append(self.answer[done:])
        places = {(each.doc_id, each.start, each.end): each for each in self.citations}
        lines = [
            f"[{number}] {places[key].source or places[key].doc_id}, "
            f"characters {places[key].start}-{places[key].end}"
            for key, number in numbers.items()
        ]
        return "".join(parts) + ("\n\n" + "\n".join(lines) if lines else "")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the reverse of :meth:`from_dict`."""
        return {**asdict(self), "sentences": [asdict(each) for each in self.sentences]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GroundedAnswer:
        """Build from :meth:`to_dict`'s output."""
        sentences = tuple(
            GroundedSentence(
                **{**each, "citations": tuple(Citation(**c) for c in each["citations"])}
            )
            for each in data["sentences"]
        )
        return cls(**{**data, "sentences": sentences})


def unchecked(answer: str, refusal: str) -> GroundedAnswer:
    """What there is to say of an answer for whose check there was no time: it is not shown."""
    return GroundedAnswer(text=refusal, answer=answer, groundedness=0.0, refused=True)
