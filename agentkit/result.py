"""What a run leaves behind: its answer, its messages, and an account of every step."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from agentkit.errors import MessageError
from agentkit.grounding import GroundedAnswer
from agentkit.messages import Message, ToolCall, message_to_dict, messages_from_dicts
from agentkit.models.base import FinishReason, Timings, Usage
from agentkit.retrieval import Document, ScoredDocument

__all__ = [
    "CallRecord",
    "CallStatus",
    "RetrievalRecord",
    "RewindRecord",
    "RunResult",
    "StepRecord",
    "StopReason",
    "call_from_dict",
    "call_to_dict",
    "step_from_dict",
    "step_to_dict",
]

CallStatus: TypeAlias = Literal[
    "ok", "invalid", "failed", "timeout", "refused", "denied", "pending", "cancelled"
]
"""How a call went: done; not valid; the tool failed; it took too long; a limit forbade it; it was
not allowed; it waits for approval and has not run; the run ended before it did."""

StopReason: TypeAlias = Literal[
    "answer",
    "length",
    "max_steps",
    "max_tokens",
    "max_seconds",
    "max_calls_per_tool",
    "max_retries",
    "approval",
    "error",
]
"""Why a run ended: with an answer; with one cut at ``Sampling.max_tokens``; at the limit of that
name; because calls wait for approval (:meth:`agentkit.Agent.resume` goes on); with an error."""

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One tool call and what came of it."""

    call: ToolCall
    """The call, its arguments as the tool got them."""
    status: CallStatus
    """How it went."""
    observation: str
    """What the model was shown."""
    seconds: float = 0.0
    """Time that the tool took."""
    repairs: tuple[str, ...] = ()
    """What had to be mended in the call's text or arguments."""
    sources: tuple[ScoredDocument, ...] = ()
    """Documents that the observation is taken from."""
    error: str = ""
    """Kind of the failure, such as an exception's class; empty if there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindRecord:
    """A call that the model was made to write anew, at once and within its turn."""

    text: str
    """The call as it was first written, tags not included."""
    reason: str
    """What was wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One turn of the model, with the tools that it called."""

    text: str
    """The turn's text outside of calls."""
    finish_reason: FinishReason
    """Why the turn ended."""
    usage: Usage
    """Its tokens."""
    timings: Timings
    """Seconds inside the model, by activity."""
    calls: tuple[CallRecord, ...] = ()
    """Its calls, in the order in which they were written."""
    model_seconds: float = 0.0
    """Wall time of the turn."""
    tool_seconds: float = 0.0
    """Wall time of its tools, which run side by side, once the turn was written; with the time
    that was waited for approval."""
    overhead_seconds: float = 0.0
    """Wall time of everything else: the agent loop's own work."""
    overlap_seconds: float = 0.0
    """Of :attr:`model_seconds`, the time in which tools were at work already."""
    rewinds: tuple[RewindRecord, ...] = ()
    """Calls that were taken back; :attr:`usage` has their tokens, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalRecord:
    """One search that filled the documents section of the prompt."""

    query: str
    """What was searched for."""
    hits: tuple[ScoredDocument, ...]
    """What was found, best first."""
    seconds: float = 0.0
    """Time that it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The outcome of a run. Pass it as ``history`` to go on with the conversation."""

    output: str
    """The final answer."""
    messages: tuple[Message, ...]
    """The whole conversation, earlier turns included."""
    steps: tuple[StepRecord, ...] = ()
    """This run's steps."""
    retrievals: tuple[RetrievalRecord, ...] = ()
    """This run's searches for the documents section."""
    stop_reason: StopReason = "answer"
    """Why the run ended."""
    model: str = ""
    """The model's name."""
    seconds: float = 0.0
    """Wall time of the run."""
    new_from: int = field(default=0)
    """Index in :attr:`messages` of the first message of this run."""
    run_id: str = ""
    """Identifies the run, also in the audit log."""
    documents: tuple[Document, ...] = ()
    """The prompt's documents section, where the run can be resumed: it needs them again."""
    tools: tuple[str, ...] = ()
    """The tools that the prompts showed, where a selector picked them."""
    grounding: GroundedAnswer | None = None
    """The check of the answer, where the agent has a ``grounding``: citations with their places
    in the documents, and what the model wrote. :attr:`output` is its text."""

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """The calls that wait for approval; :meth:`agentkit.Agent.resume` takes the answers."""
        last = self.steps[-1].calls if self.steps else ()
        return tuple(record.call for record in last if record.status == "pending")

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """The messages that this run added."""
        return self.messages[self.new_from :]

    @property
    def usage(self) -> Usage:
        """Tokens of all steps together."""
        return sum((step.usage for step in self.steps), Usage())

    @property
    def timings(self) -> Timings:
        """Seconds inside the model, of all steps together."""
        return sum((step.timings for step in self.steps), Timings())

    @property
    def calls(self) -> tuple[CallRecord, ...]:
        """All calls, in order."""
        return tuple(call for step in self.steps for call in step.calls)

    @property
    def repairs(self) -> tuple[str, ...]:
        """Everything that had to be mended in calls."""
        return tuple(repair for call in self.calls for repair in call.repairs)

    @property
    def sources(self) -> tuple[ScoredDocument, ...]:
        """Documents that the model was shown, each once, best score first."""
        hits = [hit for record in self.retrievals for hit in record.hits]
        hits += [hit for call in self.calls for hit in call.sources]
        best: dict[tuple[Any, ...], ScoredDocument] = {}
        for hit in hits:
            document = hit.document
            key = (document.doc_id, document.source, document.start, document.text)
            if key not in best or hit.score > best[key].score:
                best[key] = hit
        return tuple(sorted(best.values(), key=lambda hit: -hit.score))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the reverse of :meth:`from_dict`."""
        return {
            "version": _VERSION,
            "output": self.output,
            "stop_reason": self.stop_reason,
            "model": self.model,
            "seconds": self.seconds,
            "usage": {
                **asdict(self.usage),
                "prompt_tokens": self.usage.prompt_tokens,
                "generated_tokens": self.usage.generated_tokens,
            },
            "messages": [message_to_dict(message) for message in self.messages],
            "new_from": self.new_from,
            "run_id": self.run_id,
            "documents": [document.to_dict() for document in self.documents],
            "tools": list(self.tools),
            "steps": [step_to_dict(step) for step in self.steps],
            "grounding": None if self.grounding is None else self.grounding.to_dict(),
            "retrievals": [
                {"query": r.query, "hits": [h.to_dict() for h in r.hits], "seconds": r.seconds}
                for r in self.retrievals
            ],
            "sources": [hit.to_dict() for hit in self.sources],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunResult:
        """Read what :meth:`to_dict` wrote.

        Raises:
            MessageError: It is of another version, or not of this form at all.
        """
        if not isinstance(data, Mapping) or data.get("version") != _VERSION:
            found = data.get("version") if isinstance(data, Mapping) else type(data).__name__
            raise MessageError(
                f"not a saved run of version {_VERSION} (found {found!r}); it was written by "
                "another version of agentkit, or is another kind of file"
            )
        try:
            checked = data.get("grounding")
            return cls(
                output=data["output"],
                messages=tuple(messages_from_dicts(data["messages"])),
                steps=tuple(step_from_dict(step) for step in data["steps"]),
                retrievals=tuple(
                    RetrievalRecord(
                        query=r["query"],
                        hits=tuple(map(ScoredDocument.from_dict, r["hits"])),
                        seconds=r["seconds"],
                    )
                    for r in data["retrievals"]
                ),
                stop_reason=data["stop_reason"],
                model=data["model"],
                seconds=data["seconds"],
                new_from=data["new_from"],
                # Files from before approvals have none of these.
                run_id=data.get("run_id", ""),
                documents=tuple(map(Document.from_dict, data.get("documents", ()))),
                tools=tuple(data.get("tools", ())),
                grounding=GroundedAnswer.from_dict(checked) if checked else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MessageError(f"a saved run is damaged: {error!r}") from error

    def save(self, path: str | Path) -> None:
        """Write the run as JSON. The file is replaced as a whole or not at all."""
        path = Path(path)
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogatepass") as file:
                file.write(text)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> RunResult:
        """Read a run that :meth:`save` wrote.

        Raises:
            MessageError: The file is missing, or holds something else.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8", errors="surrogatepass"))
        except (OSError, ValueError) as error:
            raise MessageError(f"the saved run {path} cannot be read: {error}") from error
        return cls.from_dict(data)


