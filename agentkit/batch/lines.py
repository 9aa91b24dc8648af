"""The lines of a batch's input: a simple form of our own, and OpenAI's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentkit.batch.records import Form
from agentkit.errors import AgentkitError, UserError
from agentkit.messages import Message, message_to_dict, messages_from_dicts
from agentkit.tools import ToolDefinition

__all__ = ["Item", "LineError", "Source", "fingerprint", "read_line"]

_ENDPOINT = "/v1/chat/completions"
_OWN = {"id", "custom_id", "prompt", "messages", "tool_choice", "metadata"}
_SAMPLING = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
}
# Keys of OpenAI's that change nothing here, or nothing at these values.
_IGNORED = {"model", "user", "metadata", "store", "service_tier", "stream_options"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "stream": (None, False),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logprobs": (None, False),
    "logit_bias": (None, {}),
    "response_format": (None, {"type": "text"}),
}


class LineError(AgentkitError):
    """A line cannot be carried out; it becomes an error record."""

    def __init__(self, message: str, *, code: str = "invalid_request", line_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        """What is wrong, in one word."""
        self.line_id = line_id
        """The line's own id, if it could be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line, read."""

    line_id: str
    """The line's ``id`` or ``custom_id``; ``line-N`` where it has none."""
    form: Form
    """Which form it has, and its result will."""
    messages: Sequence[Message]
    """The conversation."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`agentkit.Sampling` that differ from the agent's."""
    tool_choice: str | None = None
    """In place of the agent's."""
    tools: Sequence[ToolDefinition] = ()
    """Tools that the model may call, without anybody running them."""
    parallel_tool_calls: bool = True
    """Whether one turn may hold several calls."""
    metadata: Any = None
    """Passed on to the result."""


class Source:
    """The lines of an input, which may be gone through more than once.

    Args:
        given: A file of JSON lines; or prompts, conversations or objects of either form.

    Raises:
        UserError: The file cannot be read.
    """

    def __init__(self, given: str | Path | Iterable[Any]) -> None:
        self._lines: list[bytes] | None = None
        if isinstance(given, str | Path):
            self._path = Path(given)
            try:
                with self._path.open("rb"):
                    pass
            except OSError as error:
                raise UserError(
                    f"the batch {self._path} cannot be read: {error.strerror or error}"
                ) from error
        else:
            self._lines = [_as_line(item, i) for i, item in enumerate(given)]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Each line that is not blank, with its number from 1."""
        if self._lines is not None:
            yield from enumerate(self._lines, 1)
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
                if text:
                    yield number, text


def fingerprint(line: bytes) -> str:
    """What tells whether a line is the one that a result is of."""
    return hashlib.sha256(line).hexdigest()[:16]


def read_line(line: bytes, number: int) -> Item:
    """Read a line.

    Args:
        line: Its text.
        number: Counted from 1.

    Raises:
        LineError: It has neither form, or asks for what cannot be done.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineError(f"line {number} is not JSON: {error}", code="invalid_json") from None
    if isinstance(data, str):
        data = {"prompt": data}
    if not isinstance(data, Mapping):
        raise LineError(
            f"line {number} is of type {type(data).__name__}; it must be a prompt, or an object "
            "with a prompt, messages, or OpenAI's custom_id and body"
        )
    openai = "body" in data
    given = data.get("custom_id") if openai else data.get("id", data.get("custom_id"))
    line_id = f"line-{number}" if given is None else str(given)
    try:
        if openai and given is None:
            raise LineError("custom_id is missing; OpenAI's form needs it")
        return _read_openai(data, line_id) if openai else _read_own(data, line_id)
    except LineError as error:
        error.line_id = line_id
        raise
    except UserError as error:
        raise LineError(str(error), line_id=line_id) from None


def _read_own(data: Mapping[str, Any], line_id: str) -> Item:
    if unknown := sorted(set(data) - _OWN - set(_SAMPLING)):
        known = ", ".join(sorted(_OWN | set(_SAMPLING)))
        raise LineError(f"there is no key {unknown[0]!r}; keys are {known}")
    if ("prompt" in data) == ("messages" in data):
        raise LineError("give either a prompt or messages")
    prompt = data.get("prompt")
    if "prompt" in data and (not isinstance(prompt, str) or not prompt.strip()):
        raise LineError(f"the prompt is {prompt!r:.60}; it must be text")
    messages = data.get("messages", [{"role": "user", "content": prompt}])
    return Item(
        line_id=line_id,
        form="own",
        messages=_messages(messages),
        sampling=_sampling(data),
        tool_choice=_choice(data.get("tool_choice")),
        metadata=data.get("metadata"),
    )


def _read_openai(data: Mapping[str, Any], line_id: str) -> Item:
    url, method, body = data.get("url", _ENDPOINT), data.get("method", "POST"), data["body"]
    if url != _ENDPOINT or method != "POST":
        raise LineError(f"only POST {_ENDPOINT} is served, not {method!s:.20} {url!s:.60}")
    if not isinstance(body, Mapping):
        raise LineError(f"the body is of type {type(body).__name__}; it must be an object")
    for key, value in body.items():
        if key in _NEUTRAL and value not in _NEUTRAL[key]:
            raise LineError(f"body.{key} = {json.dumps(value):.60} is not supported in batches")
    known = {"messages", "tools", "tool_choice", "parallel_tool_calls", *_SAMPLING}
    if unknown := sorted(set(body) - known - _IGNORED - set(_NEUTRAL)):
        raise LineError(f"body.{unknown[0]} is not supported in batches")
    tools = body.get("tools") or ()
    if not isinstance(tools, Sequence) or not all(isinstance(tool, Mapping) for tool in tools):
        raise LineError("body.tools must be a list of function definitions")
    parallel = body.get("parallel_tool_calls")
    return Item(
        line_id=line_id,
        form="openai",
        messages=_messages(body.get("messages")),
        sampling=_sampling(body),
        tool_choice=_choice(body.get("tool_choice")),
        tools=[ToolDefinition.from_openai(tool) for tool in tools],
        parallel_tool_calls=True if parallel is None else bool(parallel),
    )


def _messages(given: Any) -> list[Message]:
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise LineError("messages must be a list with at least one message")
    return messages_from_dicts(given)


def _sampling(data: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, name in _SAMPLING.items():
        value = data.get(key)
        if value is None:
            continue
        if name == "stop":
            texts = [value] if isinstance(value, str) else value
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise LineError(f"stop is {value!r:.60}; it must be text or a list of texts")
            found[name] = tuple(texts)
            continue
        whole = name in ("max_tokens", "seed")
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            kind = "a whole number" if whole else "a number"
            raise LineError(f"{key} is {value!r:.60}; it must be {kind}")
        found[name] = value
    return found


def _choice(given: Any) -> str | None:
    if given is None or isinstance(given, str):
        return given
    function = given.get("function") if isinstance(given, Mapping) else None
    if isinstance(function, Mapping) and isinstance(function.get("name"), str):
        name: str = function["name"]
        return name
    raise LineError(f"tool_choice is {given!r:.100}; it must be a word or name a function")


def _as_line(item: Any, index: int) -> bytes:
    if isinstance(item, Sequence) and not isinstance(item, str):
        item = {"messages": [m if isinstance(m, Mapping) else message_to_dict(m) for m in item]}
    try:
        return json.dumps(item, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError) as error:
        raise UserError(f"item {index} of the batch cannot be written as JSON: {error}") from error
