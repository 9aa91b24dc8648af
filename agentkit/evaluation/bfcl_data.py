"""Test cases of the Berkeley Function Calling Leaderboard (BFCL), read from its own files.

The data is not part of agentkit. The package ``bfcl-eval`` brings it, and so does its repository:
a folder of ``BFCL_v4_<category>.json`` with one JSON object a line, and ``possible_answer`` in it.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from agentkit.errors import UserError
from agentkit.tools import ToolDefinition

__all__ = [
    "CATEGORIES",
    "GROUPS",
    "BFCLCase",
    "Call",
    "expand_categories",
    "find_bfcl",
    "json_schema",
    "read_cases",
    "tool_definition",
    "tool_names",
]

Call: TypeAlias = tuple[str, Mapping[str, Any]]
"""A function's name and its arguments."""
Kind: TypeAlias = Literal["simple", "multiple", "parallel", "irrelevance", "relevance"]

CATEGORIES: dict[str, Kind] = {
    "simple_python": "simple",
    "multiple": "multiple",
    "parallel": "parallel",
    "parallel_multiple": "parallel",
    "irrelevance": "irrelevance",
    "live_simple": "simple",
    "live_multiple": "multiple",
    "live_parallel": "parallel",
    "live_parallel_multiple": "parallel",
    "live_irrelevance": "irrelevance",
    "live_relevance": "relevance",
}
"""Categories of one turn, and how they are judged."""

GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(CATEGORIES),
    "non_live": tuple(name for name in CATEGORIES if not name.startswith("live_")),
    "live": tuple(name for name in CATEGORIES if name.startswith("live_")),
}
"""Names for several categories."""

_OTHER_LANGUAGES = ("simple_java", "simple_javascript")
_NAME_RULE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
# BFCL writes Python's words for types. "any" is a string to it, also when it judges answers.
_TYPES = {
    "dict": "object",
    "float": "number",
    "tuple": "array",
    "list": "array",
    "bool": "boolean",
    "any": "string",
    "double": "number",
    "long": "integer",
}
_KEPT = (
    "description", "enum", "default", "minimum", "maximum", "minItems", "maxItems", "minLength",
    "maxLength", "pattern", "const",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BFCLCase:
    """One question, the functions that the model is shown, and the calls that are right."""

    id: str
    """BFCL's identifier, such as ``simple_python_0``."""
    category: str
    """One of :data:`CATEGORIES`."""
    messages: Sequence[Mapping[str, str]]
    """The conversation, ending with the user's question."""
    functions: Sequence[Mapping[str, Any]]
    """BFCL's descriptions of the functions."""
    answers: Sequence[Mapping[str, Mapping[str, Any]]]
    """For each call that must be made the function's name, and for each argument the values that
    are right; ``""`` among them means that the argument may be left out. Empty for irrelevance
    and relevance."""

    @property
    def kind(self) -> Kind:
        """How it is judged."""
        return CATEGORIES[self.category]


def find_bfcl(folder: Path | None = None) -> Path:
    """The folder with the data.

    Args:
        folder: That folder, or one above it; if not given, that of the installed ``bfcl-eval``.

    Raises:
        UserError: There is none.
    """
    if folder is None:
        spec = importlib.util.find_spec("bfcl_eval")
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                "BFCL's data is not here; name its folder, or install it with "
                "`pip install --no-deps bfcl-eval`"
            )
        folder = Path(spec.submodule_search_locations[0])
    for place in (folder, folder / "data", folder / "bfcl_eval" / "data"):
        if any(place.glob("BFCL_v*_*.json")):
            return place
    raise UserError(f"{folder} holds no BFCL_v4_<category>.json; name the folder that does")


def expand_categories(names: Iterable[str]) -> list[str]:
    """Categories, each once, with groups such as ``live`` taken apart.

    Raises:
        UserError: A name is not known.
    """
    found: list[str] = []
    for name in names:
        if name in _OTHER_LANGUAGES:
            raise UserError(
                f"the category {name!r} is not supported: its arguments are literals of another "
                "language"
            )
        if name not in CATEGORIES and name not in GROUPS:
            known = ", ".join([*GROUPS, *CATEGORIES])
            raise UserError(f"there is no category {name!r}; categories and groups: {known}")
        found += GROUPS.get(name, (name,))
    return list(dict.fromkeys(found))