def step_to_dict(step: StepRecord) -> dict[str, Any]:
    """JSON-able form of a step."""
    return {
        "text": step.text,
        "finish_reason": step.finish_reason,
        "usage": asdict(step.usage),
        "timings": asdict(step.timings),
        "model_seconds": step.model_seconds,
        "tool_seconds": step.tool_seconds,
        "overhead_seconds": step.overhead_seconds,
        "overlap_seconds": step.overlap_seconds,
        "rewinds": [asdict(rewind) for rewind in step.rewinds],
        "calls": [call_to_dict(record) for record in step.calls],
    }


def step_from_dict(data: Mapping[str, Any]) -> StepRecord:
    """The reverse of :func:`step_to_dict`."""
    calls: Sequence[Mapping[str, Any]] = data["calls"]
    return StepRecord(
        text=data["text"],
        finish_reason=data["finish_reason"],
        usage=Usage(**data["usage"]),
        timings=Timings(**data["timings"]),
        model_seconds=data["model_seconds"],
        tool_seconds=data["tool_seconds"],
        overhead_seconds=data["overhead_seconds"],
        overlap_seconds=data.get("overlap_seconds", 0.0),
        rewinds=tuple(RewindRecord(**rewind) for rewind in data.get("rewinds", ())),
        calls=tuple(map(call_from_dict, calls)),
    )


def call_to_dict(record: CallRecord) -> dict[str, Any]:
    """JSON-able form of a call's record."""
    return {
        "id": record.call.id,
        "name": record.call.name,
        "arguments": record.call.arguments,
        "status": record.status,
        "observation": record.observation,
        "seconds": record.seconds,
        "repairs": list(record.repairs),
        "sources": [hit.to_dict() for hit in record.sources],
        "error": record.error,
    }


def call_from_dict(data: Mapping[str, Any]) -> CallRecord:
    """The reverse of :func:`call_to_dict`."""
    return CallRecord(
        call=ToolCall(name=data["name"], arguments=data["arguments"], id=data["id"]),
        status=data["status"],
        observation=data["observation"],
        seconds=data["seconds"],
        repairs=tuple(data["repairs"]),
        sources=tuple(map(ScoredDocument.from_dict, data["sources"])),
        error=data.get("error", ""),
    )
