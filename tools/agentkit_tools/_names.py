"""Names that come from elsewhere, made into names of tools."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from agentkit.errors import UserError

__all__ = ["check_known", "matches", "tool_name"]

MAX_NAME_CHARS = 64
"""Longest name of a tool; OpenAI's rule, as in :class:`agentkit.ToolDefinition`."""

_VALID = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_.-]+")


def tool_name(text: str, taken: Collection[str] = ()) -> str:
    """A valid name that resembles ``text`` and is not taken.

    Args:
        text: What the thing is called where it comes from.
        taken: Names that other tools have.

    Returns:
        At most 64 letters, digits, ``_``, ``-`` and ``.``, beginning with a letter or ``_``.
    """
    name = text
    if not _VALID.fullmatch(text):
        name = _NOT_ALLOWED.sub("_", text).strip("_.-") or "tool"
        name = name if name[0].isalpha() else f"_{name}"
        name = name[:MAX_NAME_CHARS].rstrip("_.-")
    unique, count = name, 1
    while unique in taken:
        count += 1
        suffix = f"_{count}"
        unique = name[: MAX_NAME_CHARS - len(suffix)] + suffix
    return unique


def matches(names: Iterable[str], patterns: Sequence[str]) -> bool:
    """Whether one of the names equals or fits (``*``, ``?``, ``[...]``) one of the patterns."""
    # Equality first: a path such as "GET /items/[id]" would not match itself as a pattern.
    return any(
        name == pattern or fnmatchcase(name, pattern) for name in names for pattern in patterns
    )


def check_known(
    patterns: Sequence[str], known: Sequence[str], *, where: str, kind: str = "tool"
) -> None:
    """Refuse a pattern that nothing fits, most often a misspelt name.

    Args:
        patterns: That the program gave.
        known: All names that there are.
        where: How the error names the option.
        kind: What the names are names of.

    Raises:
        UserError: The message names what is similar, or what there is.
    """
    for pattern in patterns:
        if matches(known, [pattern]):
            continue
        folded = {name.casefold(): name for name in known}
        near = [
            folded[text]
            for text in difflib.get_close_matches(pattern.casefold(), list(folded), n=3, cutoff=0.5)
        ]
        if near:
            hint = f"did you mean {' or '.join(map(repr, near))}?"
        else:
            shown = ", ".join(known[:20]) or "none"
            more = f" and {len(known) - 20} more" if len(known) > 20 else ""
            hint = f"the {kind}s are: {shown}{more}"
        raise UserError(f"{where}: no {kind} fits {pattern!r}; {hint}")
