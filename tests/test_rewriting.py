"""A model rewrites follow-up questions, and is kept from doing harm."""

from __future__ import annotations

import asyncio
import re

import pytest

from agentkit import ModelError, ScriptedModel, UserError
from agentkit.messages import AssistantMessage, UserMessage
from agentkit_retrievers import QueryRewriter

CONVERSATION = [
    UserMessage("Who wrote the novel Dracula?"),
    AssistantMessage("Bram Stoker wrote it."),
    UserMessage("When was he born?"),
]


def rewrite(answer, **options):
    return QueryRewriter(ScriptedModel([answer]), **options).rewrite(CONVERSATION)


def test_takes_a_question_in_the_conversations_words():
    rewritten = rewrite("When was Bram Stoker born?")
    assert (rewritten.text, rewritten.accepted) == ("When was Bram Stoker born?", True)
    assert rewrite(' "When was Bram Stoker born?"').text == "When was Bram Stoker born?"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Bram Stoker was born in Dublin in 1847.", "an answer"),
        ("Yes, when was Bram Stoker born?", "an answer"),
        ("You're asking when Bram Stoker was born?", "an answer"),
        ("When did Mary Shelley compose Frankenstein?", "not the conversation's: .*frank"),
        ("Who wrote Dracula?", "leaves out what was asked: born"),
        ("??", "no words"),
    ],
)
def test_keeps_the_users_question_otherwise(answer, reason):
    rewritten = QueryRewriter(ScriptedModel([answer]), max_lost_words=0.3).rewrite(CONVERSATION)
    assert (rewritten.text, rewritten.accepted) == ("When was he born?", False)
    assert rewritten.proposal == answer
    assert re.search(reason, rewritten.reason)


def test_first_questions_are_not_sent():
    model = ScriptedModel([])
    rewritten = QueryRewriter(model).rewrite([UserMessage("When was he born?")])
    assert rewritten.text == "When was he born?"
    assert not model.requests


def test_the_model_sees_the_latest_turns_only():
    model = ScriptedModel(["When was Bram Stoker born?"])
    asyncio.run(QueryRewriter(model, turns=1, message_chars=10).arewrite(CONVERSATION))
    shown = model.requests[0].messages[-1].content
    assert shown == "Assistant: Bram Stoke\nUser: When was he born?"


class BrokenModel:
    name = "broken"

    async def stream(self, request):
        raise ModelError("out of memory")
        yield

    async def aclose(self):
        pass


def test_a_failing_model_changes_nothing():
    rewritten = QueryRewriter(BrokenModel()).rewrite(CONVERSATION)
    assert rewritten.text == "When was he born?"
    assert "out of memory" in rewritten.reason


def test_options_out_of_range():
    for options in ({"turns": 0}, {"max_new_words": 2}, {"max_lost_words": -1}):
        with pytest.raises(UserError, match=next(iter(options))):
            QueryRewriter(ScriptedModel([]), **options)


@pytest.mark.model
def test_with_the_embedded_model(embedded):
    rewritten = QueryRewriter(embedded).rewrite(CONVERSATION)
    assert rewritten.proposal
    assert rewritten.text == (rewritten.proposal if rewritten.accepted else "When was he born?")
