"""Keyword search: BM25 on stemmed words."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import Document, IndexFormatError, Retriever, UserError
from agentkit.messages import AssistantMessage, UserMessage
from agentkit.retrieval import ConversationRetriever
from agentkit_retrievers import Analyzer, BM25Retriever

PASSAGES = {
    "cats": "Cats are sleeping for most of the day.",
    "dogs": "Dogs need a walk twice a day, whatever the weather.",
    "router": "The router XR-500 resets when its button is held.",
    "bikes": "Pump the tyres before each ride.",
}
DOCUMENTS = [Document(doc_id=key, text=text) for key, text in PASSAGES.items()]
WORDS = ["apple", "pear", "plum", "fig", "lime", "kiwi"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


def found(retriever, query, **options):
    return [hit.document.doc_id for hit in retriever.retrieve(query, **options)]


def test_is_a_retriever():
    retriever = BM25Retriever()
    assert isinstance(retriever, Retriever)
    assert isinstance(retriever, ConversationRetriever)
    assert retriever.retrieve("anything") == []


def test_finds_other_forms_of_a_word_and_names():
    retriever = BM25Retriever.from_documents(DOCUMENTS)
    assert found(retriever, "Where does a cat sleep?") == ["cats"]
    assert found(retriever, "xr-500 reset") == ["router"]
    assert found(retriever, "what is it about?") == []  # Stop words alone.
    assert found(retriever, "elephants") == []


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8), query=TEXTS)
def test_scores_are_bm25s_after_any_changes(texts, query):
    k1, b = 1.5, 0.75
    retriever = BM25Retriever(k1=k1, b=b, title_weight=1, analyzer=Analyzer(None))
    # Each document is first there with another text, beside some that go again.
    retriever.add(Document(doc_id=i, text="apple kiwi " * (i + 1)) for i in range(12))
    retriever.retrieve("apple")
    retriever.add(Document(doc_id=i, text=text) for i, text in enumerate(texts))
    assert retriever.remove(range(len(texts), 20)) == 12 - len(texts)

    tokens = [text.split() for text in texts]
    mean = sum(map(len, tokens)) / len(tokens)
    expected = {}
    for i, words in enumerate(tokens):
        score = 0.0
        for term in query.split():
            holders = sum(term in each for each in tokens)
            idf = math.log(1 + (len(tokens) - holders + 0.5) / (holders + 0.5))
            count = words.count(term)
            score += idf * count / (count + k1 * (1 - b + b * len(words) / mean))
        if score > 0:
            expected[i] = score
    hits = retriever.retrieve(query, top_k=20)
    assert {hit.document.doc_id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-4)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_follow_up_questions_find_their_subject():
    retriever = BM25Retriever.from_documents(DOCUMENTS)
    messages = [
        UserMessage("Tell me of the router XR-500."),
        AssistantMessage("It is a router. Cats like it."),
        UserMessage("Does the weather matter to it?"),
    ]
    hits = retriever.retrieve_conversation(messages)
    assert [hit.document.doc_id for hit in hits] == ["router", "dogs"]
    forgetful = BM25Retriever.from_documents(DOCUMENTS, turn_decay=0)
    hits = forgetful.retrieve_conversation(messages)
    assert [hit.document.doc_id for hit in hits] == ["dogs"]
    with pytest.raises(UserError, match="no question"):
        retriever.retrieve_conversation([AssistantMessage("hello")])


def test_titles_count_more_and_short_first_lines_are_titles():
    long_text = "A page about many other things, and once about saddles. " * 3
    for titled in (
        Document(doc_id="t", title="Saddles", text=long_text),
        Document(doc_id="t", text="Saddles\n" + long_text),
    ):
        plain = Document(doc_id="p", text="intro " * 30 + "\n" + long_text + "saddles saddles")
        heavy = BM25Retriever.from_documents([plain, titled], title_weight=9)
        assert found(heavy, "saddle") == ["t", "p"]
        light = BM25Retriever.from_documents([plain, titled], title_weight=0, b=0)
        assert found(light, "saddle") == ["p", "t"]


def test_adding_and_removing():
    retriever = BM25Retriever.from_documents(DOCUMENTS)
    assert retriever.add([replace(DOCUMENTS[0], text="Cats purr.")]) == ["cats"]
    assert found(retriever, "sleep") == []
    assert found(retriever, "purrs") == ["cats"]
    assert [document.doc_id for document in retriever.get(["dogs", "none", "cats"])] == [
        "dogs",
        "cats",
    ]
    with pytest.raises(UserError, match="no text"):
        retriever.add([Document(doc_id="new", text="new"), Document(doc_id="bad", text=" ")])
    assert len(retriever) == 4
    assert retriever.remove(["cats", "none", "cats"]) == 1
    assert found(retriever, "purrs") == []


def test_search_among_some_documents():
    retriever = BM25Retriever.from_documents(DOCUMENTS)
    hits = retriever.search([("day", 1.0)], where=lambda document: document.doc_id != "cats")
    assert [hit.document.doc_id for hit in hits] == ["dogs"]


@pytest.mark.parametrize(
    ("language", "text", "query"),
    [
        ("german", "Die Häuser standen leer.", "leeres Haus"),
        ("english", "東京の天気は晴れです。", "東京の天気"),
        (None, "Running ran", "ran"),
    ],
)
def test_other_languages(language, text, query):
    other = Document(doc_id="other", text="Nothing of the kind, 123.")
    retriever = BM25Retriever.from_documents(
        [other, Document(doc_id="d", text=text)], analyzer=Analyzer(language)
    )
    assert found(retriever, query) == ["d"]


def test_saves_and_loads(tmp_path):
    # A lone surrogate, which file systems can give.
    odd = Document(doc_id=7, text="odd \ud800 text", metadata={"page": 3}, source="a\udcffb")
    analyzer = Analyzer("english", stop_words=["day"])
    retriever = BM25Retriever.from_documents([*DOCUMENTS, odd], k1=1.1, analyzer=analyzer)
    retriever.save(tmp_path)
    loaded = BM25Retriever.load(tmp_path, top_k=2)
    assert loaded.documents == retriever.documents
    assert (loaded.k1, loaded.top_k) == (1.1, 2)
    assert found(loaded, "day") == []
    assert loaded.retrieve("router button") == retriever.retrieve("router button")
    loaded.add([Document(doc_id="new", text="A new gadget")])
    assert found(loaded, "gadgets") == ["new"]
    empty = tmp_path / "empty"
    BM25Retriever().save(empty)
    assert len(BM25Retriever.load(empty)) == 0


def test_damaged_indexes_are_refused(tmp_path):
    with pytest.raises(IndexFormatError, match="no keyword index"):
        BM25Retriever.load(tmp_path)
    BM25Retriever.from_documents(DOCUMENTS).save(tmp_path)
    path = tmp_path / "bm25.npz"
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(IndexFormatError, match="damaged"):
            BM25Retriever.load(tmp_path)


@pytest.mark.parametrize(
    "options", [{"top_k": 0}, {"k1": -1}, {"b": 1.5}, {"turn_decay": 2}, {"title_weight": -1}]
)
def test_options_out_of_range(options):
    with pytest.raises(UserError, match=next(iter(options))):
        BM25Retriever(**options)
    with pytest.raises(UserError, match="klingon"):
        Analyzer("klingon")
