"""What the agent needs to know of a model: a request, a stream of events, a response."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from agentkit.errors import ModelError, UserError
from agentkit.messages import AssistantMessage, Generation, Message, ToolCall
from agentkit.parsing import ParsedCall
from agentkit.retrieval import Document
from agentkit.tools import ToolDefinition

__all__ = [
    "UNREADABLE_CALL",
    "CallDelta",
    "CallParsed",
    "FinishReason",
    "Model",
    "ModelEvent",
    "ModelRequest",
    "ModelResponse",
    "Sampling",
    "TextDelta",
    "Timings",
    "TokenLogprob",
    "Usage",
    "generate",
]

UNREADABLE_CALL = "unreadable_call"
"""Stands for the name of a call whose text names no function."""

FinishReason: TypeAlias = Literal["stop", "tool_calls", "length", "stop_string"]
"""Why a turn ended: by itself, after its calls, at the token limit, or at a stop string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen."""

    max_tokens: int = 512
    """Upper bound on the tokens of one turn. A constrained call or answer that would not fit
    is brought to its shortest valid end before the bound is reached."""
    temperature: float = 0.0
    """0 takes the likeliest token each time (greedy)."""
    top_k: int | None = None
    """Sample among the k likeliest tokens only."""
    top_p: float | None = None
    """Sample among the likeliest tokens that together reach this probability."""
    min_p: float | None = None
    """Sample among tokens at least this fraction as likely as the likeliest."""
    repetition_penalty: float = 1.0
    """Divides the logits of tokens seen before (Keskar et al. 2019, CTRL); 1 for none."""
    seed: int | None = None
    """Makes sampling repeatable; ``None`` draws a fresh seed."""
    stop: tuple[str, ...] = ()
    """The turn ends before the first of these strings that appears in its text."""
    logprobs: int | None = None
    """Report the log-probability of each written token, and of this many likeliest ones beside
    it (0 for none); see :class:`TokenLogprob`."""

    def __post_init__(self) -> None:
        checks = (
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1, or None"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", self.min_p is None or 0 <= self.min_p <= 1, "between 0 and 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("logprobs", self.logprobs is None or self.logprobs >= 0, "0 or more, or None"),
            ("stop", isinstance(self.stop, tuple) and all(self.stop), "a tuple of non-empty texts"),
        )
        for name, ok, expected in checks:
            if not ok:
                raise UserError(
                    f"Sampling.{name} is {getattr(self, name)!r}; it must be {expected}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One turn that the model is asked to write."""

    messages: Sequence[Message]
    """The conversation so far."""
    tools: Sequence[ToolDefinition] = ()
    """Tools that the prompt shows."""
    documents: Sequence[Document] = ()
    """Documents that the prompt shows."""
    tool_choice: str = "auto"
    """``auto`` (the model decides), ``required`` (at least one call), ``none``, or the name of
    the tool to call."""
    parallel_tool_calls: bool = True
    """Whether one turn may hold several calls."""
    constrain: bool = True
    """Sample calls under the grammar of the tools' schemas, so that none can be malformed."""
    response_schema: Mapping[str, Any] | None = None
    """JSON Schema (draft 2020-12) that the text of the turn follows: the turn is JSON of this
    form, written under a grammar, or calls where ``tool_choice`` lets it call. Stop strings then
    do not count. Keywords that a grammar cannot express are left out, with a warning in the log;
    a model is not shown the schema, so say in the prompt what is wanted."""
    sampling: Sampling = field(default_factory=Sampling)
    """How tokens are chosen. ``max_tokens`` counts those of :attr:`prefill`, too."""
    prefill: Generation | None = None
    """A beginning of the turn, as the model wrote it once (:attr:`CallParsed.before`): it goes
    on from there. The response is of the whole turn; events tell only what is new."""

    def __post_init__(self) -> None:
        if self.response_schema is not None and not isinstance(self.response_schema, Mapping):
            raise UserError(
                f"response_schema is {self.response_schema!r:.100}; it must be a JSON Schema: an "
                "object, such as {'type': 'object', 'properties': ...}"
            )
        choice = self.tool_choice
        names = [tool.name for tool in self.tools]
        if choice in ("auto", "none") or choice in names:
            return
        if choice == "required" and names:
            return
        if choice == "required":
            raise UserError("tool_choice is 'required' but there are no tools to call")
        raise UserError(
            f"tool_choice is {choice!r}; it must be 'auto', 'required', 'none' or the name of a "
            f"tool ({', '.join(names) or 'there are none'})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that one turn took. Usages add up with ``+``."""

    prefilled_tokens: int = 0
    """Prompt tokens that the model had to read."""
    reused_tokens: int = 0
    """Prompt tokens whose keys and values were in the cache already."""
    sampled_tokens: int = 0
    """Tokens chosen from the model's distribution."""
    forced_tokens: int = 0
    """Tokens that the grammar or the tool choice left no choice about."""
    lookup_tokens: int = 0
    """Of the sampled tokens, those that took no forward pass of their own, as prompt lookup had
    guessed what comes before them."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, read or reused."""
        return self.prefilled_tokens + self.reused_tokens

    @property
    def generated_tokens(self) -> int:
        """Tokens of the answer, sampled or forced."""
        return self.sampled_tokens + self.forced_tokens

    @property
    def total_tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt_tokens + self.generated_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds that one turn took inside the model, by activity. Timings add up with ``+``."""

    queue: float = 0.0
    """Waiting for a place among the turns at work, or for another turn to read the part of the
    prompt that both share."""
    render: float = 0.0
    """Rendering and encoding the prompt, finding its cached prefix."""
    prefill: float = 0.0
    """Reading the prompt; the turn's share of passes is not told apart from that of others."""
    decode: float = 0.0
    """Forward passes, sampling and decoding of the answer, those of turns beside it included."""
    grammar: float = 0.0
    """Compiling grammars and computing token masks."""

    def __add__(self, other: Timings) -> Timings:
        return Timings(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer's text."""

    text: str
    """The piece."""


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of a tool call's text, as it is being written."""

    text: str
    """The piece, tags not included."""
    index: int = 0
    """Index of the call within its turn."""


@dataclass(frozen=True, slots=True)
class CallParsed:
    """A tool call is complete."""

    call: ParsedCall
    """What it says."""
    index: int = 0
    """Index of the call within its turn."""
    before: Generation | None = None
    """The turn up to where the call's block begins, for :attr:`ModelRequest.prefill`; ``None``
    if the model cannot write another call in its place."""
    usage: Usage = field(default_factory=Usage)
    """Tokens that the turn had taken by then, in case that it is given up here."""
    timings: Timings = field(default_factory=Timings)
    """Time that it had taken by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """How likely a written token was.

    The figures are of the model's own distribution: before temperature and other sampling rules,
    and before the grammar's mask. A forced token has them too if the model has read it; tokens
    forced at the end of a turn have not been read, and have none.
    """

    token_id: int
    """The token."""
    text: str
    """Its text by itself; of a character in several tokens it is not the whole."""
    logprob: float | None = None
    """Natural logarithm of its probability; None where no forward pass tells."""
    top: tuple[tuple[int, str, float], ...] = ()
    """The likeliest tokens at its place, best first: id, text, logprob."""
    forced: bool = False
    """The grammar or the tool choice left no choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResponse:
    """A finished turn."""

    text: str
    """Text outside of tool calls."""
    calls: tuple[ParsedCall, ...] = ()
    """Calls, in the order in which they were written."""
    generation: Generation | None = None
    """The turn exactly as written."""
    finish_reason: FinishReason = "stop"
    """Why it ended."""
    usage: Usage = field(default_factory=Usage)
    """Tokens that it took."""
    timings: Timings = field(default_factory=Timings)
    """Time that it took."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """For each token that the turn wrote, also one that a stop string cut off; None unless
    :attr:`Sampling.logprobs` asked for them."""

    def to_message(self) -> AssistantMessage:
        """The turn as a message; a call that could not be read keeps its text as arguments."""
        calls = tuple(
            ToolCall(
                name=call.name or UNREADABLE_CALL,
                arguments=call.raw if call.arguments is None else call.arguments,
                id=call.id,
            )
            for call in self.calls
        )
        return AssistantMessage(self.text, calls, self.generation)


ModelEvent: TypeAlias = TextDelta | CallDelta | CallParsed | ModelResponse
"""What a model's stream yields. The last event is the :class:`ModelResponse`."""


@runtime_checkable
class Model(Protocol):
    """Anything that writes assistant turns."""

    @property
    def name(self) -> str:
        """What the model is called, such as ``ibm-granite/granite-4.0-1b``."""
        ...

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Write one turn.

        The last event is the :class:`ModelResponse`. Closing the iterator early, or cancelling
        the task that reads it, stops the model before the call returns.
        """
        ...

    async def aclose(self) -> None:
        """Free what the model holds. It must not be used afterwards."""
        ...


async def generate(model: Model, request: ModelRequest) -> ModelResponse:
    """Run one turn to its end, events unread."""
    response: Any = None
    async for event in model.stream(request):
        response = event
    if not isinstance(response, ModelResponse):
        raise ModelError(f"model {model.name!r} ended its stream without a ModelResponse")
    return response
