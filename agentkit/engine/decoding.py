"""Writing one assistant turn, token by token."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from agentkit.chat_format import TOOL_CALL_START
from agentkit.engine.lookup import PromptLookup
from agentkit.engine.output import TurnOutput
from agentkit.engine.sampling import Sampler
from agentkit.engine.sequence import Read, TokenScorer, TurnSequence
from agentkit.engine.stopwatch import Stopwatch
from agentkit.engine.turn_grammar import TurnGrammar
from agentkit.errors import ContextLengthError
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
        self._may_call = bool(request.tools) and request.tool_choice != "none"
        # A turn that may not call does not; and results are written by tools, not by the model.
        self._forbidden = [
            *([] if self._may_call else [TOOL_CALL_START]),
            *([_TOOL_RESPONSE] if request.tools else []),
        ]
        self._max_tokens = request.sampling.max_tokens
        self._sampled = self._forced = self._reused = 0
        self._stable = 0  # tokens of the prompt that other conversations have as well
        self._clock = Stopwatch()
        self._grammar = TurnGrammar(engine, request, self._output, self._clock)
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
            self._grammar.require_answer(self._request.response_schema, self._max_tokens)
        elif self._request.constrain and not self._resumes_calls() and required:
            self._grammar.require_call(self._max_tokens)
        phase = "prefill"
        while True:
            yield from self._take_forced()
            if self._grammar.is_over(self._room()):
                return "stop"
            if self._room() <= 0:
                return "length"
            with self._clock(phase):
                logits = yield from sequence.logits(room=self._room())
            if phase == "prefill" and sequence.croppable:
                self._engine.stable_prefix.save(sequence, self.prompt_ids[: self._stable])
            phase = "decode"
            tokens, forced = self._next_tokens(logits)
            if tokens[0] in self._engine.eos_ids:
                return "stop"
            yield from self._accept(tokens, forced=forced)
            if self._output.stopped:
                return "stop_string"
            if self._may_call and self._request.constrain and not self._grammar.at_work:
                goes_on, take_back = self._grammar.watch_for_call(self._room())
                if take_back:
                    self._output.take_back()
                    self._sequence.take_back()
                if not goes_on:
                    return "length"

    def _room(self) -> int:
        """Tokens that may still be written."""
        return self._max_tokens - len(self._output.token_ids)

    def _resumes_calls(self) -> bool:
        given = self._request.prefill is not None and self._may_call
        return given and self._grammar.resume_calls()

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

    def _take_forced(self) -> Iterator[ModelEvent]:
        """Append the tokens that the grammar leaves no choice about, without sampling."""
        for tokens in (self._grammar.forced, lambda: self._grammar.closing(self._room())):
            yield from self._accept(tokens(), forced=True)

    def _next_tokens(self, logits: torch.Tensor) -> tuple[list[int], bool]:
        """Choose the next token, or several; and whether the grammar forced them."""
        if not self._output.token_ids:
            logits = self._weighed(logits)
        if not self._grammar.at_work:
            self._sampled += 1
            return [self._next_free_token(logits)], False
        tokens, forced = self._grammar.choose(logits, self._sampler, self._room())
        self._sampled += not forced
        return tokens, forced

    def _weighed(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits of a turn's first token, which decides whether a tool is called."""
        bias = self._engine.call_bias
        if not bias or not self._may_call or self._request.tool_choice != "auto":
            return logits
        logits = logits.clone()
        logits[self._engine.call_token] += bias
        return logits

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

    def _accept(self, tokens: Sequence[int], *, forced: bool) -> Iterator[ModelEvent]:
        if not tokens:
            return
        self._sequence.append(tokens, forced=forced)
        self._forced += len(tokens) * forced
        for token in tokens:
            yield from map(self._with_account, self._output.push(token))
