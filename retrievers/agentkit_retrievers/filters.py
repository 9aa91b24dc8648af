"""Conditions on documents, as dictionaries: ``{"year": {"$gte": 2020}, "lang": ["en", "de"]}``.

Names are those of a document's metadata; where these have no such name, it may be the
document's own ``doc_id``, ``title``, ``source``, ``start`` or ``end``. A dot leads into nested
metadata. What stands for a name is

- a value that must be equal, or a list, set or tuple of values of which one must be;
- operators, all of which must hold: ``$eq``, ``$ne``, ``$gt``, ``$gte``, ``$lt``, ``$lte``,
  ``$in``, ``$nin``, ``$exists`` (true or false), ``$contains`` (of a list or a text).

Several names must all fit. ``$and`` and ``$or`` take lists of conditions, ``$not`` takes one.
As in MongoDB, ``$ne`` and ``$nin`` also hold where there is no such name; values that cannot be
ordered, such as a text and a number, are neither greater nor less.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from agentkit.errors import UserError

if TYPE_CHECKING:
    from agentkit.retrieval import Document

__all__ = ["Filter", "Predicate", "as_predicate", "filter_key"]

Predicate: TypeAlias = Callable[["Document"], bool]
"""Whether a document fits."""

Filter: TypeAlias = Mapping[str, Any] | Predicate
"""A condition as a dictionary (see the module) or as a function."""

_FIELDS = ("doc_id", "title", "source", "start", "end")
_MISSING: Any = object()
_SEVERAL = (list, tuple, set, frozenset)


def as_predicate(condition: Filter) -> Predicate:
    """A condition as a function.

    Raises:
        UserError: It is neither a dictionary nor a function, or has an unknown operator.
    """
    if isinstance(condition, Mapping):
        return _all([_clause(name, wanted) for name, wanted in condition.items()])
    if callable(condition):
        return condition
    raise UserError(f"a filter must be a dictionary or a function, not {condition!r:.100}")


def filter_key(condition: Filter | None) -> str | None:
    """The same text for the same condition; ``None`` for one that has no such text."""
    if not isinstance(condition, Mapping):
        return None
    try:
        return json.dumps(condition, sort_keys=True, default=_sorted_set)
    except (TypeError, ValueError):
        return None


def _sorted_set(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError


def _clause(name: str, wanted: Any) -> Predicate:
    if name in ("$and", "$or"):
        if not isinstance(wanted, list | tuple):
            raise UserError(f"filter: {name} takes a list of conditions, not {wanted!r:.100}")
        parts = [as_predicate(part) for part in wanted]
        return _all(parts) if name == "$and" else _any(parts)
    if name == "$not":
        part = as_predicate(wanted)
        return lambda document: not part(document)
    if name.startswith("$"):
        raise UserError(f"filter: unknown operator {name!r}; there are $and, $or and $not here")
    tests = _tests(name, wanted)
    return lambda document: _holds(tests, _value(document, name))


def _holds(tests: Iterable[Callable[[Any], bool]], value: Any) -> bool:
    return all(test(value) for test in tests)


def _all(parts: list[Predicate]) -> Predicate:
    return parts[0] if len(parts) == 1 else lambda doc: all(part(doc) for part in parts)


def _any(parts: list[Predicate]) -> Predicate:
    return lambda document: any(part(document) for part in parts)


def _value(document: Document, name: str) -> Any:
    metadata = document.metadata
    if name in metadata:
        return metadata[name]
    if name in _FIELDS:
        value = getattr(document, name)
        return _MISSING if value in ("", None) else value
    found: Any = metadata
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _MISSING
        found = found[part]
    return found


def _tests(name: str, wanted: Any) -> list[Callable[[Any], bool]]:
    if isinstance(wanted, Mapping) and any(str(key).startswith("$") for key in wanted):
        return [_operator(name, key, operand) for key, operand in wanted.items()]
    if isinstance(wanted, _SEVERAL):
        # The list as such, too: metadata may be lists themselves.
        return [lambda value: _one_of(value, wanted) or value == wanted]
    return [lambda value: _equal(value, wanted)]


def _operator(name: str, key: str, operand: Any) -> Callable[[Any], bool]:
    if key in ("$in", "$nin"):
        if not isinstance(operand, _SEVERAL):
            raise UserError(f"filter: {name}: {key} takes a list of values, not {operand!r:.100}")
        if key == "$in":
            return lambda value: _one_of(value, operand)
        return lambda value: not _one_of(value, operand)
    try:
        make = _OPERATORS[key]
    except KeyError:
        raise UserError(
            f"filter: {name}: unknown operator {key!r}; there are $in, $nin, "
            + ", ".join(_OPERATORS)
        ) from None
    return make(operand)


def _equal(value: Any, wanted: Any) -> bool:
    return value is not _MISSING and bool(value == wanted)


def _one_of(value: Any, options: Any) -> bool:
    # Not ``in``: a list among the metadata cannot be looked up in a set.
    return any(_equal(value, option) for option in options)


def _ordered(compare: Callable[[Any, Any], Any]) -> Callable[[Any], Callable[[Any], bool]]:
    def make(operand: Any) -> Callable[[Any], bool]:
        def holds(value: Any) -> bool:
            try:
                return value is not _MISSING and bool(compare(value, operand))
            except TypeError:
                return False

        return holds

    return make


def _contains(operand: Any) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        if isinstance(value, str):
            return isinstance(operand, str) and operand in value
        return isinstance(value, _SEVERAL) and operand in value

    return holds


_OPERATORS: dict[str, Callable[[Any], Callable[[Any], bool]]] = {
    "$eq": lambda operand: lambda value: _equal(value, operand),
    "$ne": lambda operand: lambda value: not _equal(value, operand),
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
    "$exists": lambda operand: lambda value: (value is not _MISSING) == bool(operand),
    "$contains": _contains,
}
