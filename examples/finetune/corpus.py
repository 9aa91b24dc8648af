"""The authored part of the training data: functions, and how people ask for them.

A file of `data/functions/` holds one domain:

    {"domain": "gardening",
     "functions": [{
        "name": "watering_plan", "description": "…", "parameters": {JSON schema},
        "slots": {"plant": ["basil", "roses"], "days": {"int": [1, 14]}, "place.city": "@city"},
        "requests": ["How often do I water {plant} over {days} days?",
                     {"text": "Indoor watering plan for {plant}", "set": {"indoor": true}}],
        "parallel": ["Plans for {plant#1} and {plant#2}, {days} days each"],
        "outcomes": [{"result": {"litres": "{$l}"}, "made": {"l": {"float": [0.5, 9, 1]}},
                      "answer": "{plant} needs {$l} litres."}],
        "unclear": [{"ask": "Make me a watering plan.", "reply": "For which plant?"}]}],
     "chains": [{"request": "…{plant}…", "slots": {…}, "made": {…}, "answer": "…",
                 "steps": [{"call": "name", "args": {…}, "result": {…}}]}],
     "chat": [{"ask": "Why do leaves turn yellow?", "reply": "Often it is too much water."}]}

A request gives those arguments whose placeholders it has, and what it sets; the others are left
out. `{plant#1}` and `{plant#2}` make one call each, which share every placeholder without a number.
"""

from __future__ import annotations

import functools
import json
import random
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jsonschema

from finetune.slots import Filled, fill

Part = Literal["all", "train", "held_out"]
DATA = Path(__file__).parent / "data"
_PLACE = re.compile(r"\{([A-Za-z_][\w.]*)(?:#(\d))?\}")
_MADE = re.compile(r"\{\$(\w+)\}")


@dataclass(frozen=True)
class Asked:
    """A request with the calls that it wants."""

    text: str
    """What the user says."""
    calls: list[dict[str, Any]]
    """The arguments of each call, in order."""
    said: list[dict[str, str]]
    """For each call, the words of each placeholder, which answers repeat."""


@functools.cache
def load_domains(part: Part = "all", folder: Path = DATA / "functions") -> list[dict[str, Any]]:
    """The domains of all files, in order of their names.

    Args:
        part: `train` leaves out one function in fifteen, chosen by name, and the chains that use
            it; `held_out` has only those, to judge by.
        folder: Where the files are.
    """
    domains = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    if part == "all":
        return domains
    for domain in domains:
        kept = [f for f in domain["functions"] if is_held_out(f["name"]) == (part == "held_out")]
        names = {f["name"] for f in kept}
        domain["functions"] = kept
        domain["chains"] = [
            chain
            for chain in domain.get("chains", [])
            if all(step["call"] in names for step in chain["steps"])
        ]
    return [domain for domain in domains if domain["functions"]]


def is_held_out(name: str) -> bool:
    """Whether a function is kept from training."""
    return zlib.crc32(name.encode()) % 15 == 0


def ask(function: dict[str, Any], template: Any, rng: random.Random) -> Asked:
    """Fill a request, single or parallel.

    Raises:
        ValueError: A placeholder has no slot, or a slot is malformed.
    """
    text, fixed = (
        (template, {}) if isinstance(template, str) else (template["text"], template["set"])
    )
    places = list(dict.fromkeys(_PLACE.findall(text)))
    slots = function.get("slots", {})
    for name, _ in places:
        if name not in slots:
            raise ValueError(f"{function['name']}: {{{name}}} in {text!r} has no slot")
    numbers = sorted({number for _, number in places if number}) or [""]
    filled: dict[tuple[str, str], Filled] = {}
    for name, number in places:
        for _ in range(20):  # the calls of one request want different things
            filled[name, number] = fill(slots[name], rng)
            taken = [f.value for (n, k), f in filled.items() if n == name and k != number]
            if filled[name, number].value not in taken:
                break
    calls, said = [], []
    for number in numbers:
        mine = {n: f for (n, k), f in filled.items() if k in ("", number)}
        calls.append(nest({**{n: f.value for n, f in mine.items()}, **fixed}))
        said.append(
            {**{n: str(v) for n, v in fixed.items()}, **{n: f.said for n, f in mine.items()}}
        )
    return Asked(_PLACE.sub(lambda m: filled[m[1], m[2] or ""].said, text), calls, said)


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *above, last = path.split(".")
        into = nested
        for key in above:
            into = into.setdefault(key, {})
        into[last] = value
    return nested


def settle(
    outcome: dict[str, Any], said: dict[str, str], rng: random.Random
) -> tuple[Any, str] | None:
    """A result and the answer to it, or None if it speaks of arguments that were not given."""
    wanted = {n for n, _ in _PLACE.findall(json.dumps(outcome["result"]) + outcome["answer"])}
    if not wanted <= said.keys():
        return None
    made = {name: fill(slot, rng) for name, slot in outcome.get("made", {}).items()}
    return put(outcome["result"], said, made), put(outcome["answer"], said, made)


