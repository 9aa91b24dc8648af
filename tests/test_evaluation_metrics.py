"""The metrics of retrieval and of answers."""

from __future__ import annotations

import math

import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from agentkit_retrievers.evaluation.metrics import (
    bootstrap,
    mrr_at,
    ndcg_at,
    recall_at,
    rouge_l,
    token_f1,
)

IDS = [f"d{i}" for i in range(15)]


@given(
    ranking=st.lists(st.sampled_from(IDS), unique=True, max_size=15),
    relevant=st.dictionaries(st.sampled_from(IDS), st.integers(1, 3), min_size=1),
)
def test_agrees_with_trec_eval(ranking, relevant):
    judge = pytrec_eval.RelevanceEvaluator(
        {"q": relevant}, {"ndcg_cut.5,10", "recall.5,10", "recip_rank"}
    )
    run = {doc_id: float(len(ranking) - place) for place, doc_id in enumerate(ranking)}
    # trec_eval has no line for a question without a ranking.
    theirs = judge.evaluate({"q": run})["q"] if ranking else {}
    for k in (5, 10):
        assert ndcg_at(ranking, relevant, k) == pytest.approx(theirs.get(f"ndcg_cut_{k}", 0))
        assert recall_at(ranking, relevant, k) == pytest.approx(theirs.get(f"recall_{k}", 0))
    assert mrr_at(ranking, relevant, len(IDS)) == pytest.approx(theirs.get("recip_rank", 0))


def test_mrr_ends_at_k():
    assert mrr_at(["x", "y", "d"], {"d": 1}, 2) == 0
    assert mrr_at(["x", "y", "d"], {"d": 1}, 3) == pytest.approx(1 / 3)


def test_bootstrap_interval_is_that_of_the_mean():
    values = [0.0, 1.0] * 200
    estimate = bootstrap(values)
    assert estimate.mean == 0.5
    # 1.96 standard errors of a fair coin's mean.
    assert estimate.low == pytest.approx(0.5 - 1.96 * 0.5 / math.sqrt(400), abs=0.01)
    assert estimate.high == pytest.approx(0.5 + 1.96 * 0.5 / math.sqrt(400), abs=0.01)
    assert bootstrap(values) == estimate
    assert bootstrap([0.25] * 9).low == bootstrap([0.25] * 9).high == 0.25


def test_words_in_common():
    assert token_f1("The cat sat.", "a cat sat") == 1.0
    assert token_f1("cat", "cat dog") == pytest.approx(2 / 3)
    assert token_f1("", "cat") == token_f1("dog", "cat") == 0.0


def test_rouge_l_heeds_the_order():
    # The textbook case: of four words three are a common subsequence, or two.
    reference = "police killed the gunman"
    assert rouge_l("police kill the gunman", reference) == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", reference) == pytest.approx(0.5)
