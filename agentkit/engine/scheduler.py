"""Many turns at once on one model: who reads how much in each forward pass."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from agentkit.engine.decoding import Turn
from agentkit.engine.heap import trim_heap
from agentkit.engine.job import Job, hand_over
from agentkit.engine.kv_cache import common_prefix
from agentkit.engine.rows import forward_rows
from agentkit.engine.sequence import Read

if TYPE_CHECKING:
    import torch

    from agentkit.engine.backend import Row
    from agentkit.engine.engine import InferenceEngine
    from agentkit.models.base import ModelEvent

__all__ = ["Scheduler"]

logger = logging.getLogger(__name__)

_WORTH_WAITING = 64
"""Shared prompt tokens from which on a turn waits for another to read them."""
_TIDY_AFTER = 64
"""Turns after which the memory that they have left is given back."""
_PREPARED_AT_ONCE = 4
"""Prompts encoded between two passes, lest a crowd of new requests hold up those at work."""


class Scheduler:
    """Writes turns side by side, a token of each in every pass. For the model's thread.

    Each pass reads the next token of every turn that is being written, then chunks of prompts
    as far as a budget goes, so that a long prompt delays nobody's next token by much. Requests
    begin in the order in which they came, once there is a place and memory for them. One whose
    prompt begins as another's that is just being read waits for that part, and copies it.

    Args:
        engine: What runs the model.
        max_batch: Turns that may be at work at once.
    """

    def __init__(self, engine: InferenceEngine, *, max_batch: int) -> None:
        self._engine = engine
        self._max_batch = max_batch
        self._waiting: deque[_Work] = deque()
        self._working: list[_Work] = []
        self._passes = 0
        self._begun = 0  # turns, since free memory was last given back

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._waiting or self._working)

    def add(self, jobs: Sequence[Job]) -> None:
        """Take in new requests."""
        self._begun += len(jobs)
        self._waiting += [_Work(job) for job in jobs]

    def step(self) -> None:
        """Look after new and cancelled requests, then do one forward pass."""
        self._drop_cancelled()
        self._admit()
        self._start()
        passes = self._plan()
        self._engine.rows = max(1, len(passes))
        rows = [row for _, row in passes]
        hand_over(work.job for work in self._working)
        for (work, row), outcome in zip(
            passes, forward_rows(self._engine.backend, rows), strict=True
        ):
            if isinstance(outcome, BaseException):
                work.fail(outcome)
            else:
                self._take_in(work, row, outcome)
        self._working = [work for work in self._working if not work.finished]

    def tidy(self) -> None:
        """There is nothing to do: the time for what must not hold up a turn."""
        if self._begun >= _TIDY_AFTER:
            self._begun = 0
            trim_heap()

    def stop(self, error: BaseException) -> None:
        """Give everything up, and tell those who wait."""
        for work in (*self._working, *self._waiting):
            if not work.finished:
                work.fail(error)
        self._working.clear()
        self._waiting.clear()

    def _drop_cancelled(self) -> None:
        for work in (*self._working, *self._waiting):
            if work.job.cancelled.is_set():
                work.cancel()
        self._working = [work for work in self._working if not work.finished]
        self._waiting = deque(work for work in self._waiting if not work.finished)

    def _admit(self) -> None:
        for work in list(self._waiting)[:_PREPARED_AT_ONCE]:
            work.prepare(self._engine)
        free = self._engine.batch_bytes - sum(map(self._bytes, self._working))
        while self._waiting and len(self._working) < self._max_batch:
            first = self._waiting[0]
            first.prepare(self._engine)
            if not first.finished:
                # A turn alone always begins: what never fits was refused when it was prepared.
                if self._working and self._bytes(first) > free:
                    return
                free -= self._bytes(first)
                self._working.append(first)
            self._waiting.popleft()

    def _bytes(self, work: _Work) -> int:
        """What the work's cache will take in the end."""
        return work.turn.most_tokens * self._engine.kv_bytes_per_token

    def _start(self) -> None:
        for i, work in enumerate(self._working):
            if work.steps is None and not self._waits_for_prefix(work, self._working[:i]):
                work.start()
        self._working = [work for work in self._working if not work.finished]

    def _waits_for_prefix(self, work: _Work, earlier: Sequence[_Work]) -> bool:
        """Whether another turn is about to read what this one's prompt begins with.

        Only earlier turns are waited for, so that no two wait for each other.
        """
        if work.leader is not None and work.leader.will_read(work.shared):
            return True
        work.leader, work.shared = None, 0
        prompt_ids = work.turn.prompt_ids
        for other in earlier:
            shared = min(common_prefix(prompt_ids, other.turn.prompt_ids), len(prompt_ids) - 1)
            if shared > work.shared and other.will_read(shared):
                work.leader, work.shared = other, shared
        if work.shared - self._engine.caches.known(prompt_ids) < _WORTH_WAITING:
            work.leader = None
        if work.leader is None:
            return False
        work.leader.snapshots.add(work.shared)
        return True

    def _plan(self) -> list[tuple[_Work, Row]]:
        """The rows of the next pass: all tokens that turns wait for, then chunks of prompts."""
        size = self._engine.prefill_chunk
        asking = [work for work in self._working if work.read is not None]
        passes = [(w, w.row(size)) for w in asking if w.read is not None and not w.read.prompt]
        prompts = [work for work in asking if work.read is not None and work.read.prompt]
        budget = max(1, size // 4) if passes else size
        # By turns the prompt that came first and the one that ends soonest; with what is left of
        # the budget, others that end in this pass. Scraps cost as much as whole chunks, so that
        # a prompt is rather read to its end.
        self._passes += 1
        soonest = sorted(prompts, key=lambda work: work.left)
        lead = prompts[:1] if self._passes % 2 else soonest[:1]
        for work in (*lead, *(work for work in soonest if work not in lead)):
            if work not in lead and work.left > budget:
                break
            row = work.row(work.left if work.left <= budget + budget // 2 else budget)
            passes.append((work, row))
            budget -= len(row.token_ids)
            if budget < 1:
                break
        return passes

    def _take_in(self, work: _Work, row: Row, logits: torch.Tensor) -> None:
        cache = row.cache
        if len(cache.token_ids) in work.snapshots and not cache.croppable:
            self._engine.caches.put(cache.fork())
        work.advance(len(row.token_ids), logits)


class _Work:
    """A job with its turn."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.turn: Turn
        self.steps: Generator[ModelEvent | Read, Any, None] | None = None
        self.read: Read | None = None
        """What the turn waits for."""
        self.finished = False
        self.snapshots: set[int] = set()
        """Tokens after which others want a copy of the state."""
        self.leader: _Work | None = None
        """Whose prompt is waited for."""
        self.shared = 0
        """How much of it."""
        self._prepared = False
        self._done = 0  # tokens of the read

    @property
    def left(self) -> int:
        """Tokens that are still to be read of what the turn waits for."""
        return len(self.read.token_ids) - self._done if self.read else 0

    def prepare(self, engine: InferenceEngine) -> None:
        """Encode the prompt, and see that it fits."""
        if self._prepared:
            return
        self._prepared = True
        try:
            self.turn = Turn(engine, self.job.request)
            self.turn.prepare()
        except Exception as error:
            self.fail(error)

    def start(self) -> None:
        """Begin to write."""
        self.steps = self.turn.steps(queued=time.perf_counter() - self.job.asked)
        self._go_on(None)

    def will_read(self, tokens: int) -> bool:
        """Whether the prompt's first ``tokens`` tokens can be copied from here, but not yet."""
        if self.steps is None:
            return not self.finished
        if self.read is None or not self.read.prompt:
            return False
        cache = self.read.cache
        here = len(cache.token_ids)
        # A state that cannot be cut back can only be copied when it is just there.
        return here < tokens <= here + self.left

    def row(self, size: int) -> Row:
        """The next pass of what the turn waits for, with about ``size`` tokens at most."""
        assert self.read is not None
        if not self.read.cache.croppable:
            here = len(self.read.cache.token_ids)
            size = min([size, *(s - here for s in self.snapshots if s > here)])
        return self.read.row(self._done, size)

    def advance(self, tokens: int, logits: torch.Tensor) -> None:
        """Some of the tokens were read; where all were, the turn goes on."""
        assert self.read is not None
        self._done += tokens
        if self._done == len(self.read.token_ids):
            self._done = 0
            self._go_on(logits)

    def cancel(self) -> None:
        """Nobody waits for it any longer."""
        self._end(None)

    def fail(self, error: BaseException) -> None:
        """Tell the one who waits."""
        self._end(error)

    def _go_on(self, logits: torch.Tensor | None) -> None:
        assert self.steps is not None
        self.read = None
        events: list[ModelEvent] = []
        try:
            item = self.steps.send(logits)
            while not isinstance(item, Read):
                events.append(item)
                item = next(self.steps)
            self.read = item
        except StopIteration:
            self.job.deliver(events)
            self._end(None)
        except Exception as error:
            self.job.deliver(events)
            self._end(error)
        else:
            self.job.deliver(events)

    def _end(self, error: BaseException | None) -> None:
        self.finished = True
        self.read = None
        if self.steps is not None:
            try:
                self.steps.close()
            except Exception:
                logger.exception("a turn could not be ended in good order")
        self.job.finish(error)
