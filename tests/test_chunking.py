"""Chunking: spans, coverage, sizes, boundaries and titles."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import UserError
from agentkit.retrieval import Document
from agentkit_retrievers import Chunker

_MARKUP = ("# Head\n", "## Sub\n", "Title\n---\n", "- item\n", "```\n", "\n\n", "\n", " ", "\t")
_WORDS = (
    "word",
    "Longerword",
    ". ",
    "é",
    "e\u0301",
    "\U0001f469\u200d\U0001f680",
    "文字。",
    "\ud800",
)
_PIECES = st.sampled_from((*_MARKUP, *_WORDS, "\x1c"))
TEXTS = st.one_of(st.text(max_size=400), st.lists(_PIECES, max_size=80).map("".join))
SIZES = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))


def count_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def count_words(text: str) -> int:
    return len(text.split())


def check_chunks(document: Document, chunks: list[Document]) -> None:
    """What holds of all chunks: exact spans, no white space at the ends, order, coverage."""
    text = document.text
    covered = [False] * len(text)
    for chunk in chunks:
        assert chunk.start is not None
        assert chunk.end is not None
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.text == chunk.text.strip() != ""
        covered[chunk.start : chunk.end] = [True] * len(chunk.text)
    assert all(done or char.isspace() for done, char in zip(covered, text, strict=True))
    ends = [chunk.end or 0 for chunk in chunks]
    assert ends == sorted(set(ends)), "every chunk brings something new"
    assert len({chunk.doc_id for chunk in chunks}) == len(chunks)


@given(TEXTS, SIZES)
def test_any_text_in_characters(text: str, size: tuple[int, int]) -> None:
    document = Document(text=text, source="a.md")
    chunks = Chunker(max_size=size[0], overlap=size[1]).split(document)
    check_chunks(document, chunks)
    assert all(len(chunk.text) <= size[0] for chunk in chunks)


@given(TEXTS, st.integers(4, 60), st.integers(0, 3))
def test_any_text_in_bytes(text: str, max_size: int, overlap: int) -> None:
    document = Document(text=text, source="a.md")
    chunks = Chunker(max_size=max_size, overlap=overlap, length=count_bytes).split(document)
    check_chunks(document, chunks)
    assert all(count_bytes(chunk.text) <= max_size for chunk in chunks)


@given(TEXTS, SIZES)
def test_any_text_in_words(text: str, size: tuple[int, int]) -> None:
    document = Document(text=text, metadata={"format": "text"})
    chunks = Chunker(max_size=size[0], overlap=size[1], length=count_words).split(document)
    check_chunks(document, chunks)
    assert all(count_words(chunk.text) <= size[0] for chunk in chunks)


@given(TEXTS, SIZES)
def test_chunks_without_overlap_do_not_overlap(text: str, size: tuple[int, int]) -> None:
    chunks = Chunker(max_size=size[0], overlap=0).split(Document(text=text))
    ends = [0] + [chunk.end or 0 for chunk in chunks]
    assert all((chunk.start or 0) >= end for chunk, end in zip(chunks, ends, strict=False))


@given(TEXTS, SIZES)
def test_overlap_is_bounded(text: str, size: tuple[int, int]) -> None:
    chunks = Chunker(max_size=size[0], overlap=size[1]).split(Document(text=text))
    for left, right in pairwise(chunks):
        assert (left.end or 0) - (right.start or 0) <= size[1]


def texts_of(chunks: list[Document]) -> list[str]:
    return [chunk.text for chunk in chunks]


def test_a_small_document_is_one_chunk() -> None:
    document = Document(text="  One. Two.\n", source="notes/a.txt", metadata={"lang": "en"})
    (chunk,) = Chunker().split(document)
    assert chunk == Document(
        text="One. Two.",
        doc_id="notes/a.txt#0",
        source="notes/a.txt",
        start=2,
        end=11,
        metadata={"lang": "en"},
    )


@pytest.mark.parametrize("text", ["", " \n\t\n "])
def test_white_space_has_no_chunks(text: str) -> None:
    assert Chunker().split(Document(text=text)) == []


def test_sections_are_kept_apart_and_titled_by_their_path() -> None:
    text = (
        "Preface.\n\n# Guide\n\n## Install\n\nRun pip.\n\n### On *Windows*\nUse py.\n\n"
        "## Use [it](x.md)\nCall it.\n\n# Licence\nApache.\n"
    )
    chunks = Chunker().split(Document(text=text, source="g.md", title="Guide"))
    assert [(chunk.doc_id, chunk.title) for chunk in chunks] == [
        ("g.md#0", "Guide"),
        ("g.md#1", "Guide > Install"),
        ("g.md#2", "Guide > Install > On *Windows*"),
        ("g.md#3", "Guide > Use it"),
        ("g.md#4", "Guide > Licence"),
    ]
    # A heading with nothing below it goes with the next.
    assert chunks[1].text == "# Guide\n\n## Install\n\nRun pip."


def test_underlined_headings_and_none_in_code_or_tables() -> None:
    text = (
        "Guide\n=====\nText.\n\nInstall\n-------\n```sh\n# no heading\n```\nText.\n\n"
        "a | b\n--- | ---\n\nTwo lines\nof text\n---\nText.\n"
    )
    chunks = Chunker().split(Document(text=text))
    assert [chunk.title for chunk in chunks] == ["Guide", "Guide > Install"]


def test_plain_text_has_no_headings() -> None:
    text = "# a comment\nx = 1\n# another\ny = 2"
    (chunk,) = Chunker().split(Document(text=text, title="a", metadata={"format": "text"}))
    assert (chunk.text, chunk.title) == (text, "a")


@pytest.mark.parametrize(
    ("text", "max_size", "expected"),
    [
        ("A. Bcd efg hij klm nop", 16, ["A. Bcd efg hij", "klm nop"]),
        ("One two.\n\nThree four. Five", 20, ["One two.", "Three four. Five"]),
        ("One two. Three four five", 18, ["One two.", "Three four five"]),
        ("Said to e.g. one man. Then left", 27, ["Said to e.g. one man.", "Then left"]),
        ("Said to e.g. one man", 18, ["Said to e.g. one", "man"]),
        ("one two three four", 9, ["one two", "three", "four"]),
        ("intro\n- one two\n- three", 16, ["intro\n- one two", "- three"]),
        ("一二三。四五六", 5, ["一二三。", "四五六"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
    ],
)
def test_the_best_boundary_is_taken(text: str, max_size: int, expected: list[str]) -> None:
    chunks = Chunker(max_size=max_size, overlap=0).split(Document(text=text))
    assert texts_of(chunks) == expected


def test_visible_characters_stay_whole() -> None:
    astronaut = "\U0001f469\u200d\U0001f680"
    chunks = Chunker(max_size=4, overlap=0).split(Document(text=astronaut * 3 + "e\u0301"))
    assert texts_of(chunks) == [astronaut, astronaut, astronaut, "e\u0301"]


def test_overlap_begins_at_a_sentence_or_a_word() -> None:
    text = "Alpha beta gamma. Delta epsilon. Zeta eta theta iota. Kappa."
    chunks = Chunker(max_size=34, overlap=18).split(Document(text=text))
    assert texts_of(chunks) == [
        "Alpha beta gamma. Delta epsilon.",
        "Delta epsilon. Zeta eta theta",
        "Zeta eta theta iota. Kappa.",
    ]
    words = Chunker(max_size=12, overlap=6).split(Document(text="one two three four five"))
    assert texts_of(words) == ["one two", "two three", "three four", "four five"]


def test_pages_of_a_pdf() -> None:
    text = "First page.\n\nSecond page.\n\nThird."
    document = Document(text=text, metadata={"format": "pdf", "pages": [0, 13, 27]})
    chunks = Chunker(max_size=20, overlap=0).split(document)
    pages = [(chunk.text, chunk.metadata["page"], chunk.metadata["last_page"]) for chunk in chunks]
    assert pages == [("First page.", 1, 1), ("Second page.\n\nThird.", 2, 3)]
    assert "pages" not in chunks[0].metadata


def test_a_chunk_cut_again_keeps_the_source_s_offsets() -> None:
    text = "One two three. Four five six."
    document = Document(text=text[15:], start=15, end=29, doc_id="a#1")
    chunks = Chunker(max_size=9, overlap=0).split(document)
    assert [(c.doc_id, c.text) for c in chunks] == [("a#1#0", "Four five"), ("a#1#1", "six.")]
    assert all(text[c.start : c.end] == c.text for c in chunks)


def test_documents_without_source_get_distinct_ids() -> None:
    chunks = Chunker().split_all([Document(text="one"), Document(text="two")])
    assert len({chunk.doc_id for chunk in chunks}) == 2


def test_long_texts_are_measured_seldom() -> None:
    calls = 0

    def length(text: str) -> int:
        nonlocal calls
        calls += 1
        return len(text) // 4

    document = Document(text="some words of text. " * 5000)
    chunks = Chunker(max_size=250, overlap=30, length=length).split(document)
    check_chunks(document, chunks)
    assert calls < 40 * len(chunks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_size": 0}, "max_size must be at least 1, not 0"),
        ({"max_size": 5, "overlap": 5}, r"below max_size \(5\), not 5"),
        ({"overlap": -1}, "overlap must be at least 0"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Chunker(**options)


def test_a_measure_that_no_character_can_meet() -> None:
    chunker = Chunker(max_size=2, overlap=0, length=count_bytes)
    with pytest.raises(UserError, match=r"measures 3 for the one character '€'.*raise max_size"):
        chunker.split(Document(text="a€"))
