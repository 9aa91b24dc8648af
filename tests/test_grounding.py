"""Answers checked against documents: citations, groundedness, refusals."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Agent, Document, ScriptedModel, UserError
from agentkit_retrievers import (
    BM25Retriever,
    Chunker,
    GroundedAgent,
    GroundedAnswer,
    GroundedRun,
    Grounding,
    SentenceTransformerEmbedder,
    ground,
)
from agentkit_retrievers.grounding import REFUSAL
from agentkit_retrievers.sentences import split_sentences
from agentkit_retrievers.support import is_claim, is_refusal

TEXT = """# Library rules

Books may be kept for 28 days. A late book costs a fine of 0.25 euros a day.

Dr. Meyer runs the library. It opens at nine, except on Sundays when the doors stay shut.
"""
SOURCE = Document(doc_id="rules.md", source="rules.md", text=TEXT)
CHUNKS = Chunker(max_size=120, overlap=0).split(SOURCE)


def test_sentences_know_where_they_stand():
    text = 'Dr. A. Meyer says "no." Then he left! It costs 0.25 euros.\n- one\n- two'
    sentences = split_sentences(text)
    assert [each.text for each in sentences] == [
        'Dr. A. Meyer says "no."',
        "Then he left!",
        "It costs 0.25 euros.",
        "- one",
        "- two",
    ]


@given(st.text(alphabet=st.sampled_from("ab .!?\n\"'A1。　é"), max_size=60))
def test_sentences_hold_all_but_white_space(text):
    sentences = split_sentences(text)
    assert all(text[each.start : each.end] == each.text for each in sentences)
    assert "".join("".join(each.text.split()) for each in sentences) == "".join(text.split())
    assert all(a.end <= b.start for a, b in itertools.pairwise(sentences))


def test_citations_are_exact_places_in_the_source():
    answer = (
        "You may keep books for 28 days. After that the fine is 0.25 euros a day for a late book."
    )
    grounded = Grounding().check(answer, CHUNKS)
    assert not grounded.refused
    assert grounded.groundedness == 1.0
    assert grounded.text == answer
    first, second = grounded.sentences
    assert first.citations[0].text == "Books may be kept for 28 days."
    assert second.citations[0].text == "A late book costs a fine of 0.25 euros a day."
    for sentence in grounded.sentences:
        assert answer[sentence.start : sentence.end] == sentence.text
        for citation in sentence.citations:
            assert TEXT[citation.start : citation.end] == citation.text
            assert citation.doc_id in {chunk.doc_id for chunk in CHUNKS}
    shown = grounded.marked()
    assert "for 28 days. [1] After" in shown
    place = grounded.citations[0]
    assert f"[1] rules.md, characters {place.start}-{place.end}" in shown


@pytest.mark.parametrize(
    "answer",
    [
        "Books may be kept for 14 days.",  # Another number.
        "The museum sells postcards and umbrellas.",
        "The fine for a late book was abolished by the new mayor in spring.",
    ],
)
def test_what_the_documents_do_not_say_is_refused(answer):
    grounded = Grounding().check(answer, CHUNKS)
    assert grounded.refused
    assert grounded.text == grounded.marked() == REFUSAL
    assert grounded.answer == answer
    assert grounded.citations == ()


def test_half_an_answer():
    answer = "Books may be kept for 28 days. The museum sells umbrellas too."
    grounded = Grounding(min_grounded=0.5).check(answer, CHUNKS)
    assert (grounded.groundedness, grounded.refused) == (0.5, False)
    assert [each.grounded for each in grounded.sentences] == [True, False]
    assert Grounding(min_grounded=0.6).check(answer, CHUNKS).refused
    never = Grounding(min_grounded=0).check("Umbrellas are sold here.", CHUNKS)
    assert (never.refused, never.groundedness) == (False, 0.0)


def test_a_models_own_refusal_is_one():
    for answer in (
        "I do not have information on that.",
        "I'm sorry, but I don't have an answer to your question.",
        "The documents don't mention the opening hours.",
        "This cannot be answered from the documents.",
        "",
    ):
        assert Grounding().check(answer, CHUNKS).refused
    assert not is_refusal("You cannot keep books for more than 28 days.")
    assert not is_refusal("Do not forget your card.")


def test_questions_and_courtesies_are_no_claims():
    assert not is_claim("Would you like to know more?")
    assert not is_claim("Of course!")
    assert not is_claim("1.")
    assert is_claim("Books may be kept for 28 days.")
    grounded = Grounding().check("Sure! Books may be kept for 28 days. Anything else?", CHUNKS)
    assert [each.is_claim for each in grounded.sentences] == [False, True, False]
    assert grounded.groundedness == 1.0
    assert Grounding().check("Hello there!", []).refused is False


def test_without_documents_every_claim_is_refused():
    assert Grounding().check("Books may be kept for 28 days.", []).refused


@pytest.mark.model
def test_meaning_counts_with_an_embedder():
    answer = "Readers can borrow a volume for twenty-eight days."
    assert Grounding().check(answer, CHUNKS).refused
    embedder = SentenceTransformerEmbedder()
    close = Grounding(embedder=embedder).check(answer, CHUNKS).sentences[0]
    assert close.support > Grounding().check(answer, CHUNKS).sentences[0].support
    far = Grounding(embedder=embedder).check("The volcano erupted at dawn.", CHUNKS)
    assert far.refused


def test_a_judge_may_object():
    answer = "Books may be kept for 28 days. A late book costs 0.25 euros a day."
    judge = ScriptedModel(["Yes.", "no"])
    grounded = Grounding(judge=judge).check(answer, CHUNKS)
    assert [each.grounded for each in grounded.sentences] == [True, False]
    assert "Claim: A late book costs" in judge.requests[1].messages[-1].content
    assert grounded.sentences[1].citations == ()


def test_an_agents_run_is_checked_and_kept_as_json():
    retriever = BM25Retriever.from_documents(CHUNKS)
    model = ScriptedModel(["Books may be kept for 28 days.", "Umbrellas are sold at the museum."])
    agent = GroundedAgent(Agent(model, retriever=retriever))
    run = agent.run_sync("How long may I keep books?")
    assert run.output == "Books may be kept for 28 days."
    assert run.grounded.citations[0].source == "rules.md"
    assert ground(run.result) == run.grounded
    data = json.loads(json.dumps(run.to_dict()))
    assert data["grounding"]["groundedness"] == 1.0
    assert GroundedRun.from_dict(data) == run
    assert GroundedAnswer.from_dict(run.grounded.to_dict()) == run.grounded
    second = agent.run_sync("And umbrellas in books?", history=run)
    assert second.output == REFUSAL
    assert len(second.result.messages) == 4


def test_documents_given_to_the_run_count():
    agent = GroundedAgent(Agent(ScriptedModel(["Books may be kept for 28 days."])))
    assert not agent.run_sync("How long?", documents=CHUNKS).grounded.refused


def test_options_out_of_range():
    for options in ({"threshold": 2}, {"min_grounded": -1}, {"max_citations": 0}):
        with pytest.raises(UserError, match=next(iter(options))):
            Grounding(**options)