def read_cases(folder: Path, category: str, *, limit: int | None = None) -> list[BFCLCase]:
    """The cases of a category, in the file's order.

    Args:
        folder: As :func:`find_bfcl` gives it.
        category: One of :data:`CATEGORIES`.
        limit: How many, evenly spread over the file, as its beginning is not like its end.

    Raises:
        UserError: A file is missing or damaged.
    """
    file = _file(folder, category)
    answers: dict[str, Any] = {}
    if CATEGORIES[category] not in ("irrelevance", "relevance"):
        answer_file = _file(folder / "possible_answer", category)
        for place, line in _lines(answer_file):
            answers[_field(line, "id", str, place)] = _field(line, "ground_truth", list, place)
    cases = []
    for place, line in _lines(file):
        identifier = _field(line, "id", str, place)
        turns = _field(line, "question", list, place)
        if len(turns) != 1 or not turns[0]:
            raise UserError(f"{place}: 'question' has {len(turns)} turns; only one is supported")
        if CATEGORIES[category] not in ("irrelevance", "relevance") and identifier not in answers:
            raise UserError(f"{place}: there is no possible answer for {identifier!r}")
        cases.append(
            BFCLCase(
                id=identifier,
                category=category,
                messages=turns[0],
                functions=_field(line, "function", list, place),
                answers=answers.get(identifier, ()),
            )
        )
    if limit is None or limit >= len(cases):
        return cases
    return [cases[index * len(cases) // limit] for index in range(limit)]


def tool_names(functions: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """For each name that the model is shown the function's own name.

    They differ only where a name is not one that tools can have.
    """
    names: dict[str, str] = {}
    for function in functions:
        own = str(function["name"])
        shown = own
        if not _NAME_RULE.fullmatch(own):
            shown = re.sub(r"[^A-Za-z0-9_.-]", "_", own)[:60]
            shown = shown if _NAME_RULE.fullmatch(shown) else f"_{shown}"[:60]
        base, number = shown, 2
        while shown in names:
            shown, number = f"{base[:58]}_{number}", number + 1
        names[shown] = own
    return names


def tool_definition(function: Mapping[str, Any], *, name: str) -> ToolDefinition:
    """A function's description as a tool's definition.

    Args:
        function: BFCL's description.
        name: That the model is shown.
    """
    parameters = json_schema(function.get("parameters") or {"type": "dict"})
    # No function takes arguments that it does not name.
    parameters["additionalProperties"] = False
    return ToolDefinition(
        name=name, description=str(function.get("description") or ""), parameters=parameters
    )


def json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """BFCL's description of a value as JSON Schema.

    Args:
        schema: With Python's words for types (``dict``, ``float``, ``tuple``, ``any``).
    """
    kind = schema.get("type")
    result: dict[str, Any] = {}
    if isinstance(kind, str):
        result["type"] = _TYPES.get(kind, kind)
    for key in _KEPT:
        if key in schema and schema[key] is not None:
            result[key] = schema[key]
    if "enum" in result and not (isinstance(result["enum"], list) and result["enum"]):
        del result["enum"]
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and properties:
        result["properties"] = {
            name: json_schema(part)
            for name, part in properties.items()
            if isinstance(part, Mapping)
        }
        required = [name for name in schema.get("required") or () if name in properties]
        if required:
            result["required"] = required
        result["additionalProperties"] = False
    elif result.get("type") == "object":
        result.setdefault("properties", {})
    if isinstance(schema.get("items"), Mapping):
        result["items"] = json_schema(schema["items"])
    return result


def _file(folder: Path, category: str) -> Path:
    found = sorted(folder.glob(f"BFCL_v*_{category}.json"))
    # The pattern's star would also find "live_multiple" for "multiple".
    found = [path for path in found if re.fullmatch(rf"BFCL_v[0-9]+_{category}\.json", path.name)]
    if not found:
        raise UserError(f"there is no BFCL_v4_{category}.json in {folder}")
    return found[-1]


def _lines(path: Path) -> Iterable[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            place = f"{path.name}, line {number}"
            try:
                line = json.loads(text)
            except ValueError as error:
                raise UserError(f"{place}: not a JSON object ({error})") from None
            if not isinstance(line, dict):
                raise UserError(f"{place}: not a JSON object")
            yield place, line


def _field(line: Mapping[str, Any], name: str, kind: type, place: str) -> Any:
    value = line.get(name)
    if not isinstance(value, kind):
        raise UserError(f"{place}: {name!r} is missing or not a {kind.__name__}")
    return value
