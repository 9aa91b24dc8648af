"""Ordering hits anew, and putting more text around them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from agentkit import Document, ModelLoadError, ScoredDocument, UserError
from agentkit_retrievers import (
    BM25Retriever,
    Chunker,
    ContextExpander,
    CrossEncoderReranker,
    FaissRetriever,
    HybridRetriever,
    MMRReranker,
    Reranker,
)
from hashing_embedder import HashingEmbedder

DOCUMENTS = [
    Document(doc_id=name, text=text)
    for name, text in {
        "a": "cats sleep all day long",
        "b": "cats sleep all day",
        "c": "dogs walk at night",
    }.items()
]


def ids(hits):
    return [hit.document.doc_id for hit in hits]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    """A real cross-encoder's architecture, tiny, with random weights."""
    folder = tmp_path_factory.mktemp("cross-encoder")
    words = sorted({word for document in DOCUMENTS for word in document.text.split()})
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    tokenizer = BertTokenizerFast(vocab=str(vocabulary))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        num_labels=1,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_cross_encoder_orders_by_its_own_scores(cross_encoder):
    reranker = CrossEncoderReranker(cross_encoder, device="cpu")
    assert isinstance(reranker, Reranker)
    hits = [ScoredDocument(document, 1.0) for document in DOCUMENTS]
    ordered = reranker.rerank("cats walk", hits, top_k=3)
    assert sorted(ids(ordered)) == ["a", "b", "c"]
    assert [hit.score for hit in ordered] == sorted((hit.score for hit in ordered), reverse=True)
    assert len({hit.score for hit in ordered}) == 3
    again = reranker.rerank("cats walk", hits[::-1], top_k=2)
    assert ids(again) == ids(ordered)[:2]
    assert reranker.rerank("cats walk", [], top_k=2) == []
    retriever = HybridRetriever.from_documents(
        DOCUMENTS, embedder=HashingEmbedder(), reranker=reranker
    )
    assert ids(retriever.retrieve("cats walk", top_k=3)) == ids(ordered)


def test_a_missing_cross_encoder_is_explained(tmp_path):
    hits = [ScoredDocument(DOCUMENTS[0], 1.0)]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelLoadError, match=r"empty.*cannot be loaded"):
        CrossEncoderReranker(tmp_path / "empty").rerank("x", hits, top_k=1)


def test_variety():
    index = FaissRetriever.from_documents(DOCUMENTS, embedder=HashingEmbedder())
    hits = index.retrieve("cats sleep all day long at night", top_k=3)
    assert ids(hits) == ["a", "b", "c"]
    assert ids(MMRReranker(index.vectors, diversity=0).rerank("q", hits, top_k=3)) == ids(hits)
    varied = MMRReranker(index.vectors, diversity=0.7).rerank("q", hits, top_k=2)
    assert ids(varied) == ["a", "c"]
    with pytest.raises(UserError, match="diversity"):
        MMRReranker(index.vectors, diversity=2)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(1, 8))
def test_variety_invents_nothing(seed, diversity, top_k):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(6, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hits = [
        ScoredDocument(Document(doc_id=i, text="x"), float(score))
        for i, score in enumerate(sorted(random.normal(size=6), reverse=True))
    ]
    picked = MMRReranker(lambda keys: vectors[keys], diversity=diversity).rerank(
        "q", hits, top_k=top_k
    )
    assert len(picked) == len(set(ids(picked))) == min(top_k, 6)


SOURCE = Document(
    doc_id="s",
    source="s",
    text="\n\n".join(
        f"Paragraph {n} speaks of {word}."
        for n, word in enumerate(["cats", "dogs", "birds", "fish", "cows", "bees"])
    ),
)
CHUNKS = Chunker(max_size=40, overlap=0).split(SOURCE)


def hit(number, score=1.0):
    return ScoredDocument(CHUNKS[number], score)


def test_neighbours():
    assert len(CHUNKS) == 6
    (wide,) = ContextExpander(CHUNKS, before=1, after=1).expand([hit(2)])
    document = wide.document
    assert SOURCE.text[document.start : document.end] == document.text
    assert document.text.startswith("Paragraph 1")
    assert document.text.endswith("fish.")
    assert document.doc_id == CHUNKS[2].doc_id
    assert document.metadata["matched"] == [[CHUNKS[2].start, CHUNKS[2].end]]
    (later,) = ContextExpander(CHUNKS, before=0, after=9).expand([hit(4)])
    assert later.document.text.endswith("bees.")


def test_the_whole_source_as_far_as_it_fits():
    (whole,) = ContextExpander(CHUNKS, before=None, after=None).expand([hit(3)])
    assert whole.document.text == SOURCE.text
    (part,) = ContextExpander(CHUNKS, before=None, after=None, max_chars=80).expand([hit(3)])
    assert CHUNKS[3].text in part.document.text
    assert len(CHUNKS[3].text) < len(part.document.text) <= 80


def test_hits_that_meet_become_one():
    expander = ContextExpander(CHUNKS, before=1, after=1)
    other = ScoredDocument(Document(doc_id="other", text="no chunk"), 0.7)
    hits = expander.expand([hit(1, 0.9), other, hit(3, 0.5), hit(5, 0.1)])
    assert ids(hits) == [CHUNKS[1].doc_id, "other"]
    assert hits[0].score == 0.9
    assert hits[0].document.text == SOURCE.text
    assert len(hits[0].document.metadata["matched"]) == 3
    assert hits[1] == other


@given(
    st.lists(
        st.sampled_from(["one two", "three", "four. five six", "\n\n", "\n", "  "]), min_size=1
    ),
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(1, 8),
)
def test_spans_stay_true(pieces, around, overlap, seed):
    text = "x " + " ".join(pieces)
    source = Document(doc_id="d", source="d", text=text)
    chunks = Chunker(max_size=12, overlap=2 * overlap).split(source)
    expander = ContextExpander(chunks, before=around, after=around)
    chosen = chunks[seed % len(chunks)]
    (wide,) = expander.expand([ScoredDocument(chosen, 1.0)])
    span = text[wide.document.start : wide.document.end]
    assert span.split() == wide.document.text.split()
    assert len(span) == len(wide.document.text)
    assert chosen.text in wide.document.text


def test_a_hybrid_retriever_shows_the_context():
    dense = FaissRetriever.from_documents(CHUNKS, embedder=HashingEmbedder())
    retriever = HybridRetriever(dense, BM25Retriever.from_documents(CHUNKS), context=1, top_k=1)
    assert retriever.retrieve("birds")[0].document.text.count("Paragraph") == 3
    retriever.context = "parent"
    retriever.remove([CHUNKS[5].doc_id])
    assert retriever.retrieve("birds")[0].document.text.count("Paragraph") == 5