def put(template: Any, said: dict[str, str], made: dict[str, Filled]) -> Any:
    """Fill a template's placeholders; a string that is one `{$made}` becomes its value."""
    if isinstance(template, dict):
        return {key: put(value, said, made) for key, value in template.items()}
    if isinstance(template, list):
        return [put(value, said, made) for value in template]
    if not isinstance(template, str):
        return template
    if alone := _MADE.fullmatch(template):
        return made[alone[1]].value
    text = _MADE.sub(lambda m: made[m[1]].said, template)
    return _PLACE.sub(lambda m: said[m[1]], text)


def mistakes(domain: dict[str, Any], tries: int = 12) -> Iterator[str]:
    """What is wrong with a domain, in words.

    Args:
        domain: As in a file.
        tries: How often each template is filled.
    """
    rng, names = random.Random(0), {f["name"]: f for f in domain["functions"]}
    for function in domain["functions"]:
        where = f"{domain['domain']}/{function['name']}"
        try:
            yield from (f"{where}: {m}" for m in _function_mistakes(function, rng, tries))
        except (KeyError, TypeError, ValueError, jsonschema.SchemaError) as error:
            yield f"{where}: {type(error).__name__}: {error}"
    for chain in domain.get("chains", []):
        try:
            for step in run_chain(chain, rng)[1]:
                yield from _invalid(
                    names[step["call"]], step["args"], f"chain {chain['request']!r}"
                )
        except (KeyError, TypeError, ValueError) as error:
            yield f"{domain['domain']}: chain {chain.get('request')!r}: {error!r}"
    for item in domain.get("chat", []):
        if not (item.get("ask") and item.get("reply")):
            yield f"{domain['domain']}: chat wants `ask` and `reply`: {item}"


def run_chain(chain: dict[str, Any], rng: random.Random) -> tuple[str, list[dict[str, Any]], str]:
    """A multi-step conversation: its request, its steps with results, its answer."""
    filled = {name: fill(slot, rng) for name, slot in chain["slots"].items()}
    made = {name: fill(slot, rng) for name, slot in chain.get("made", {}).items()}
    said = {name: f.said for name, f in filled.items()}
    values = {**made, **{f"={name}": f for name, f in filled.items()}}

    def argument(template: Any) -> Any:
        if isinstance(template, str) and (alone := _PLACE.fullmatch(template)):
            return values["=" + alone[1]].value
        if isinstance(template, dict):
            return {key: argument(value) for key, value in template.items()}
        if isinstance(template, list):
            return [argument(value) for value in template]
        return put(template, said, made)

    steps = [
        {"call": s["call"], "args": argument(s["args"]), "result": put(s["result"], said, made)}
        for s in chain["steps"]
    ]
    return put(chain["request"], said, made), steps, put(chain["answer"], said, made)


def _function_mistakes(function: dict[str, Any], rng: random.Random, tries: int) -> Iterator[str]:
    schema = function["parameters"]
    jsonschema.Draft202012Validator.check_schema(schema)
    if not re.fullmatch(r"[A-Za-z_][\w.]{0,63}", function["name"]):
        yield "the name wants letters, digits, _ and ."
    if len(function["requests"]) < 6:
        yield f"{len(function['requests'])} requests; at least 6"
    for template in [*function["requests"], *function.get("parallel", [])]:
        for _ in range(tries):
            asked = ask(function, template, rng)
            problems = [m for c in asked.calls for m in _invalid(function, c, f"{asked.text!r}")]
            yield from problems[:1]
            if problems:
                break
    for template in function.get("parallel", []):
        if len(ask(function, template, rng).calls) < 2:
            yield f"parallel {template!r} makes one call; number its placeholders: {{x#1}} {{x#2}}"
    said = ask(function, function["requests"][0], rng).said[0]
    for outcome in function.get("outcomes", []):
        settle(outcome, {**dict.fromkeys(function.get("slots", {}), "x"), **said}, rng)
    if not function.get("outcomes"):
        yield "no outcomes"


def _invalid(function: dict[str, Any], arguments: Any, where: str) -> Iterator[str]:
    known = function["parameters"].get("properties", {})
    for name in arguments:
        if name not in known:
            yield f"{where}: no parameter {name!r}"
    for error in jsonschema.Draft202012Validator(function["parameters"]).iter_errors(arguments):
        yield f"{where}: {arguments}: {error.message}"


def main(paths: Iterable[str]) -> int:
    """Check files (or all of them): `python -m finetune.corpus FILE…`."""
    wrong, functions, requests = 0, 0, 0
    files = [Path(p) for p in paths] or sorted((DATA / "functions").glob("*.json"))
    for path in files:
        try:
            domain = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            print(f"{path}: {error}")
            wrong += 1
            continue
        functions += len(domain["functions"])
        requests += sum(
            len(f["requests"]) + len(f.get("parallel", [])) for f in domain["functions"]
        )
        for mistake in mistakes(domain):
            print(f"{path.name}: {mistake}")
            wrong += 1
    print(f"{len(files)} files, {functions} functions, {requests} requests, {wrong} mistakes")
    return 1 if wrong else 0


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
