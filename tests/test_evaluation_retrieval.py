"""Questions and corpora from files, and the comparison of searches on them."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from typer.testing import CliRunner

from agentkit import Document, UserError
from agentkit.cli.app import app
from agentkit.messages import AssistantMessage, UserMessage
from agentkit_retrievers import BM25Retriever, FaissRetriever
from agentkit_retrievers.evaluation import (
    Parts,
    evaluate_retrieval,
    html_report,
    make_retriever,
    read_corpus,
    read_queries,
    split_queries,
)
from hashing_embedder import HashingEmbedder

CORPUS = [
    {"doc_id": "cats", "text": "Cats sleep for most of the day.", "collection": "animals"},
    {"doc_id": "dogs", "text": "Dogs need a walk twice a day."},
    {"doc_id": 3, "text": "Engines burn petrol or diesel fuel."},
    {"doc_id": "bikes", "title": "Bicycles", "text": "Pump the tyres before a ride."},
]
QUERIES = [
    {"query_id": "a<::>1", "query": "How long do cats sleep?", "relevant": ["cats"]},
    {
        "query_id": "b<::>2",
        "history": [
            {"role": "user", "content": "What do engines burn?"},
            {"role": "assistant", "content": "Fuel."},
        ],
        "query": "Which kinds are there?",
        "relevant": {"3": 2, "bikes": 0},
    },
    {"query_id": "c", "query": "Who won?", "relevant": [], "answerability": ["UNANSWERABLE"]},
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path):
    return write(tmp_path / "corpus.jsonl", CORPUS), write(tmp_path / "queries.jsonl", QUERIES)


def parts(documents):
    return Parts(
        dense=FaissRetriever.from_documents(documents, embedder=HashingEmbedder()),
        sparse=BM25Retriever.from_documents(documents),
    )


def test_reads_corpus_and_questions(files):
    corpus, queries = read_corpus(files[0]), read_queries(files[1])
    assert corpus[0] == Document(
        text="Cats sleep for most of the day.", doc_id="cats", metadata={"collection": "animals"}
    )
    assert [document.doc_id for document in corpus] == ["cats", "dogs", "3", "bikes"]
    assert queries[1].messages == (
        UserMessage("What do engines burn?"),
        AssistantMessage("Fuel."),
        UserMessage("Which kinds are there?"),
    )
    assert queries[1].relevant == {"3": 2}
    assert queries[2].answerability == {"UNANSWERABLE"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2: is not JSON"),
        ("[1]", "line 2: must be a JSON object"),
        ('{"query": "x", "relevant": []}', "line 2: query_id must be"),
        ('{"query_id": "q", "relevant": []}', "line 2: query must be text"),
        ('{"query_id": "q", "query": " ", "relevant": []}', "line 2: the query is empty"),
        ('{"query_id": "q", "query": "x"}', "line 2: relevant must be"),
        ('{"query_id": "q", "query": "x", "relevant": {"d": "1"}}', "line 2: relevant must be"),
        (
            '{"query_id": "q", "query": "x", "relevant": [], "history": [{"role": "king"}]}',
            r"line 2: history\[0\]",
        ),
        ('{"query_id": "a<::>1", "query": "x", "relevant": []}', "line 2: .* line 1"),
    ],
)
def test_malformed_questions_are_named(tmp_path, line, complaint):
    path = tmp_path / "queries.jsonl"
    path.write_text(json.dumps(QUERIES[0]) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"queries.jsonl, {complaint}"):
        read_queries(path)


def test_malformed_passages_are_named(tmp_path):
    for rows, complaint in [
        ([{"doc_id": "x"}], "line 1: text must be text"),
        ([{"text": "x"}], "line 1: doc_id must be"),
        ([CORPUS[0], CORPUS[0]], "line 2: doc_id 'cats' is taken"),
        ([], "holds no passage"),
    ]:
        with pytest.raises(UserError, match=complaint):
            read_corpus(write(tmp_path / "corpus.jsonl", rows))
    with pytest.raises(UserError, match=r"nowhere\.jsonl: cannot be read"):
        read_corpus(tmp_path / "nowhere.jsonl")


def test_halves_share_no_conversation(tmp_path):
    rows = [
        {"query_id": f"c{n // 3}<::>{n}", "query": "x", "relevant": ["cats"]} for n in range(60)
    ]
    queries = read_queries(write(tmp_path / "queries.jsonl", rows))
    tune, test = (split_queries(queries, half, seed=1) for half in ("tune", "test"))
    assert len(tune) == len(test) == 30
    assert {query.query_id for query in tune} | {query.query_id for query in test} == {
        row["query_id"] for row in rows
    }
    conversations = [{query.query_id.split("<::>")[0] for query in half} for half in (tune, test)]
    assert not conversations[0] & conversations[1]
    assert split_queries(queries[::-1], "tune", seed=1) == tune[::-1]
    assert split_queries(queries, "tune", seed=2) != tune


def test_the_conversation_finds_what_the_last_turn_cannot(files):
    documents, queries = read_corpus(files[0]), read_queries(files[1])
    names = ["bm25", "bm25+conversation", "hybrid"]
    retrievers = {name: make_retriever(name, parts(documents)) for name in names}
    report = evaluate_retrieval(retrievers, queries, meta={"note": "<here>"})
    figures = report.to_dict()
    assert figures["bm25"]["recall@5"] == 0.5
    for name in ("bm25+conversation", "hybrid"):
        assert figures[name]["recall@5"] == figures[name]["ndcg@10"] == 1.0
        assert figures[name]["gain"]["mrr@10"]["relative"] == 1.0
    assert figures["meta"] == {"note": "<here>", "queries": 2, "baseline": "bm25"}
    page = html_report(report)
    assert "&lt;here&gt;" in page
    assert not re.search(r"<script|https?://|src=|<link", page)
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    bars = [len(ElementTree.fromstring(plot).findall("rect")) for plot in plots]
    assert bars == [3, 3, 3, 3]


@pytest.mark.parametrize(
    "name", ["", "sparse", "hybrid+", "dense+conversation+last-turn", "hybrid+rewrite"]
)
def test_configurations_that_cannot_be_made(name):
    with pytest.raises(UserError, match="configuration"):
        make_retriever(name, parts(read_corpus_of_one()))


def read_corpus_of_one():
    return [Document(doc_id="d", text="one passage")]


def test_command_compares_and_reports(files, tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTKIT_CACHE", str(tmp_path / "cache"))
    page = tmp_path / "report.html"
    options = ["eval", "retrieval", "--corpus", str(files[0]), "--queries", str(files[1])]
    result = CliRunner().invoke(app, [*options, "--json", "--html", str(page)])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["hybrid"]["recall@5"] == 1.0
    assert next(iter(figures)) == "dense"
    assert figures["meta"]["queries"] == 2
    assert "<svg" in page.read_text(encoding="utf-8")
    assert (tmp_path / "cache" / "embeddings.sqlite").is_file()

    result = CliRunner().invoke(app, [*options, "-c", "bm25", "-c", "bm25+conversation"])
    assert result.exit_code == 0
    assert "+100.0%" in result.stdout


def test_command_names_what_is_wrong(files, tmp_path):
    missing = [{**QUERIES[0], "relevant": ["birds"]}]
    queries = write(tmp_path / "other.jsonl", missing)
    options = ["eval", "retrieval", "--corpus", str(files[0]), "--queries", str(queries)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 2
    assert "other.jsonl, line 1: relevant document 'birds' is not in the corpus" in result.stderr
    result = CliRunner().invoke(app, [*options, "-c", "hybrid+rerank"])
    assert result.exit_code == 2
    assert "cross-encoder" in result.stderr
