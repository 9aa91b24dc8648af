"""Writing one assistant turn, token by token."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from agentkit.chat_format import TOOL_CALL_START
from agentkit.engine.closing import CLOSING_MARGIN, CallClosing
from agentkit.engine.grammar import number_runs_away
from agentkit.engine.lookup import PromptLookup
from agentkit.engine.output import TurnOutput
from agentkit.engine.sampling import Sampler
from agentkit.engine.sequence import Read, TokenScorer, TurnSequence
from agentkit.engine.stopwatch import Stopwatch
from agentkit.errors import ContextLengthError, ModelError, UserError
from agentkit.models.base import (
    CallParsed,
    FinishReason,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    Timings,
    Usage,
)
from agentkit.prompt import Prompt, PromptPart

if TYPE_CHECKING:
    from agentkit.engine.engine import InferenceEngine
    from agentkit.engine.grammar import CallConstraint

__all__ = ["Turn"]

_TOOL_RESPONSE = "<tool_response"


class Turn:
    """One request being answered.

    The turn begins as free text, unless its form is given. At ``<tool_call>`` (at once, where a
    call is required) the grammar takes over until the turn ends: after a call only further calls
    may come.

    A turn does not run the model. It asks for what it needs read, and goes on with the logits;
    so that many turns can be written side by side (:class:`~agentkit.engine.scheduler.Scheduler`).

    Args:
        engine: What runs the model.
        request: What to answer.
        cancelled: Looked at before each forward pass by :meth:`run`; set it to give up.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        request: ModelRequest,
        *,
        cancelled: threading.Event | None = None,
    ) -> None:
        self._engine = engine
        self._request = request
        self._cancelled = cancelled or threading.Event()
        self._sampler = Sampler(request.sampling, engine.device)
        self._output = TurnOutput(engine.codec, stop=request.sampling.stop)
        self._constraint: CallConstraint | None = None
        self._may_call = bool(request.tools) and request.tool_choice != "none"
        # A turn that may not call does not; and results are written by tools, not by the model.
        self._forbidden = [
            *([] if self._may_call else [TOOL_CALL_START]),
            *([_TOOL_RESPONSE] if request.tools else []),
        ]
        self._max_tokens = request.sampling.max_tokens
        self._call_tokens = 0  # what the shortest call takes
        self._closing = CallClosing()
        self._sampled = self._forced = self._reused = 0
        self._stable = 0  # tokens of the prompt that other conversations have as well
        self._clock = Stopwatch()
        wanted = request.sampling.logprobs
        self._scorer = None if wanted is None else TokenScorer(engine.codec, top=wanted)
        self.prompt_ids: list[int] = []
        """The prompt, once the turn is prepared."""

    @property
    def most_tokens(self) -> int:
        """Tokens of the whole sequence, if the turn takes all that it may."""
        return len(self.prompt_ids) + self._max_tokens

    def prepare(self) -> None:
        """Make the prompt's tokens, and see that they fit.

        Raises:
            ContextLengthError: The prompt leaves no room in the context window or in memory.
        """
        request, engine = self._request, self._engine
        with self._clock("render"):
            prompt = engine.chat_format.render(
                request.messages, tools=request.tools, documents=request.documents
            )
            self.prompt_ids = engine.codec.encode(prompt)
            self._fit_context(len(self.prompt_ids))
            self.prompt_ids += self._given()

    def run(self) -> Iterator[ModelEvent]:
        """Write the turn in this thread, alone; the last event is its :class:`ModelResponse`.

        Raises:
            ContextLengthError: The prompt leaves no room in the context window.
            Cancelled: The turn was given up.
        """
        self.prepare()
        steps = self.steps()
        logits: torch.Tensor | None = None
        try:
            while True:
                try:
                    item = steps.send(logits)
                except StopIteration:
                    return
                logits = None
                if isinstance(item, Read):
                    logits = self._engine.read(item, cancelled=self._cancelled)
                else:
                    yield item
        finally:
            steps.close()

    def steps(self, *, queued: float = 0.0) -> Generator[ModelEvent | Read, Any, None]:
        """Write the turn: events, and reads that are answered with their logits.

        Args:
            queued: Seconds that the request has waited already.
        """
        engine = self._engine
        self._clock.add("queue", queued)
        with self._clock("render"):
            sequence = self._begin()
        try:
            with self._clock("decode"):
                if not sequence.croppable:
                    yield from self._keep_snapshots(sequence)
                finish = yield from self._write(sequence)
        finally:
            cache = sequence.settled()
            engine.caches.put(cache)
        cut = finish == "length" and self._may_call
        yield from map(self._with_account, self._output.finish(cut=cut))
        yield ModelResponse(
            text=self._output.visible_text,
            calls=tuple(self._output.calls),
            generation=self._output.generation(),
            finish_reason="tool_calls" if self._output.calls and finish == "stop" else finish,
            usage=self._usage(),
            timings=Timings(**self._clock.seconds),
            logprobs=self._scorer.scores(self._output.token_ids) if self._scorer else None,
        )

    def _usage(self) -> Usage:
        return Usage(
            prefilled_tokens=len(self.prompt_ids) - self._reused,
            reused_tokens=self._reused,
            sampled_tokens=self._sampled,
            forced_tokens=self._forced,
            lookup_tokens=self._sequence.saved_passes,
        )

    def _with_account(self, event: ModelEvent) -> ModelEvent:
        """The event; a call with what the turn has taken, as the turn may be given up there."""
        if not isinstance(event, CallParsed):
            return event
        return replace(event, usage=self._usage(), timings=Timings(**self._clock.seconds))

    def _given(self) -> list[int]:
        """Take the turn's beginning, if the request gives one; returns its tokens."""
        given = self._request.prefill
        if given is None:
            return []
        part = PromptPart(given.text, trusted=False, generation=given)
        token_ids = self._engine.codec.encode(Prompt((part,)))
        self._output.begin_with(token_ids)
        if self._scorer is not None:
            self._scorer.skip(token_ids)
        return token_ids

    def _begin(self) -> TurnSequence:
        engine = self._engine
        self._stable = engine.stable_prefix.load(self._request, self.prompt_ids)
        cache = engine.caches.take(self.prompt_ids, expected=self.most_tokens)
        self._reused = len(cache.token_ids)
        lookup = None
        if engine.lookup and cache.croppable:
            lookup = PromptLookup(self.prompt_ids, never=engine.eos_ids)
        self._sequence = TurnSequence(
            cache,
            self.prompt_ids,
            lookup=lookup,
            draft_cost=engine.draft_cost,
            scorer=self._scorer,
        )
        return self._sequence

    def _keep_snapshots(self, sequence: TurnSequence) -> Generator[Read, torch.Tensor, None]:
        """Store the state where it may be wanted again, if a cache cannot be cut back to there.

        Recurrent layers only know where they are. With a snapshot after system text and tools
        another conversation need not read those, and with one at the prompt's end the same
        prompt, or a conversation that goes on from it, need not be read again.
        """
        for end in sorted({self._stable, len(self.prompt_ids) - 1}):
            if end > self._reused:
                with self._clock("prefill"):
                    yield from sequence.read_prompt(end)
                self._engine.caches.put(sequence.fork(end))
                if end == self._stable:
                    self._engine.stable_prefix.save(sequence, self.prompt_ids[:end])

    def _write(
        self, sequence: TurnSequence
    ) -> Generator[ModelEvent | Read, torch.Tensor, FinishReason]:
        required = self._request.tool_choice not in ("auto", "none")
        if self._request.response_schema is not None and not required:
            self._open_answer(self._request.response_schema)
        elif self._request.constrain and not self._among_calls() and required:
            self._open_required_call()
        phase = "prefill"
        while True:
            yield from self._take_forced()
            if self._calls_are_over():
                return "stop"
            if self._room() <= 0:
                return "length"
            with self._clock(phase):
                logits = yield from sequence.logits(room=self._room())
            if phase == "prefill" and sequence.croppable:
                self._engine.stable_prefix.save(sequence, self.prompt_ids[: self._stable])
            phase = "decode"
            before = self._forced
            tokens = self._next_tokens(logits)
            if tokens[0] in self._engine.eos_ids:
                return "stop"
            yield from self._accept(tokens, forced=self._forced > before)
            if self._output.stopped:
                return "stop_string"
            if (
                self._constraint is None
                and self._may_call
                and self._request.constrain
                and not self._watch_for_call()
            ):
                return "length"

    def _room(self) -> int:
        """Tokens that may still be written."""
        return self._max_tokens - len(self._output.token_ids)

    def _calls_are_over(self) -> bool:
        """Whether no further call may come, or none would fit."""
        if self._constraint is None or not self._constraint.may_end:
            return False
        return self._constraint.finished or self._room() < self._call_tokens + CLOSING_MARGIN

    def _fit_context(self, prompt_tokens: int) -> None:
        engine = self._engine
        room = min(engine.context_length, engine.most_cached_tokens) - prompt_tokens
        if room < 1 and engine.most_cached_tokens < engine.context_length:
            raise ContextLengthError(
                f"the prompt has {prompt_tokens} tokens, and the memory set aside for turns at "
                f"work holds the keys and values of {engine.most_cached_tokens}; raise "
                "batch_bytes, shorten the conversation, or pass fewer or smaller documents (top_k)"
            )
        if room < 1:
            raise ContextLengthError(
                f"the prompt has {prompt_tokens} tokens and the model's context window holds "
                f"{self._engine.context_length}; shorten the conversation, pass fewer or smaller "
                "documents (top_k), or use a model with a longer context"
            )
        self._max_tokens = min(self._max_tokens, room)

    def _start_calls(self, *, lead: str = "", spelt: bool = False) -> CallConstraint:
        choice = self._request.tool_choice
        tools = [t for t in self._request.tools if choice in ("auto", "required", t.name)]
        # Naming a tool asks for one call of it.
        parallel = self._request.parallel_tool_calls and choice in ("auto", "required")
        with self._clock("grammar"):
            compiler = self._engine.grammar
            constraint = compiler.calls(tools, parallel=parallel, lead=lead, spelt=spelt)
            # No way is found to a tag in other tokens than its own; a further call has those.
            whole = compiler.calls(tools, parallel=parallel, lead=lead) if spelt else constraint
            self._call_tokens = len(whole.shortest_end() or ())
        return constraint

    def _open_required_call(self) -> None:
        self._constraint = self._start_calls()
        self._output.free_text = False
        if self._call_tokens > self._max_tokens:
            raise UserError(
                f"max_tokens is {self._max_tokens}, but the shortest call of the tools takes "
                f"{self._call_tokens} tokens; raise Sampling.max_tokens"
            )

    def _open_answer(self, schema: Mapping[str, Any]) -> None:
        """The whole turn is under a grammar: an answer of the schema's form, or calls."""
        tools = self._request.tools if self._may_call else ()
        compiler = self._engine.grammar
        with self._clock("grammar"):
            shortest = compiler.answer(schema).shortest_end()
            constraint = compiler.answer(
                schema, tools=tools, parallel=self._request.parallel_tool_calls
            )
            given = self._output.token_ids
            if constraint.advance(given) < len(given):
                raise UserError("the turn's given beginning is not of the response_schema's form")
            self._call_tokens = len(shortest or ())
        self._constraint = constraint
        self._output.free_text = False
        self._output.json_answer = True
        if self._call_tokens > self._max_tokens:
            raise UserError(
                f"max_tokens is {self._max_tokens}, but the shortest answer of the schema's form "
                f"takes {self._call_tokens} tokens; raise Sampling.max_tokens"
            )

    def _among_calls(self) -> bool:
        """Whether the turn's given beginning has calls; the grammar is then brought there."""
        if self._request.prefill is None or not self._may_call:
            return False
        opened = self._output.opened_call(anywhere=True)
        if opened is None:
            return False
        lead, tokens = opened
        for spelt in (False, True):
            constraint = self._start_calls(lead=lead, spelt=spelt)
            if constraint.advance(tokens) == len(tokens):
                self._constraint = constraint
                self._output.free_text = False
                break
        return True

    def _take_forced(self) -> Iterator[ModelEvent]:
        """Append the tokens that the grammar leaves no choice about, without sampling."""
        for more in (lambda constraint: constraint.forced(), self._closing_tokens):
            if self._constraint is None or self._constraint.finished:
                return
            with self._clock("grammar"):
                tokens = more(self._constraint)
            self._forced += len(tokens)
            self._closing.took_forced(len(tokens))
            yield from self._accept(tokens, forced=True)

    def _closing_tokens(self, constraint: CallConstraint) -> list[int]:
        written = len(self._output.token_ids)
        return self._closing.due(constraint, written=written, room=self._room())

    def _next_tokens(self, logits: torch.Tensor) -> list[int]:
        """Choose the next token; or several, where a call has to be brought to its end."""
        self._sampled += 1
        if not self._output.token_ids:
            logits = self._weighed(logits)
        if self._constraint is None:
            return [self._next_free_token(logits)]
        with self._clock("grammar"):
            allowed = self._constraint.allowed(logits.device)
        seen = self._output.token_ids
        token = self._sampler(logits, seen=seen, allowed=allowed)
        while token not in self._engine.eos_ids and number_runs_away(
            self._output.with_token(token)
        ):
            allowed[token] = False
            if not allowed.any():
                break
            token = self._sampler(logits, seen=seen, allowed=allowed)
        if token in self._engine.eos_ids:
            return [token]
        with self._clock("grammar"):
            if not self._closing.allows(self._constraint, token, room=self._room()):
                return self._leave()
            if not self._constraint.advance([token]):
                raise ModelError(
                    f"the grammar refuses {self._engine.codec.decode([token])!r}, which it "
                    "allowed; a schema should not spell the model's special tokens"
                )
        return [token]

    def _weighed(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits of a turn's first token, which decides whether a tool is called."""
        bias = self._engine.call_bias
        if not bias or not self._may_call or self._request.tool_choice != "auto":
            return logits
        logits = logits.clone()
        logits[self._engine.call_token] += bias
        return logits

    def _leave(self) -> list[int]:
        """Take the way to the end that is in hand, as the chosen token leads to none."""
        assert self._constraint is not None
        way_out = self._closing.way_out
        if not way_out:
            return [self._engine.eos_ids[0]]
        self._sampled -= 1
        self._forced += len(way_out)
        self._constraint.advance(way_out)
        return way_out

    def _next_free_token(self, logits: torch.Tensor) -> int:
        seen = self._output.token_ids
        token = self._sampler(logits, seen=seen)
        if not self._output.would_complete(token, self._forbidden):
            return token
        allowed = torch.ones_like(logits, dtype=torch.bool)
        while self._output.would_complete(token, self._forbidden):
            allowed[token] = False
            token = self._sampler(logits, seen=seen, allowed=allowed)
        return token

    def _accept(self, tokens: list[int], *, forced: bool) -> Iterator[ModelEvent]:
        self._sequence.append(tokens, forced=forced)
        for token in tokens:
            yield from map(self._with_account, self._output.push(token))

    def _watch_for_call(self) -> bool:
        """Hand over to the grammar once the model has opened a call.

        The tag's last token may reach beyond it. What reaches beyond is kept if the grammar
        can go on from there; otherwise that token, which no forward pass has seen yet, is
        taken back and the grammar completes the tag.

        Returns:
            False if a call was opened that cannot be finished within the token limit.
        """
        opened = self._output.opened_call()
        if opened is None:
            return True
        lead, tokens = opened
        for spelt in (False, True):
            constraint = self._start_calls(lead=lead, spelt=spelt)
            fitted = constraint.advance(tokens)
            if fitted >= len(tokens) - 1:
                break
        else:
            return True  # No grammar can go on from here; parser and validation remain.
        with self._clock("grammar"):
            left = len(constraint.shortest_end() or ())
        if left > self._room() + len(tokens) - fitted:
            self._take_back()
            return False
        if fitted == len(tokens) - 1:
            self._take_back()
        self._constraint = constraint
        self._output.free_text = False
        return True

    def _take_back(self) -> None:
        """The last token was not meant."""
        self._output.take_back()
        self._sequence.take_back()
