"""Answers from documents: passages, questions that they answer, and ones that they do not.

`data/passages.json` is a list of

    {"title": "…", "text": "…", "qa": [{"q": "…", "a": "…"}], "cannot": ["…"]}
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from finetune.corpus import DATA

Passage = dict[str, Any]
Made = tuple[str | None, list[dict[str, Any]], list[dict[str, Any]], list[list[dict[str, Any]]]]

REFUSALS = (
    "The question cannot be answered based on the available data.",
    "This cannot be answered from the documents.",
    "The documents do not say that, so the question cannot be answered.",
    "I am sorry, but the available documents do not contain the answer.",
)
_SYSTEMS = (
    "Answer in one short sentence with the words of the document.",
    "Answer the question in a few sentences, from the documents alone.",
    "Use only the documents.",
)
_SEARCHES = (
    ("search_documents", "Search the documents and return the passages that fit the query best."),
    ("search_handbook", "Look up passages of the handbook."),
    ("find_passages", "Search the knowledge base for passages about a topic."),
    ("docs.search", "Full-text search over the company's documentation."),
)


def load_passages() -> list[Passage]:
    """All passages, in the order of the file."""
    passages: list[Passage] = json.loads((DATA / "passages.json").read_text("utf-8"))
    return passages


def document_groups(passages: list[Passage], rng: random.Random) -> Iterator[Made]:
    """System text, tools, documents and conversations, without end.

    Half of the groups show the documents from the start; the others have a tool to search them.
    """
    while True:
        shown = rng.sample(passages, min(len(passages), rng.choice([1, 1, 2, 3])))
        documents = [
            {"doc_id": i, "title": p["title"], "text": p["text"], "source": _source(p)}
            for i, p in enumerate(shown)
        ]
        system = rng.choice(_SYSTEMS) if rng.random() < 0.6 else None
        questions = _questions(shown, rng)
        if rng.random() < 0.5:
            said = [[_user(q), {"role": "assistant", "content": a}] for q, a in questions]
            yield system, [], documents, said
        else:
            name, description = rng.choice(_SEARCHES)
            texts = json.dumps(documents, ensure_ascii=False)
            said = [_searched(q, a, name, texts) for q, a in questions[:3]]
            yield system, [_tool(name, description)], [], said


def _questions(shown: list[Passage], rng: random.Random) -> list[tuple[str, str]]:
    asked = [(item["q"], item["a"]) for passage in shown for item in passage["qa"]]
    refused = [(q, rng.choice(REFUSALS)) for passage in shown for q in passage["cannot"]]
    chosen = rng.sample(asked, min(len(asked), 5)) + rng.sample(refused, min(len(refused), 2))
    rng.shuffle(chosen)
    return chosen


def _searched(question: str, answer: str, tool: str, found: str) -> list[dict[str, Any]]:
    query = json.dumps({"query": question.rstrip("?.! ")}, ensure_ascii=False)
    call = {"id": "call_0", "type": "function", "function": {"name": tool, "arguments": query}}
    return [
        _user(question),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": found},
        {"role": "assistant", "content": answer},
    ]


def _tool(name: str, description: str) -> dict[str, Any]:
    query = {"type": "string", "minLength": 1, "description": "What to look for"}
    parameters = {"type": "object", "properties": {"query": query}, "required": ["query"]}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _source(passage: Passage) -> str:
    return passage["title"].lower().replace(" ", "-") + ".md"


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}
