"""Functions that cannot be tools, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentkit.errors import SchemaError, UserError
from agentkit_tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterator


class Opaque:
    pass


def stars(*items: str) -> None: ...
def double_stars(**items: str) -> None: ...
def positional(item: str, /) -> None: ...
def bare(item) -> None: ...  # type: ignore[no-untyped-def]
def method(self, item: str) -> None: ...  # type: ignore[no-untyped-def]
def opaque(item: Opaque) -> None: ...
def unresolved(item: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def malformed(item: "list[") -> None: ...  # type: ignore  # noqa: F722
def generator(item: str) -> Iterator[str]:
    yield item


async def async_generator(item: str) -> Any:
    yield item


def größe(item: str) -> None: ...


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (stars, ["'stars'", "'*items'", "list[str]"]),
        (double_stars, ["'double_stars'", "'**items'", "dict[str"]),
        (positional, ["'positional'", "'item'", "remove the '/'"]),
        (bare, ["'bare'", "'item'", "no annotation", "'item: str'"]),
        (method, ["'self'", "tool(instance.method)"]),
        (opaque, ["'opaque'", "'item'", "JSON Schema", "dataclass"]),
        (unresolved, ["'unresolved'", "'item'", "'Missing' is not defined", "TYPE_CHECKING"]),
        (malformed, ["'malformed'", "'item'", "not a type"]),
        (generator, ["'generator'", "return a list"]),
        (async_generator, ["'async_generator'", "return a list"]),
        (größe, ["'größe'", "@tool(name=...)"]),
        (lambda: None, ["lambda", "use def"]),
        (Opaque, ["'Opaque'", "not a function"]),
        (classmethod(bare), ["tool(Class.method)"]),
        (3, ["3 is not a function"]),
    ],
)
def test_functions_that_cannot_be_tools_are_refused(function: Any, parts: list[str]) -> None:
    with pytest.raises(SchemaError) as caught:
        tool(function)
    for part in parts:
        assert part in str(caught.value)


def test_a_tool_is_not_made_twice_and_a_timeout_is_positive() -> None:
    def probe() -> None: ...

    with pytest.raises(SchemaError, match="already"):
        tool(tool(probe))
    with pytest.raises(UserError, match="timeout"):
        tool(probe, timeout=0)
    with pytest.raises(SchemaError, match=r"@tool\(name=\.\.\.\)"):
        tool(probe, name="two words")
