"""Running a batch: many lines at once, each result on the disk before it counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.agent_inputs import run_sync
from agentkit.batch.lines import Item, LineError, Source, fingerprint, read_line
from agentkit.batch.output import OutputFile
from agentkit.batch.records import Form, error_record, run_record, turn_record
from agentkit.errors import (
    AgentkitError,
    AuditError,
    ContextLengthError,
    ModelError,
    ModelLoadError,
    RunError,
    ToolError,
    UserError,
)
from agentkit.messages import SystemMessage
from agentkit.models.base import ModelRequest, Usage, generate
from agentkit.step import first_error

if TYPE_CHECKING:
    from agentkit.agent import Agent

__all__ = ["BatchReport", "run_batch", "run_batch_sync"]

_CONCURRENCY = 8  # of models that do not say how many turns they write at once


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """How far a batch is. Results count once they are on the disk."""

    total: int
    """Lines of the input, blank ones left out."""
    earlier: int = 0
    """Lines that had a result before this call."""
    done: int = 0
    """Lines that got a record in this call, errors included."""
    failed: int = 0
    """Of these, how many errors."""
    usage: Usage = field(default_factory=Usage)
    """Tokens of this call's results."""
    seconds: float = 0.0
    """Since this call began."""


@dataclass(frozen=True, slots=True)
class _Done:
    number: int
    print: str
    line_id: str
    ok: bool
    record: dict[str, Any]
    usage: Usage


async def run_batch(
    agent: Agent,
    source: str | Path | Iterable[Any],
    output: str | Path,
    *,
    concurrency: int | None = None,
    retry_failed: bool = False,
    restart: bool = False,
    progress: Callable[[BatchReport], None] | None = None,
) -> BatchReport:
    """Run an agent on every line of an input, several at once, and write what comes of each.

    A line is JSON: text, or ``{"id", "prompt" or "messages", "max_tokens", "temperature", ...}``,
    or a request of OpenAI's batches (``{"custom_id", "body": {"messages", ...}}``), whose result
    then has OpenAI's form, too. A line that cannot be run becomes an error record.

    Where the output holds results already, the batch goes on: lines that have a result are not
    run again. That also holds after the process was killed, at any moment; lines that were
    being run then are run from their beginning.

    Args:
        agent: Runs the lines; one without tools simply answers. A line that brings tools of its
            own is one turn of the agent's model, whose calls nobody runs.
        source: A file of JSON lines, or the lines themselves: texts, lists of messages, objects.
        output: The file of the results; when all is done, in the order of the lines.
        concurrency: Lines at work at once; as many as the model writes turns at once, if not
            given.
        retry_failed: Run lines again whose record is an error.
        restart: Throw away the results that there are.
        progress: Told after each write.

    Returns:
        How many lines there were, and what came of them.

    Raises:
        UserError: Input or output cannot be used; the output is of another input.
        ModelLoadError: The model cannot be loaded.
    """
    if concurrency is None:
        concurrency = getattr(agent.model, "max_batch", _CONCURRENCY)
    if concurrency < 1:
        raise UserError(f"concurrency is {concurrency}; it must be at least 1")
    lines = Source(source)
    results = await asyncio.to_thread(OutputFile, output, restart=restart)
    try:
        total = await asyncio.to_thread(_check, lines, results)
        batch = _Batch(agent, results, total, retry_failed, progress)
        await batch.run(lines, concurrency)
        await asyncio.to_thread(results.put_in_order)
        return batch.progress
    finally:
        results.close()


def run_batch_sync(
    agent: Agent, source: str | Path | Iterable[Any], output: str | Path, **options: Any
) -> BatchReport:
    """As :func:`run_batch`, for programs without an event loop."""
    report: BatchReport = run_sync(run_batch(agent, source, output, **options))
    return report


def _check(lines: Source, results: OutputFile) -> int:
    """Count the lines, and see that the results are theirs.

    Raises:
        UserError: They are of other lines.
    """
    total = 0
    seen = set()
    for number, line in lines:
        total += 1
        entry = results.entries.get(number)
        if entry is not None:
            seen.add(number)
            if entry.fingerprint != fingerprint(line):
                raise UserError(
                    f"{results.path} holds a result of line {number} of another input; give "
                    "another file for the results, or have this one overwritten (restart)"
                )
    if strange := results.entries.keys() - seen:
        raise UserError(
            f"{results.path} holds a result of line {min(strange)}, which the input does not "
            "have; give another file for the results, or have this one overwritten (restart)"
        )
    return total


def _code(error: Exception) -> tuple[str, int]:
    """What went wrong, in one word, and the HTTP status that a server would give."""
    if isinstance(error, LineError):
        return error.code, 400
    for kind, code, status in (
        (UserError, "invalid_request", 400),
        (ContextLengthError, "context_length_exceeded", 400),
        (ModelError, "model_error", 500),
        (RunError, "run_error", 500),
        (ToolError, "tool_error", 500),
    ):
        if isinstance(error, kind):
            return code, status
    return "internal_error", 500


