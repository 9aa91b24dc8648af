"""Search by meaning and by words at once, over conversations."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Agent, Document, ScoredDocument, ScriptedModel, UserError
from agentkit.messages import AssistantMessage, UserMessage
from agentkit_retrievers import BM25Retriever, FaissRetriever, HybridRetriever, QueryRewriter
from agentkit_retrievers.fusion import fuse_ranks, fuse_scores
from hashing_embedder import HashingEmbedder

DOCUMENTS = [
    Document(doc_id="cats", text="cats sleep all day"),
    Document(doc_id="dogs", text="dogs want a walk each day"),
    Document(doc_id="router", text="the router resets when its button is held"),
    Document(doc_id="bikes", text="pump the tyres before a ride"),
]
CONVERSATION = [
    UserMessage("how is the router doing"),
    AssistantMessage("fine"),
    UserMessage("what about each button"),
    AssistantMessage("it is red"),
    UserMessage("does it want anything"),
]


def hybrid(**options):
    return HybridRetriever.from_documents(DOCUMENTS, embedder=HashingEmbedder(), **options)


def ids(hits):
    return [hit.document.doc_id for hit in hits]


def scored(**scores):
    return [ScoredDocument(Document(doc_id=key, text=key), score) for key, score in scores.items()]


def test_scores_are_stretched_and_added():
    fused = fuse_scores([scored(a=9.0, b=5.0, c=1.0), scored(b=0.5, d=0.1)], [0.5, 0.5], depth=3)
    assert {hit.document.doc_id: hit.score for hit in fused} == pytest.approx(
        # The second gave fewer than it was asked for, so that its scale begins at 0.
        {"b": 0.25 + 0.5, "a": 0.5, "d": 0.1, "c": 0.0}
    )
    assert ids(fused) == ["b", "a", "d", "c"]
    assert [hit.score for hit in fuse_scores([scored(a=2.0, b=2.0)], [1.0], depth=2)] == [1, 1]


def test_ranks_are_fused_by_their_reciprocals():
    fused = fuse_ranks([scored(a=3.0, b=2.0), scored(b=9.0)], [0.5, 1.0], k=60)
    assert {hit.document.doc_id: hit.score for hit in fused} == pytest.approx(
        {"b": 0.5 / 62 + 1 / 61, "a": 0.5 / 61}
    )
    assert ids(fused) == ["b", "a"]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=9))
def test_fusing_keeps_one_rankings_order(values):
    ranking = [
        ScoredDocument(Document(doc_id=i, text="x"), score)
        for i, score in enumerate(sorted(values, reverse=True))
    ]
    for fused in (fuse_scores([ranking], [1.0], depth=9), fuse_ranks([ranking], [1.0], k=5)):
        # Of scores that differ by less than arithmetic can tell, any order is right.
        places = [hit.document.doc_id for hit in fused]
        assert sorted(places) == list(range(len(values)))
        before = [ranking[i].score for i in places]
        assert all(a >= b - 1e-9 for a, b in itertools.pairwise(before))


def test_either_search_alone_and_both():
    query = "a walk for dogs"
    assert ids(hybrid().retrieve(query))[0] == "dogs"
    dense = hybrid(dense_weight=1.0).retrieve(query, top_k=3)
    expected = FaissRetriever.from_documents(DOCUMENTS, embedder=HashingEmbedder())
    assert ids(dense) == ids(expected.retrieve(query, top_k=3))
    sparse = hybrid(dense_weight=0.0).retrieve(query, top_k=3)
    assert ids(sparse) == ids(BM25Retriever.from_documents(DOCUMENTS).retrieve(query))


@pytest.mark.parametrize("options", [{}, {"dense_weight": 1.0}, {"dense_weight": 0.0}])
def test_earlier_turns_count_less_and_less(options):
    hits = hybrid(**options).retrieve_conversation(CONVERSATION)
    # "router" and "button" of earlier turns against "want" of the last, in few words each.
    assert set(ids(hits)[:2]) == {"router", "dogs"}
    last = hybrid(turn_decay=0.0, **options).retrieve_conversation(CONVERSATION)
    assert ids(last)[0] == "dogs"
    assert ids(last)[:1] == ids(hybrid(**options).retrieve("does it want anything"))[:1]


def test_an_agent_searches_with_the_conversation():
    agent = Agent(ScriptedModel(["Hold it."]), retriever=hybrid(top_k=1))
    history = [UserMessage("button button router"), AssistantMessage("Yes?")]
    result = agent.run_sync("and when is it held", history=history)
    assert ids(result.retrievals[0].hits) == ["router"]
    three_ago = [
        UserMessage("the router and its button"),
        AssistantMessage("Yes?"),
        UserMessage("hm"),
        AssistantMessage("Go on."),
    ]
    agent = Agent(ScriptedModel(["Hold it."]), retriever=hybrid(top_k=1))
    result = agent.run_sync("tell me more", history=three_ago)
    assert ids(result.retrievals[0].hits) == ["router"]


class PlainRetriever:
    """A retriever of somebody else's, which takes text only."""

    def __init__(self):
        self.queries = []

    def retrieve(self, query, *, top_k=None):
        self.queries.append(query)
        return [ScoredDocument(DOCUMENTS[3], 0.9)]


