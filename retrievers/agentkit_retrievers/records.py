"""Tables and records as text: CSV, TSV, JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from agentkit.errors import AgentkitError, RetrievalError

__all__ = ["Record", "read_json_lines", "read_rows", "record_text"]

Record = dict[str, Any]
"""Values by column or key."""

_MAX_FIELD = 2**31 - 1


def read_rows(text: str, source: str, *, delimiter: str | None = None) -> list[Record]:
    """Rows of a table whose first row names the columns.

    Args:
        text: The table.
        source: For messages.
        delimiter: Between columns; ``None`` to find out whether it is ``,``, ``;``, a tab or
            ``|``.

    Raises:
        RetrievalError: It is no table.
    """
    if delimiter is None:
        first = text.lstrip("\n").split("\n", 1)[0]
        delimiter = max(",;\t|", key=first.count)
    csv.field_size_limit(_MAX_FIELD)
    try:
        rows = [
            row
            for row in csv.reader(io.StringIO(text), delimiter=delimiter)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise RetrievalError(f"{source}: cannot be read as a table: {error}") from error
    if not rows:
        return []
    header = [name.strip() or f"column {n}" for n, name in enumerate(rows[0], start=1)]
    records = []
    for row in rows[1:]:
        extra = [f"column {n}" for n in range(len(header) + 1, len(row) + 1)]
        records.append(dict(zip([*header, *extra], row, strict=False)))
    return records


def read_json_lines(
    text: str, source: str, *, raises: type[AgentkitError] = RetrievalError
) -> Iterator[tuple[int, Any]]:
    """Each line's number, from 1, and value; empty lines are passed over.

    Args:
        text: With ``\\n`` between lines; what else may separate lines stands in JSON's strings.
        source: How errors name it.
        raises: What is raised where a line is not JSON; the message names it.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise raises(f"{source}, line {number}: is not JSON: {error}") from error


def record_text(record: Mapping[str, Any]) -> str:
    """A record as lines of ``key: value``, without the empty ones."""
    lines = []
    for key, value in record.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if text.strip() and value is not None:
            lines.append(f"{key}: {' '.join(text.split())}")
    return "\n".join(lines)
