"""How well a model calls tools: BFCL's cases through the agent, one turn each."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentkit.agent import Agent
from agentkit.errors import AgentkitError, RunError, UserError
from agentkit.evaluation.bfcl_data import BFCLCase, Call, tool_definition, tool_names
from agentkit.evaluation.bfcl_scoring import Verdict, judge
from agentkit.limits import Limits
from agentkit.models.base import UNREADABLE_CALL, Model, Sampling, Usage
from agentkit.result import RunResult, StepRecord
from agentkit.tools import ToolContext, ToolDefinition

__all__ = ["CaseResult", "ToolReport", "evaluate_tools"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What a model made of one case."""

    case: BFCLCase
    """The case."""
    verdict: Verdict
    """Whether it was answered rightly, and why not."""
    calls: tuple[Call, ...] = ()
    """The calls, as the tools would have got them."""
    text: str = ""
    """What the model wrote beside them; or the error, if the run failed."""
    valid: int = 0
    """How many of the calls were valid, if need be after mending."""
    mended: int = 0
    """How many of the calls had to be mended."""
    unreadable: int = 0
    """Calls that could not be read; they are not among :attr:`calls`."""
    usage: Usage = field(default_factory=Usage)
    """Tokens."""
    seconds: float = 0.0
    """Wall time."""

    @property
    def called(self) -> bool:
        """Whether it called a tool, or tried to."""
        return bool(self.calls or self.unreadable)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "id": self.case.id,
            "category": self.case.category,
            "correct": self.verdict.correct,
            "failure": self.verdict.failure,
            "detail": self.verdict.detail,
            "calls": [{name: dict(arguments)} for name, arguments in self.calls],
            "text": self.text,
            "seconds": round(self.seconds, 3),
            "prompt_tokens": self.usage.prompt_tokens,
            "generated_tokens": self.usage.generated_tokens,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolReport:
    """The results of all cases, and what they come to."""

    results: Sequence[CaseResult]
    """In the order of the cases."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What was measured: model, settings, data."""

    @property
    def accuracy(self) -> float:
        """Share of the cases that were answered rightly."""
        return _share(sum(r.verdict.correct for r in self.results), len(self.results))

    @property
    def failures(self) -> dict[str, int]:
        """Kinds of failures with their numbers, the most frequent first."""
        return dict(
            Counter(r.verdict.failure for r in self.results if r.verdict.failure).most_common()
        )

    def category(self, name: str) -> ToolReport:
        """The part of one category."""
        return ToolReport(
            results=[r for r in self.results if r.case.category == name], meta=self.meta
        )

    @property
    def categories(self) -> list[str]:
        """In the order of the cases."""
        return list(dict.fromkeys(r.case.category for r in self.results))

    def figures(self) -> dict[str, Any]:
        """Accuracy first, then its 95 % interval (Wilson), validity, mending, tokens and time."""
        count, calls = len(self.results), sum(len(r.calls) + r.unreadable for r in self.results)
        usage = sum((r.usage for r in self.results), Usage())
        seconds = sum(r.seconds for r in self.results)
        wanted = [r for r in self.results if r.case.kind != "irrelevance"]
        unwanted = [r for r in self.results if r.case.kind == "irrelevance"]
        right = sum(r.verdict.correct for r in self.results)
        low, high = _wilson(right, count)
        return {
            "accuracy": round(self.accuracy, 4),
            "interval": [round(low, 4), round(high, 4)],
            "correct": right,
            "cases": count,
            "calls": calls,
            "call_validity": round(_share(sum(r.valid for r in self.results), calls), 4),
            "repair_rate": round(_share(sum(r.mended for r in self.results), calls), 4),
            # Whether to call at all, apart from what is called.
            "missed_call_rate": _rate(wanted, lambda r: not r.called),
            "false_call_rate": _rate(unwanted, lambda r: r.called),
            "prompt_tokens": usage.prompt_tokens,
            "reused_tokens": usage.reused_tokens,
            "generated_tokens": usage.generated_tokens,
            "forced_tokens": usage.forced_tokens,
            "seconds": round(seconds, 2),
            "seconds_per_case": round(_share(seconds, count), 3),
        }

    def to_dict(self, *, cases: bool = False) -> dict[str, Any]:
        """JSON-able form.

        Args:
            cases: Include each case's calls and verdict.
        """
        result = {
            **self.figures(),
            "categories": {name: self.category(name).figures() for name in self.categories},
            "failures": self.failures,
            "meta": dict(self.meta),
        }
        if cases:
            result["results"] = [one.to_dict() for one in self.results]
        return result