def test_any_retriever_can_be_one_half():
    plain = PlainRetriever()
    retriever = HybridRetriever(plain, BM25Retriever.from_documents(DOCUMENTS))
    hits = retriever.retrieve_conversation(CONVERSATION)
    assert plain.queries == ["what about each button\ndoes it want anything"]
    assert "bikes" in ids(hits)


def test_a_model_rewrites_the_question():
    model = ScriptedModel(["does the router want anything"] * 2)
    retriever = hybrid(turn_decay=0.0, rewriter=QueryRewriter(model), top_k=2)
    assert set(ids(retriever.retrieve_conversation(CONVERSATION))) == {"router", "dogs"}
    hits = asyncio.run(retriever.aretrieve_conversation(CONVERSATION))
    assert set(ids(hits)) == {"router", "dogs"}


class Reverse:
    """Orders hits the other way round."""

    def rerank(self, query, hits, *, top_k):
        self.query = query
        return list(reversed(hits))[:top_k]


def test_a_reranker_has_the_last_word():
    plain = hybrid().retrieve("a walk for dogs and cats", top_k=4)
    reverse = Reverse()
    reranked = hybrid(reranker=reverse, rerank_depth=4).retrieve(
        "a walk for dogs and cats", top_k=2
    )
    assert ids(reranked) == ids(plain)[::-1][:2]
    assert reverse.query == "a walk for dogs and cats"


def test_adding_removing_saving_and_loading(tmp_path):
    retriever = hybrid()
    retriever.add([Document(doc_id="fish", text="fish swim")])
    assert ids(retriever.retrieve("fish"))[0] == "fish"
    assert retriever.remove(["cats", "none"]) == 1
    assert "cats" not in ids(retriever.retrieve("cats sleep", top_k=9))
    retriever.save(tmp_path / "index")
    loaded = HybridRetriever.load(tmp_path / "index", embedder=HashingEmbedder())
    query = "when do fish swim all day"
    assert loaded.retrieve(query, top_k=9) == retriever.retrieve(query, top_k=9)
    # What an interruption between the two indexes' saving leaves is mended.
    BM25Retriever.from_documents(DOCUMENTS).save(tmp_path / "index")
    mended = HybridRetriever.load(tmp_path / "index", embedder=HashingEmbedder())
    assert mended.retrieve(query, top_k=9) == retriever.retrieve(query, top_k=9)


def test_from_folder(tmp_path):
    (tmp_path / "cats.md").write_text("# Cats\n\ncats sleep all day", encoding="utf-8")
    (tmp_path / "dogs.md").write_text("# Dogs\n\ndogs walk", encoding="utf-8")
    retriever = HybridRetriever.from_folder(tmp_path, embedder=HashingEmbedder(), top_k=1)
    assert ids(retriever.retrieve("dogs")) == ["dogs.md#0"]
    assert len(retriever) == len(retriever.documents) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 0},
        {"depth": 0},
        {"dense_weight": 1.1},
        {"turn_decay": -0.1},
        {"fusion": "magic"},
        {"context": -1},
    ],
)
def test_options_out_of_range(options):
    with pytest.raises(UserError, match=next(iter(options))):
        hybrid(**options)
    with pytest.raises(UserError, match="empty"):
        hybrid().retrieve(" ")
