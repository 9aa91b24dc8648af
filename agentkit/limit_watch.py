"""How far a run has come against its limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from agentkit.errors import InvalidToolCallError, LimitExceededError
from agentkit.limits import Limits
from agentkit.models.base import Sampling, Usage
from agentkit.result import RunResult, StepRecord, StopReason

__all__ = ["LimitReached", "LimitWatch"]


class LimitReached(Exception):
    """A limit ends the run. Not for callers: they get a result or a LimitExceededError."""

    def __init__(self, limit: StopReason, message: str) -> None:
        super().__init__(message)
        self.limit: StopReason = limit
        """Which."""

    def as_error(self, result: RunResult) -> InvalidToolCallError | LimitExceededError:
        """What callers get, where the limits say to raise.

        Args:
            result: The run so far.
        """
        if self.limit == "max_retries":
            return InvalidToolCallError(f"{self} (Limits.max_retries)", result=result)
        return LimitExceededError(f"{self} (Limits.{self.limit})", limit=self.limit, result=result)


class LimitWatch:
    """Counts what a run has taken, and says when it is too much.

    Args:
        limits: Of the run.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        """Of the run."""
        self.failures = 0
        """Steps in a row, up to the last, in which calls failed."""

    def recall(self, steps: Sequence[StepRecord]) -> None:
        """Count the failures of steps that were taken before the run paused."""
        for step in steps:
            failed = any(call.status != "ok" for call in step.calls)
            self.failures = self.failures + 1 if failed else 0

    def check(self, steps: Sequence[StepRecord]) -> None:
        """See that another step may be taken.

        Args:
            steps: Taken so far.

        Raises:
            LimitReached: It may not.
        """
        if len(steps) >= self.limits.max_steps:
            raise LimitReached(
                "max_steps", f"the run took {len(steps)} steps and has no answer yet"
            )
        spent, most = _spent(steps), self.limits.max_tokens
        if most is not None and spent >= most:
            raise LimitReached(
                "max_tokens", f"the run read and wrote {spent} tokens and has no answer yet"
            )

    def count(self, step: StepRecord) -> str | None:
        """Count what failed in a step.

        Returns:
            What went wrong; None where nothing did.

        Raises:
            LimitReached: A tool was called too often, or too many steps in a row have failed.
        """
        refused = [call for call in step.calls if call.status == "refused"]
        if refused and self.limits.on_exceeded == "raise":
            name = refused[0].call.name
            raise LimitReached(
                "max_calls_per_tool",
                f"the model called {name} more than {self.limits.calls_allowed(name)} times",
            )
        failed = [call for call in step.calls if call.status != "ok"]
        if not failed:
            self.failures = 0
            return None
        self.failures += 1
        reason = "\n".join(call.observation for call in failed)
        if self.failures > self.limits.max_retries:
            raise LimitReached(
                "max_retries", f"calls failed in {self.failures} steps in a row; last: {reason}"
            )
        return reason

    def sampling(self, sampling: Sampling, steps: Sequence[StepRecord]) -> Sampling:
        """Sampling rules, held to the tokens that the run has left."""
        if self.limits.max_tokens is None:
            return sampling
        left = max(1, self.limits.max_tokens - _spent(steps))
        return dataclasses.replace(sampling, max_tokens=min(sampling.max_tokens, left))


def _spent(steps: Sequence[StepRecord]) -> int:
    """Tokens that the model has read and written."""
    usage = sum((step.usage for step in steps), Usage())
    return usage.prefilled_tokens + usage.generated_tokens
