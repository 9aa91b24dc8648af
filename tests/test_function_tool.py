"""Tools made of functions: their definitions, what is refused, and their calls."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import enum
import functools
import inspect
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field, field_validator
from typing_extensions import TypedDict

from agentkit.errors import ToolError
from agentkit.tools import Tool, ToolContext
from agentkit.validation import ArgumentValidator, check_schema
from agentkit_tools import FunctionTool, tool

if TYPE_CHECKING:
    from collections.abc import Callable

CONTEXT = ToolContext(tool_name="probe", deps={"user": "ann"})


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


@dataclass
class Point:
    x: int
    y: int = 0


class Address(BaseModel):
    street: str
    zip: str | None = None


class Node(BaseModel):
    value: int
    children: list[Node] = []


class Window(TypedDict, total=False):
    start: int


class Even(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def is_even(cls, number: int) -> int:
        if number % 2:
            raise ValueError("give an even number")
        return number


def call(target: FunctionTool[..., Any], **arguments: Any) -> Any:
    return asyncio.run(target.call(arguments, CONTEXT))


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    return dict(tool(function).definition.parameters)


def test_the_definition_comes_from_name_docstring_and_annotations() -> None:
    @tool
    def get_weather(city: str, days: Annotated[int, Field(ge=1, le=7)] = 3) -> str:
        """Forecast the weather
        of a city.

        Use it for the
        next days only:
        - not for today
        - not for next month

        Args:
            city: Name of
                the city.
            days: How many days.

        Returns:
            A forecast.
        """
        return f"{city} {days}"

    assert isinstance(get_weather, Tool)
    assert get_weather.definition.to_openai() == {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Forecast the weather of a city.\nUse it for the next days only:\n"
            "- not for today\n- not for next month",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Name of the city."},
                    "days": {
                        "type": "integer",
                        "description": "How many days.",
                        "default": 3,
                        "minimum": 1,
                        "maximum": 7,
                    },
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
    assert get_weather("Oslo", days=2) == "Oslo 2"
    assert inspect.unwrap(get_weather).__name__ == "get_weather"
    assert get_weather.__doc__ is not None


def test_numpy_and_sphinx_docstrings() -> None:
    def numpy_style(city: str) -> None:
        """Look up.

        Parameters
        ----------
        city : str
            Name of the city.
        """

    def sphinx_style(city: str) -> None:
        """Look up.

        :param city: Name of the city.
        """

    for function in (numpy_style, sphinx_style):
        made = tool(function)
        assert made.definition.description == "Look up."
        city = made.definition.parameters["properties"]["city"]
        assert city["description"] == "Name of the city."


def test_options_override_what_the_function_says() -> None:
    @tool(name="lookup", description="Find it.", timeout=2.5)
    def find(key: Annotated[str, "The key"], other: Annotated[str, Field(description="O")]) -> str:
        """Not this.

        Args:
            key: Nor this.
            other: Nor this.
        """
        return key + other

    assert (find.definition.name, find.definition.description) == ("lookup", "Find it.")
    assert find.timeout == 2.5
    properties = find.definition.parameters["properties"]
    assert [part["description"] for part in properties.values()] == ["The key", "O"]


def test_a_function_without_docstring_has_an_empty_description() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    assert tool(add).definition.description == ""


def test_types_become_simple_schemas() -> None:
    def probe(
        unit: Unit,
        point: Point,
        address: Address,
        window: Window,
        when: dt.date,
        ident: uuid.UUID,
        level: Literal["low", "high"],
        scores: dict[str, float],
        required: Optional[int],  # noqa: UP045
        optional: Optional[int] = None,  # noqa: UP045
        either: int | str | None = None,
        nested: Annotated[Address | None, Field(description="Where")] = None,
    ) -> None: ...

    schema = parameters(probe)
    check_schema(schema, tool_name="probe")
    address = {
        "type": "object",
        "properties": {"street": {"type": "string"}, "zip": {"type": "string"}},
        "required": ["street"],
    }
    assert schema["properties"] == {
        "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
        "point": {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 0}},
            "required": ["x"],
            "additionalProperties": False,
        },
        "address": address,
        "window": {
            "type": "object",
            "properties": {"start": {"type": "integer"}},
            "additionalProperties": False,
        },
        "when": {"type": "string", "format": "date"},
        "ident": {"type": "string", "format": "uuid"},
        "level": {"type": "string", "enum": ["low", "high"]},
        "scores": {"type": "object", "additionalProperties": {"type": "number"}},
        "required": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "optional": {"type": "integer"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "nested": {**address, "description": "Where"},
    }
    assert schema["required"] == list(schema["properties"])[:9]
    assert schema["additionalProperties"] is False
    assert "$defs" not in schema


def test_recursive_models_keep_their_definition() -> None:
    def probe(node: Node, title: str) -> int:
        return node.children[0].value

    schema = parameters(probe)
    check_schema(schema, tool_name="probe")
    assert schema["properties"]["node"] == {"$ref": "#/$defs/Node"}
    assert schema["$defs"]["Node"]["properties"]["value"] == {"type": "integer"}
    assert "title" in schema["properties"]  # a property, not pydantic's noise
    assert call(tool(probe), node={"value": 1, "children": [{"value": 2}]}, title="t") == 2


def test_strict_closes_nested_objects() -> None:
    def probe(address: Address) -> None: ...

    def is_closed(strict: bool) -> bool:
        definition = tool(probe, strict=strict).definition
        return "additionalProperties" in definition.parameters["properties"]["address"]

    assert is_closed(True)
    assert not is_closed(False)


def test_arguments_arrive_as_real_objects() -> None:
    @tool
    def probe(
        unit: Unit, point: Point, address: Address, when: dt.datetime, ident: uuid.UUID
    ) -> tuple[Any, ...]:
        return unit, point, address, when, ident

    result = call(
        probe,
        unit="kelvin",
        point={"x": 1},
        address={"street": "Main"},
        when="2025-01-31T09:30:00Z",
        ident="12345678-1234-5678-1234-567812345678",
    )
    assert result == (
        Unit.KELVIN,
        Point(1, 0),
        Address(street="Main"),
        dt.datetime(2025, 1, 31, 9, 30, tzinfo=dt.UTC),
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
    )


def test_names_that_pydantic_keeps_for_itself_work() -> None:
    @tool
    def probe(json: str, model_config: int, _private: int = 1, copy: bool = False) -> str:
        return f"{json} {model_config} {_private} {copy}"

    assert list(probe.definition.parameters["properties"]) == [
        "json",
        "model_config",
        "_private",
        "copy",
    ]
    assert call(probe, json="a", model_config=2, _private=3, copy=True) == "a 2 3 True"


def test_defaults_are_the_function_s_own() -> None:
    marker: list[str] = []

    @tool
    def probe(tags: list[str] = marker, count: int = Field(default=4, ge=0)) -> tuple[Any, int]:
        return tags, count

    tags, count = call(probe)
    assert tags is marker
    assert count == 4
    assert call(probe, count=5)[1] == 5


def test_the_context_is_injected_and_not_shown() -> None:
    @tool
    async def probe(a: int, context: ToolContext, other: ToolContext | None = None) -> str:
        assert other is context
        return f"{context.deps['user']} {a}"

    assert list(probe.definition.parameters["properties"]) == ["a"]
    assert call(probe, a=1) == "ann 1"


def test_annotations_may_name_local_classes() -> None:
    class Size(enum.Enum):
        SMALL = "small"

    @tool(name="resize")
    def probe(size: Size, other: list[Size] | None = None) -> Any:
        return size, other

    assert call(probe, size="small", other=["small"]) == (Size.SMALL, [Size.SMALL])


def test_the_context_may_be_imported_for_type_checking_only() -> None:
    names: dict[str, Any] = {}
    exec("def probe(c: 'ToolContext | None', n: int): return (c.deps, n)", names)
    made = tool(names["probe"])
    assert list(made.definition.parameters["properties"]) == ["n"]
    assert call(made, n=1) == ({"user": "ann"}, 1)


def test_sync_functions_run_in_a_thread_with_the_context_variables() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    @tool
    def probe() -> tuple[str, bool]:
        return variable.get(), threading.current_thread() is threading.main_thread()

    async def run() -> Any:
        variable.set("set")
        return await probe.call({}, CONTEXT)

    assert asyncio.run(run()) == ("set", False)


def test_methods_partials_statics_and_callable_objects() -> None:
    class Counter:
        def __init__(self) -> None:
            self.total = 0

        def add(self, amount: int) -> int:
            """Add to the total.

            Args:
                amount: How much.
            """
            self.total += amount
            return self.total

        @staticmethod
        def double(number: int) -> int:
            return 2 * number

        @classmethod
        async def name(cls, suffix: str) -> str:
            return cls.__name__ + suffix

        async def __call__(self, amount: int) -> int:
            return self.total - amount

    counter = Counter()
    add = tool(counter.add)
    assert add.definition.name == "add"
    assert add.definition.parameters["properties"]["amount"]["description"] == "How much."
    assert call(add, amount=3) == 3
    assert call(tool(Counter.double), number=4) == 8
    assert call(tool(Counter.__dict__["double"]), number=4) == 8
    assert call(tool(Counter.name), suffix="!") == "Counter!"
    assert call(tool(counter, name="subtract"), amount=1) == 2
    fixed = tool(functools.partial(counter.add, amount=5))
    assert fixed.definition.parameters["properties"] == {}
    assert call(fixed) == 8


def test_a_function_s_own_exceptions_pass_through() -> None:
    @tool
    def fails(kind: str) -> None:
        raise {"key": KeyError("k"), "stop": StopIteration(), "tool": ToolError("try b")}[kind]

    with pytest.raises(KeyError):
        call(fails, kind="key")
    with pytest.raises(ToolError, match=r"^try b$"):
        call(fails, kind="tool")
    with pytest.raises(RuntimeError, match="StopIteration"):
        call(fails, kind="stop")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"when": "soon"}, '$.when: got "soon"; input should be a valid date'),
        ({"point": {"x": "q"}}, '$.point.x: got "q"; input should be a valid integer'),
        ({"even": {"number": 3}}, "$.even.number: got 3; give an even number"),
        ({"either": []}, "$.either: got []; input should be a valid integer"),
        ({"point": {}}, "$.point.x: missing; it is required"),
        ({"citty": 1}, "$.citty: unknown argument"),
    ],
)
def test_values_that_do_not_fit_their_types(arguments: dict[str, Any], message: str) -> None:
    @tool
    def probe(
        when: dt.date = dt.date.min,
        point: Point = Point(0),  # noqa: B008
        even: Even = Even(number=0),  # noqa: B008
        either: int | str = 0,
    ) -> None: ...

    with pytest.raises(ToolError) as caught:
        call(probe, **arguments)
    assert str(caught.value).startswith(message)


def test_definitions_work_with_the_validator() -> None:
    @tool
    def probe(when: dt.date, unit: Unit = Unit.CELSIUS, count: int | None = None) -> Any:
        return when, unit, count

    checked = ArgumentValidator(probe.definition).validate(
        {"when": "2025-01-31", "unit": "Kelvin", "count": None}
    )
    assert call(probe, **checked.arguments) == (dt.date(2025, 1, 31), Unit.KELVIN, None)


def test_importing_the_package_is_light() -> None:
    code = (
        "import agentkit_tools, sys; "
        "sys.exit(any(name in sys.modules for name in ('pydantic', 'httpx', 'jsonschema')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