class _Recorder:
    """A tool that takes calls and does nothing."""

    def __init__(self, definition: ToolDefinition) -> None:
        self.definition = definition
        self.timeout: float | None = None

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        return "done"


async def evaluate_tools(
    model: Model,
    cases: Iterable[BFCLCase],
    *,
    constrain: bool = True,
    sampling: Sampling | None = None,
    system: str | None = None,
    tool_choice: str = "auto",
    concurrency: int = 1,
    progress: Callable[[CaseResult], None] = lambda result: None,
    meta: Mapping[str, Any] | None = None,
) -> ToolReport:
    """Ask a model for the calls of each case, and judge them.

    Each case is a run of an agent with the case's functions as tools, ended after one turn. The
    calls are judged as the tools would have got them: parsed, mended and validated.

    Args:
        model: To be judged.
        cases: As :func:`agentkit.evaluation.read_cases` gives them.
        constrain: Write calls under the grammar of the functions' schemas.
        sampling: How tokens are chosen; greedily if not given.
        system: Instructions, for cases that bring none of their own.
        tool_choice: ``required`` leaves out the decision whether to call at all.
        concurrency: How many runs may go on at a time.
        progress: Told of each result when it is there.
        meta: Facts for the report.

    Raises:
        UserError: ``concurrency`` is less than 1.
        ModelError: The model cannot be loaded.
    """
    if concurrency < 1:
        raise UserError(f"concurrency must be at least 1, not {concurrency!r}")
    gate = asyncio.Semaphore(concurrency)

    async def one(case: BFCLCase) -> CaseResult:
        async with gate:
            result = await _run_case(
                model,
                case,
                constrain=constrain,
                sampling=sampling or Sampling(),
                system=system,
                tool_choice=tool_choice,
            )
        progress(result)
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(case)) for case in cases]
    results = [task.result() for task in tasks]
    facts = {"model": model.name, "grammar": constrain, "tool_choice": tool_choice, **(meta or {})}
    return ToolReport(results=results, meta=facts)


async def _run_case(
    model: Model,
    case: BFCLCase,
    *,
    constrain: bool,
    sampling: Sampling,
    system: str | None,
    tool_choice: str,
) -> CaseResult:
    names = tool_names(case.functions)
    tools = [
        _Recorder(tool_definition(function, name=shown))
        for shown, function in zip(names, case.functions, strict=True)
    ]
    own_system = any(message.get("role") == "system" for message in case.messages)
    begin = time.perf_counter()
    try:
        agent = Agent(
            model,
            tools,
            system=None if own_system else system,
            sampling=sampling,
            constrain=constrain,
            tool_choice=tool_choice,
            rewind=0,  # what the model wrote first is judged
            # One turn is all that counts; asking for an answer after it would take another.
            limits=Limits(max_steps=1, on_exceeded="raise"),
        )
        run: RunResult | None = await agent.run(case.messages)
    except RunError as error:
        run = error.result
    except AgentkitError as error:
        verdict = Verdict(False, "failed", str(error)[:200])
        seconds = time.perf_counter() - begin
        return CaseResult(case=case, verdict=verdict, text=str(error), seconds=seconds)
    step = run.steps[0] if run is not None and run.steps else None
    return _read_step(case, step, names, seconds=time.perf_counter() - begin)


def _read_step(
    case: BFCLCase, step: StepRecord | None, names: Mapping[str, str], *, seconds: float
) -> CaseResult:
    if step is None:
        return CaseResult(
            case=case, verdict=Verdict(False, "failed", "the run has no turn"), seconds=seconds
        )
    calls: list[Call] = []
    for record in step.calls:
        arguments = record.call.arguments
        if record.call.name != UNREADABLE_CALL and isinstance(arguments, Mapping):
            calls.append((names.get(record.call.name, record.call.name), arguments))
    unreadable = len(step.calls) - len(calls)
    verdict = judge(case, calls)
    if unreadable and case.answers:
        verdict = Verdict(False, "unreadable", step.calls[0].observation[:200])
    return CaseResult(
        case=case,
        verdict=verdict,
        calls=tuple(calls),
        text=step.text,
        valid=sum(record.status != "invalid" for record in step.calls),
        mended=sum(bool(record.repairs) for record in step.calls),
        unreadable=unreadable,
        usage=step.usage,
        seconds=seconds,
    )


def _rate(results: Sequence[CaseResult], holds: Callable[[CaseResult], bool]) -> float | None:
    """Share of results for which something holds; None where there are no results."""
    return round(sum(map(holds, results)) / len(results), 4) if results else None


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), which also holds near 0 and 1."""
    if not count:
        return 0.0, 1.0
    share = right / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)
