"""How good grounded answers are: like the reference, cited rightly, refused rightly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentkit.errors import UserError
from agentkit_retrievers.evaluation.data import EvalQuery, read_objects
from agentkit_retrievers.evaluation.metrics import bootstrap, rouge_l, token_f1

if TYPE_CHECKING:
    import os

    from agentkit.grounding import GroundedAnswer
    from agentkit_retrievers.progress import Progress

__all__ = ["AnswerReport", "AnswerScores", "evaluate_answers", "read_answers", "score_answer"]

_ANSWERABLE = frozenset({"ANSWERABLE", "PARTIAL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerScores:
    """One answer, judged. ``None`` where a measure does not apply."""

    query_id: str
    """Of the question."""
    answer: GroundedAnswer
    """What was answered."""
    answerable: bool | None
    """Whether the documents answer the question; ``None`` if it has to be asked back."""
    token_f1: float | None
    """Words in common with the reference; 0 if refused. Of answerable questions."""
    rouge_l: float | None
    """Likewise, with their order."""
    citation_precision: float | None
    """Part of the cited documents that are relevant. Of answers with citations."""
    groundedness: float | None
    """Part of the claims that are grounded. Of answers that were not refused."""
    refused: bool
    """Whether the answer is a refusal."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "query_id": self.query_id,
            "answerable": self.answerable,
            "token_f1": self.token_f1,
            "rouge_l": self.rouge_l,
            "citation_precision": self.citation_precision,
            "groundedness": self.groundedness,
            "refused": self.refused,
            "answer": self.answer.to_dict(),
        }


_MEANS: dict[str, Callable[[AnswerScores], float | None]] = {
    "token_f1": lambda each: each.token_f1,
    "rouge_l": lambda each: each.rouge_l,
    "citation_precision": lambda each: each.citation_precision,
    "groundedness": lambda each: each.groundedness,
    # Refusing is right where nothing answers the question, and wrong elsewhere.
    "refused_unanswerable": lambda each: float(each.refused) if each.answerable is False else None,
    "refused_answerable": lambda each: float(each.refused) if each.answerable else None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReport:
    """All answers, judged."""

    scores: Sequence[AnswerScores]
    """One for each question."""
    meta: Mapping[str, Any]
    """What else is to be known: files, models, settings."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form: means, their 95 % ``intervals``, ``counts`` and the ``answers``."""
        estimates = {}
        counts = {}
        for name, measure in _MEANS.items():
            values = [value for value in map(measure, self.scores) if value is not None]
            counts[name] = len(values)
            estimates[name] = bootstrap(values) if values else None
        return {
            **{key: each and round(each.mean, 4) for key, each in estimates.items()},
            "intervals": {
                key: each and [round(each.low, 4), round(each.high, 4)]
                for key, each in estimates.items()
            },
            "counts": counts,
            "meta": dict(self.meta),
            "answers": [each.to_dict() for each in self.scores],
        }


def score_answer(query: EvalQuery, answer: GroundedAnswer) -> AnswerScores:
    """Judge one answer.

    Args:
        query: With ``reference`` and ``answerability``, where they are known. Without the
            latter a question counts as answerable if it has relevant documents; with it, if it
            says ``ANSWERABLE`` or ``PARTIAL``, and not if it says ``UNANSWERABLE``.
        answer: Its citations' ``doc_id`` are those of ``query.relevant``.
    """
    answerable = _is_answerable(query)
    compared = bool(answerable and query.reference)
    text = "" if answer.refused else answer.text
    cited = {str(citation.doc_id) for citation in answer.citations}
    shown = bool(cited) and not answer.refused and bool(query.relevant)
    return AnswerScores(
        query_id=query.query_id,
        answer=answer,
        answerable=answerable,
        token_f1=token_f1(text, query.reference) if compared else None,
        rouge_l=rouge_l(text, query.reference) if compared else None,
        citation_precision=len(cited & set(query.relevant)) / len(cited) if shown else None,
        groundedness=None if answer.refused else answer.groundedness,
        refused=answer.refused,
    )


async def evaluate_answers(
    answer: Callable[[EvalQuery], Awaitable[GroundedAnswer]],
    queries: Sequence[EvalQuery],
    *,
    meta: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> AnswerReport:
    """Ask questions one after another and judge the answers.

    Args:
        answer: Answers one.
        queries: Which.
        meta: Goes into the report.
        progress: Called with stage ``"answer"``.

    Raises:
        UserError: There is no question.
    """
    if not queries:
        raise UserError("nothing to judge: there is no question")
    scores = []
    for done, query in enumerate(queries, start=1):
        scores.append(score_answer(query, await answer(query)))
        if progress is not None:
            progress("answer", done, len(queries))
    return AnswerReport(scores=scores, meta=dict(meta or {}))


def _is_answerable(query: EvalQuery) -> bool | None:
    if not query.answerability:
        return bool(query.relevant)
    if query.answerability & _ANSWERABLE:
        return True
    return False if "UNANSWERABLE" in query.answerability else None


def read_answers(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read answers that were made elsewhere: ``query_id`` and ``answer`` in each line.

    Raises:
        UserError: The file cannot be read, or a line is malformed; the message names it.
    """
    answers: dict[str, str] = {}
    for where, data in read_objects(path):
        query_id, answer = data.get("query_id"), data.get("answer")
        if not isinstance(query_id, str | int) or not isinstance(answer, str):
            raise UserError(f"{where}: needs query_id and answer, the latter as text")
        answers[str(query_id)] = answer
    return answers
