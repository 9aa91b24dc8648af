"""Reading a corpus and its questions, one JSON object a line."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from agentkit.errors import MessageError, UserError
from agentkit.messages import Message, UserMessage, message_from_dict
from agentkit.retrieval import Document
from agentkit_retrievers.records import read_json_lines

__all__ = [
    "EvalQuery",
    "Split",
    "check_relevant",
    "read_corpus",
    "read_objects",
    "read_queries",
    "split_queries",
]

Split: TypeAlias = Literal["all", "tune", "test"]
"""All questions, or one of two halves: settings are chosen on one and judged on the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalQuery:
    """A question, the conversation before it, and what should be found for it."""

    query_id: str
    """Names the question. What stands before ``<::>``, if that is in it, names the conversation."""
    messages: tuple[Message, ...]
    """The conversation; the last message is the question."""
    relevant: Mapping[str, int]
    """Relevance by ``doc_id``, above 0; empty where no document answers the question."""
    reference: str = ""
    """An answer to compare with."""
    answerability: frozenset[str] = frozenset()
    """Such as ``{"ANSWERABLE"}``, ``{"UNANSWERABLE"}``, ``{"PARTIAL"}``."""
    where: str = ""
    """File and line, for error messages."""

    @property
    def text(self) -> str:
        """The question alone."""
        return self.messages[-1].content


def read_corpus(path: str | os.PathLike[str]) -> list[Document]:
    """Read passages: ``doc_id`` and ``text`` in each line, and :class:`agentkit.Document`'s others.

    Passages without any text are left out.

    Raises:
        UserError: The file cannot be read or holds none; or a line is malformed (the message
            names it), or has a ``doc_id`` that an earlier one has.
    """
    documents: list[Document] = []
    lines: dict[str, str] = {}
    for where, data in read_objects(path):
        doc_id = _identifier(data, "doc_id", where)
        if doc_id in lines:
            raise UserError(f"{where}: doc_id {doc_id!r} is taken by {lines[doc_id]}")
        lines[doc_id] = where
        if not _text(data, "text", where).strip():
            continue
        try:
            document = Document.from_dict({**data, "doc_id": doc_id})
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: not a passage: {error}") from error
        documents.append(document)
    if not documents:
        raise UserError(f"{os.fspath(path)}: holds no passage with text")
    return documents


def read_queries(path: str | os.PathLike[str]) -> list[EvalQuery]:
    """Read questions.

    Each line has ``query_id``, ``query`` and ``relevant`` (a list of ``doc_id``, or an object
    of grades by ``doc_id``), and may have ``history`` (earlier messages as ``role`` and
    ``content``), ``reference`` and ``answerability``.

    Raises:
        UserError: The file cannot be read or holds none; or a line is malformed (the message
            names it), or has a ``query_id`` that an earlier one has.
    """
    queries: list[EvalQuery] = []
    lines: dict[str, str] = {}
    for where, data in read_objects(path):
        query = _query(data, where)
        if query.query_id in lines:
            raise UserError(f"{where}: query_id {query.query_id!r} is in {lines[query.query_id]}")
        lines[query.query_id] = where
        queries.append(query)
    if not queries:
        raise UserError(f"{os.fspath(path)}: holds no question")
    return queries


def check_relevant(queries: Sequence[EvalQuery], documents: Sequence[Document]) -> None:
    """Check that what should be found is there to be found.

    Raises:
        UserError: A question's relevant document is not among the documents.
    """
    known = {str(document.doc_id) for document in documents}
    for query in queries:
        for doc_id in query.relevant:
            if doc_id not in known:
                raise UserError(
                    f"{query.where or query.query_id}: relevant document {doc_id!r} is not in the "
                    "corpus; is this the corpus that the questions belong to?"
                )


def split_queries(queries: Sequence[EvalQuery], split: Split, *, seed: int = 0) -> list[EvalQuery]:
    """One half of the questions, in their order; which are in it depends on ``seed`` alone.

    Questions of one conversation stay together.

    Raises:
        UserError: ``split`` is unknown.
    """
    if split not in ("all", "tune", "test"):
        raise UserError(f"split is {split!r}; it must be 'all', 'tune' or 'test'")
    if split == "all":
        return list(queries)
    conversations = sorted({_conversation(query) for query in queries})
    random.Random(seed).shuffle(conversations)
    tune = set(conversations[: len(conversations) // 2])
    return [query for query in queries if (_conversation(query) in tune) == (split == "tune")]


def _conversation(query: EvalQuery) -> str:
    return query.query_id.partition("<::>")[0]


def _query(data: Mapping[str, Any], where: str) -> EvalQuery:
    text = _text(data, "query", where)
    if not text.strip():
        raise UserError(f"{where}: the query is empty")
    history = data.get("history") or []
    if not isinstance(history, list):
        raise UserError(f"{where}: history must be a list of messages, not {history!r:.100}")
    try:
        earlier = [
            message_from_dict(item, where=f"{where}: history[{i}]")
            for i, item in enumerate(history)
        ]
    except MessageError as error:
        raise UserError(str(error)) from error
    answerability = data.get("answerability") or []
    if isinstance(answerability, str):
        answerability = [answerability]
    return EvalQuery(
        query_id=_identifier(data, "query_id", where),
        messages=(*earlier, UserMessage(text)),
        relevant=_relevant(data, where),
        reference=_text(data, "reference", where, default=""),
        answerability=frozenset(str(each).upper() for each in answerability),
        where=where,
    )


def _relevant(data: Mapping[str, Any], where: str) -> dict[str, int]:
    relevant = data.get("relevant")
    if isinstance(relevant, list):
        relevant = dict.fromkeys(map(str, relevant), 1)
    if not isinstance(relevant, Mapping) or not all(
        isinstance(grade, int) and not isinstance(grade, bool) for grade in relevant.values()
    ):
        raise UserError(
            f"{where}: relevant must be a list of doc_ids, or an object of whole-numbered grades "
            f"by doc_id, not {relevant!r:.100}"
        )
    return {str(doc_id): grade for doc_id, grade in relevant.items() if grade > 0}


def _identifier(data: Mapping[str, Any], key: str, where: str) -> str:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UserError(f"{where}: {key} must be text or a whole number, not {value!r:.100}")
    return str(value)


def _text(data: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = data.get(key, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} must be text, not {value!r:.100}")
    return value


def read_objects(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's place and object; empty lines are passed over."""
    name = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        raise UserError(f"{name}: is not UTF-8 text ({error})") from error
    for number, data in read_json_lines(text, name, raises=UserError):
        where = f"{name}, line {number}"
        if not isinstance(data, dict):
            raise UserError(f"{where}: must be a JSON object, not {data!r:.100}")
        yield where, data