class _Batch:
    """A batch at work."""

    def __init__(
        self,
        agent: Agent,
        results: OutputFile,
        total: int,
        retry_failed: bool,
        tell: Callable[[BatchReport], None] | None,
    ) -> None:
        self._agent = agent
        self._results = results
        self._tell = tell
        self._finished: asyncio.Queue[_Done | None] = asyncio.Queue()
        self._begin = time.perf_counter()
        self._skipped = {
            number for number, entry in results.entries.items() if entry.ok or not retry_failed
        }
        self.progress = BatchReport(total=total, earlier=len(self._skipped))

    async def run(self, lines: Source, concurrency: int) -> None:
        """Run what has no result yet."""
        self._report()
        work = self._work(lines)
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write())
                async with asyncio.TaskGroup() as workers:
                    for _ in range(min(concurrency, self.progress.total)):
                        workers.create_task(self._worker(work))
                self._finished.put_nowait(None)
                await writer
        except BaseExceptionGroup as group_error:
            error = first_error(group_error)
            raise error from error.__cause__
        finally:
            # Where the batch is stopped, what is finished by then is kept.
            rest = [self._finished.get_nowait() for _ in range(self._finished.qsize())]
            self._append([done for done in rest if done is not None])

    def _work(self, lines: Source) -> Iterator[tuple[int, bytes, Item]]:
        """The lines to run; those of a used id become records at once."""
        seen: dict[str, int] = {}
        for number, line in lines:
            if number in self._skipped:
                seen.setdefault(self._results.entries[number].line_id, number)
                continue
            try:
                item = read_line(line, number)
                if (first := seen.setdefault(item.line_id, number)) != number:
                    raise LineError(
                        f"line {first} has the id {item.line_id!r} already; ids must differ",
                        code="duplicate_id",
                        line_id=item.line_id,
                    )
            except LineError as error:
                form: Form = "openai" if b'"body"' in line else "own"
                line_id = error.line_id or f"line-{number}"
                self._fail(number, line, line_id, form, error)
                continue
            yield number, line, item

    async def _worker(self, work: Iterator[tuple[int, bytes, Item]]) -> None:
        for number, line, item in work:
            try:
                record, ok, usage = await self._run(item)
            except (ModelLoadError, AuditError):
                raise  # All other lines would fare the same.
            except Exception as error:
                self._fail(number, line, item.line_id, item.form, error)
            else:
                done = _Done(number, fingerprint(line), item.line_id, ok, record, usage)
                self._finished.put_nowait(done)

    async def _run(self, item: Item) -> tuple[dict[str, Any], bool, Usage]:
        agent = self._agent
        messages = list(item.messages)
        if isinstance(messages[0], SystemMessage) and agent.system is not None:
            raise LineError("the agent has instructions of its own: leave out the system message")
        sampling = replace(agent.sampling, **item.sampling)
        if item.tools:
            if agent.tools.names:
                raise LineError("the agent has tools of its own: leave out those of the line")
            if agent.system is not None:
                messages.insert(0, SystemMessage(agent.system))
            request = ModelRequest(
                messages=messages,
                tools=item.tools,
                tool_choice=item.tool_choice or "auto",
                parallel_tool_calls=item.parallel_tool_calls,
                sampling=sampling,
            )
            response = await generate(agent.model, request)
            return turn_record(item.line_id, agent.model.name, response), True, response.usage
        # A system message is the conversation's beginning, and no part of the prompt.
        history = [messages.pop(0)] if isinstance(messages[0], SystemMessage) else None
        result = await agent.run(
            messages, history=history, tool_choice=item.tool_choice, sampling=sampling
        )
        if result.pending:
            names = ", ".join(call.name for call in result.pending)
            record = error_record(
                item.line_id,
                item.form,
                code="approval_required",
                message=f"calls wait for approval, and nobody is there to give it: {names}",
                status=403,
            )
            return record, False, result.usage
        record = run_record(item.line_id, item.form, result)
        if item.metadata is not None:
            record["metadata"] = item.metadata
        return record, True, result.usage

    def _fail(self, number: int, line: bytes, line_id: str, form: Form, error: Exception) -> None:
        code, status = _code(error)
        text = (
            str(error) if isinstance(error, AgentkitError) else f"{type(error).__name__}: {error}"
        )
        record = error_record(line_id, form, code=code, message=text, status=status)
        self._finished.put_nowait(_Done(number, fingerprint(line), line_id, False, record, Usage()))

    async def _write(self) -> None:
        """Put results on the disk: all that have come meanwhile, in one go."""
        last = False
        while not last:
            found = [await self._finished.get()]
            while not self._finished.empty():
                found.append(self._finished.get_nowait())
            last = found[-1] is None
            write = asyncio.ensure_future(
                asyncio.to_thread(self._append, [done for done in found if done is not None])
            )
            try:
                await asyncio.shield(write)
            except asyncio.CancelledError:
                await write  # The file is not closed in the midst of it.
                raise
            self._report()

    def _append(self, ready: list[_Done]) -> None:
        if not ready:
            return
        self._results.append([(d.number, d.print, d.line_id, d.ok, d.record) for d in ready])
        self.progress = replace(
            self.progress,
            done=self.progress.done + len(ready),
            failed=self.progress.failed + sum(not d.ok for d in ready),
            usage=sum((d.usage for d in ready), self.progress.usage),
        )

    def _report(self) -> None:
        self.progress = replace(self.progress, seconds=time.perf_counter() - self._begin)
        if self._tell is not None:
            self._tell(self.progress)
