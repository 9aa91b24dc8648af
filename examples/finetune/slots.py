"""Values for the placeholders of authored requests, with the words in which people say them.

A slot is written in the data files as one of

- `"@city"`: a pool of `pools.py`;
- `{"int": [low, high]}` or `{"int": [low, high, step]}`: a whole number;
- `{"float": [low, high, decimals]}`: a number with at most that many decimals;
- `{"list": SLOT, "count": [low, high]}`: an array of different values;
- `[choice, …]`: one of these, where a choice is a value, or `[value, "as said", …]`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune.pools import POOLS

_NUMBERS = [
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
]


@dataclass(frozen=True)
class Filled:
    """A value for a call, and how a request says it."""

    value: Any
    """The JSON value."""
    said: str
    """The words for it."""


def fill(slot: Any, rng: random.Random) -> Filled:
    """Draw a value for a slot.

    Args:
        slot: The slot, as in a data file.
        rng: Where chance comes from.

    Raises:
        ValueError: The slot is none of the known forms, or names a pool that does not exist.
    """
    if isinstance(slot, str) and slot.startswith("@"):
        if slot[1:] not in POOLS:
            raise ValueError(f"no pool {slot!r}; there are {', '.join('@' + p for p in POOLS)}")
        pool = POOLS[slot[1:]]
        return _choice(pool(rng) if callable(pool) else rng.choice(pool), rng)
    if isinstance(slot, list) and slot:
        return _choice(rng.choice(slot), rng)
    if isinstance(slot, dict):
        if "int" in slot:
            low, high, *step = slot["int"]
            number = rng.randrange(low, high + 1, *(step or [1]))
            return Filled(number, _spoken(number, rng))
        if "float" in slot:
            low, high, decimals = slot["float"]
            value = round(rng.uniform(low, high), decimals)
            return Filled(value, f"{value:g}" if abs(value) < 1e5 else f"{value:.{decimals}f}")
        if "list" in slot:
            return _several(slot, rng)
    raise ValueError(f"not a slot: {slot!r}; see the top of slots.py for the forms")


def _spoken(number: int, rng: random.Random) -> str:
    """`1200000` as `1200000`, `1,200,000` or `1.2 million`; now and then `3` as `three`."""
    if number >= 1_000_000 and number % 10_000 == 0 and rng.random() < 0.5:
        return f"{number / 1_000_000:g} million"
    if number >= 10_000 and rng.random() < 0.4:
        return f"{number:,}"
    if 2 <= number < len(_NUMBERS) and rng.random() < 0.15:
        return _NUMBERS[number]
    return str(number)


def _choice(choice: Any, rng: random.Random) -> Filled:
    if isinstance(choice, Filled):
        return choice
    if isinstance(choice, list) and len(choice) > 1 and all(isinstance(c, str) for c in choice[1:]):
        return Filled(choice[0], rng.choice(choice[1:]))
    return Filled(choice, say(choice))


def _several(slot: dict[str, Any], rng: random.Random) -> Filled:
    low, high = slot.get("count", [2, 4])
    wanted, items = rng.randint(low, high), list[Filled]()
    for _ in range(20 * wanted):
        item = fill(slot["list"], rng)
        if len(items) < wanted and item.value not in [other.value for other in items]:
            items.append(item)
    return Filled([item.value for item in items], join([item.said for item in items], rng))


def join(words: Sequence[str], rng: random.Random) -> str:
    """`a, b and c`, or `a, b, c`."""
    if len(words) < 2:
        return "".join(words)
    if rng.random() < 0.25:
        return ", ".join(words)
    comma = "," if len(words) > 2 and rng.random() < 0.5 else ""
    return f"{', '.join(words[:-1])}{comma} and {words[-1]}"


def say(value: Any) -> str:
    """A value as a person would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(say, value))
    return str(value)
