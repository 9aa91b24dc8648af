"""An agent that checks its answers: in the result, among the events, and when there is no time."""

from __future__ import annotations

import asyncio
import json

import pytest

from agentkit import (
    Agent,
    AnswerChecked,
    Document,
    Limits,
    RetrieverTool,
    RunFinished,
    RunResult,
    ScriptedModel,
    ToolCall,
    UserError,
    tool,
)
from agentkit_retrievers import BM25Retriever, Chunker, Grounding, ground
from agentkit_retrievers.grounding import REFUSAL

TEXT = """# Library rules

Books may be kept for 28 days. A late book costs a fine of 0.25 euros a day.
"""
CHUNKS = Chunker(max_size=120, overlap=0).split(
    Document(doc_id="rules.md", source="rules.md", text=TEXT)
)
TRUE, FALSE = "Books may be kept for 28 days.", "The museum sells umbrellas."


def test_the_result_cites_places_in_the_documents() -> None:
    retriever = BM25Retriever.from_documents(CHUNKS)
    agent = Agent(ScriptedModel([TRUE]), retriever=retriever, grounding=Grounding())
    result = agent.run_sync("How long may I keep books?")
    assert result.output == TRUE
    assert result.grounding is not None
    (citation,) = result.grounding.citations
    assert TEXT[citation.start : citation.end] == citation.text == TRUE
    assert citation.doc_id in {chunk.doc_id for chunk in CHUNKS}
    assert RunResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert ground(result) == result.grounding


def test_what_is_not_in_the_documents_is_refused_and_events_say_so() -> None:
    agent = Agent(ScriptedModel([FALSE, TRUE]), grounding=Grounding(refusal="Not in here."))

    async def run() -> list[object]:
        return [event async for event in agent.stream("Umbrellas?", documents=CHUNKS)]

    events = asyncio.run(run())
    (checked,) = (event for event in events if isinstance(event, AnswerChecked))
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    result = finished.result
    assert checked.grounding == result.grounding
    assert (result.output, checked.grounding.answer) == ("Not in here.", FALSE)
    assert checked.grounding.refused
    assert result.messages[-1].content == FALSE  # what the model wrote stays what it wrote
    assert ground(result, documents=CHUNKS).answer == FALSE
    later = agent.run_sync("Books?", history=result, documents=CHUNKS)
    assert later.output == TRUE


def test_documents_of_tools_count() -> None:
    search = RetrieverTool(BM25Retriever.from_documents(CHUNKS))
    call = ToolCall(name="search_documents", arguments={"query": "keep books days"})
    agent = Agent(ScriptedModel([call, TRUE]), [search], grounding=Grounding())
    assert agent.run_sync("How long may I keep books?").output == TRUE


def test_a_run_that_waits_is_checked_when_it_ends() -> None:
    @tool
    def look() -> str:
        """Look at the clock."""
        return "noon"

    model = ScriptedModel([ToolCall(name="look", arguments={}), TRUE])
    agent = Agent(model, [look], approvals="ask", grounding=Grounding())
    paused = agent.run_sync("How long?", documents=CHUNKS)
    assert (paused.stop_reason, paused.grounding) == ("approval", None)
    loaded = RunResult.from_dict(json.loads(json.dumps(paused.to_dict())))
    result = agent.resume_sync(loaded, True)
    assert result.output == TRUE
    assert result.grounding is not None
    assert result.grounding.citations


def test_an_answer_that_there_was_no_time_to_check_is_not_shown() -> None:
    class Slow:
        refusal = REFUSAL

        async def acheck(self, answer: str, documents: object) -> None:
            await asyncio.sleep(60)

    limits = Limits(max_seconds=0.3, on_exceeded="answer")
    agent = Agent(ScriptedModel([FALSE]), grounding=Slow(), limits=limits)  # type: ignore[arg-type]
    result = agent.run_sync("Umbrellas?")
    assert (result.stop_reason, result.output) == ("max_seconds", REFUSAL)
    assert result.grounding is not None
    assert (result.grounding.answer, result.grounding.refused) == (FALSE, True)


def test_without_a_check_there_is_none() -> None:
    result = Agent(ScriptedModel([TRUE])).run_sync("How long?", documents=CHUNKS)
    assert result.grounding is None
    with pytest.raises(UserError, match="grounding is 'yes'"):
        Agent(ScriptedModel([]), grounding="yes")  # type: ignore[arg-type]
