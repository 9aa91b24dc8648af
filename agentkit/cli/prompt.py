"""``agentkit prompt``: the exact text that a model reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from agentkit.cli.failures import with_exit_codes
from agentkit.errors import MessageError

__all__ = ["prompt"]


class FormatName(StrEnum):
    """The formats that prompts can be printed in."""

    granite = "granite"
    chatml = "chatml"


@with_exit_codes
def prompt(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON file with a conversation; `-` for stdin.")
    ],
    chat_format: Annotated[
        FormatName, typer.Option("--format", "-f", help="The delimiters around turns.")
    ] = FormatName.granite,
    case: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which conversation, where FILE holds a list of them."),
    ] = None,
) -> None:
    """Print the prompt that a conversation becomes, byte for byte.

    FILE holds an object with `messages` and, if wanted, `tools`, `documents` (lists of objects)
    and `add_generation_prompt` (true unless given); other keys are ignored. The output is UTF-8
    with no newline added.

    Examples:

    - `agentkit prompt conversation.json`

    - `echo '{"messages": [{"role": "user", "content": "hi"}]}' | agentkit prompt -`

    - `agentkit prompt cases.json --case parallel-calls --format chatml`
    """
    data = render(_choose(_parse(_read(file), file), case, file), chat_format)
    sys.stdout.flush()
    # The bytes themselves: text streams may change the encoding and the newlines.
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def render(conversation: Mapping[str, Any], chat_format: FormatName) -> bytes:
    """The prompt of a conversation, in UTF-8.

    Raises:
        MessageError: The conversation has the wrong form.
    """
    from agentkit.chat_format import CHATML, GRANITE

    if conversation.get("messages") is None:
        raise MessageError(
            'the conversation has no "messages": give a list of objects such as '
            '{"role": "user", "content": "hi"}'
        )
    generate = conversation.get("add_generation_prompt", True)
    if not isinstance(generate, bool):
        raise MessageError(
            f'"add_generation_prompt" must be true or false, not {_kind(generate)}: {generate!r}'
        )
    rendered = (GRANITE if chat_format is FormatName.granite else CHATML).render(
        _objects(conversation, "messages"),
        tools=_objects(conversation, "tools"),
        documents=_objects(conversation, "documents"),
        add_generation_prompt=generate,
    )
    try:
        return rendered.text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise MessageError(
            f"the conversation holds half of a surrogate pair ({error.object[error.start]!a}), "
            "which is no character and has no UTF-8 form"
        ) from None


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise MessageError(f"{file} cannot be read: {error.strerror or error}") from error


def _parse(data: bytes, file: str) -> Any:
    name = "standard input" if file == "-" else file
    try:
        return json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise MessageError(
            f"{name} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MessageError(f"{name} is not UTF-8: line {line}: {error.reason}") from None
    except RecursionError:
        raise MessageError(f"{name} is nested too deeply to be a conversation") from None


def _choose(data: Any, case: str | None, file: str) -> Mapping[str, Any]:
    if isinstance(data, Mapping):
        if case is not None:
            raise MessageError(f"--case is for files that hold a list; {file} holds one object")
        return data
    if not isinstance(data, list):
        raise MessageError(
            f'{file} must hold an object with "messages", but it holds {_kind(data)}'
        )
    cases = {str(c["name"]): c for c in data if isinstance(c, Mapping) and "name" in c}
    names = ", ".join(cases) or "none of its items has a name"
    if case is None:
        raise MessageError(
            f"{file} holds a list of {len(data)} items; choose one with --case NAME ({names})"
        )
    if case not in cases:
        raise MessageError(f"{file} has no case named {case!r} ({names})")
    return cases[case]


def _objects(conversation: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    items = conversation.get(key)
    if items is None:
        return []
    if not isinstance(items, list):
        raise MessageError(f'"{key}" must be a list of objects, not {_kind(items)}')
    for i, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise MessageError(f"{key}[{i}] must be an object, not {_kind(item)}")
    return items


def _kind(value: Any) -> str:
    """What JSON calls a value's type."""
    names = {str: "text", bool: "true or false", dict: "an object", list: "a list"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")
