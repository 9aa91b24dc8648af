"""Functions made by chance of words and parameters, so that no two training steps show the same.

A few hundred authored functions are soon known by heart: a model then writes the arguments that it
remembers instead of those that it reads. A composed function is an act on an object ("look up the
river level") with parameters that many programs have, each with the phrases in which people say
them; it has the form of an authored one. `data/composed.json` holds the words.
"""

from __future__ import annotations

import functools
import json
import random
import re
from typing import Any

from finetune.corpus import DATA

Function = dict[str, Any]


@functools.cache
def load_words() -> dict[str, Any]:
    """Kinds of acts with their objects, and parameters with their phrases."""
    words: dict[str, Any] = json.loads((DATA / "composed.json").read_text("utf-8"))
    return words


def compose_domain(rng: random.Random, size: int = 4) -> dict[str, Any]:
    """Functions about different objects; some share a verb or parameters, which makes one read.

    Args:
        rng: Where chance comes from.
        size: How many.
    """
    kinds = load_words()["kinds"]
    kind, parameters = rng.choice(list(kinds)), _parameters(rng)
    functions, taken = list[Function](), set[str]()
    while len(functions) < size:
        if functions and rng.random() < 0.6:
            kind = rng.choice(list(kinds))
        if functions and rng.random() < 0.6:
            parameters = _parameters(rng)
        thing = rng.choice(kinds[kind]["objects"])
        if thing not in taken:
            taken.add(thing)
            functions.append(_function(kinds[kind], thing, parameters, rng))
    return {"domain": "composed", "functions": functions}


def composed_names() -> set[str]:
    """Every name that a composed function can have, in snake case."""
    return {
        name
        for kind in load_words()["kinds"].values()
        for verb in kind["verbs"]
        for thing in kind["objects"]
        for name in (f"{verb}_{_snake(thing)}", f"{_snake(thing)}_{verb}")
    }


def _function(
    kind: dict[str, Any], thing: str, parameters: list[dict[str, Any]], rng: random.Random
) -> Function:
    properties = {p["name"]: p["schema"] for p in parameters}
    required = [p["name"] for p in parameters if p["required"]]
    function: Function = {
        "name": _name(rng.choice(kind["verbs"]), thing, rng),
        "description": rng.choice(kind["about"]).format(o=thing),
        "parameters": {"type": "object", "properties": properties, "required": required},
        "slots": {p["name"]: p["slot"] for p in parameters if p["slot"] is not None},
        "requests": [_request(kind, thing, parameters, rng) for _ in range(6)],
        "parallel": [],
        "outcomes": _outcomes(thing, parameters, rng),
    }
    numbered = [p for p in parameters if p["required"] and p["slot"] is not None]
    if numbered:
        function["parallel"] = [_parallel(kind, thing, numbered, rng) for _ in range(2)]
    return function


def _parameters(rng: random.Random) -> list[dict[str, Any]]:
    """One to six parameters with different names, at least one of them required."""
    words, chosen, names = load_words(), list[dict[str, Any]](), set[str]()
    for _ in range(rng.choice([1, 2, 2, 3, 3, 3, 4, 4, 5, 6])):
        flag = rng.random() < 0.18
        kind = rng.choice(words["flags" if flag else "parameters"])
        name = rng.choice(kind["names"])
        if name in names or any(kind is p["kind"] for p in chosen):
            continue
        names.add(name)
        if rng.random() < 0.15:
            name = re.sub(r"_(\w)", lambda m: m[1].upper(), name)
        chosen.append(_flag(kind, name, rng) if flag else _parameter(kind, name, rng))
    if not any(p["required"] for p in chosen):
        if (first := chosen[0])["slot"] is None:
            return _parameters(rng)
        first["required"] = True
    chosen.sort(key=lambda p: not p["required"])
    return chosen


def _parameter(kind: dict[str, Any], name: str, rng: random.Random) -> dict[str, Any]:
    schema = {**kind["schema"], "description": rng.choice(kind["about"])}
    if kind.get("enum"):
        schema["enum"] = [c[0] if isinstance(c, list) else c for c in kind["slot"]]
    optional = rng.random() < (0.8 if kind.get("optional") else 0.15)
    if optional:
        default = kind.get("default") or (schema["enum"][0] if "enum" in schema else None)
        schema["description"] = re.sub(r" Default is .*", "", schema["description"])
        if default is not None and rng.random() < 0.6:
            schema["description"] += f" Default is {default}."
        elif rng.random() < 0.5:
            schema["description"] = f"(Optional) {schema['description']}"
    return {
        "kind": kind, "name": name, "schema": schema, "required": not optional,
        "slot": kind["slot"],
    }  # fmt: skip


def _flag(kind: dict[str, Any], name: str, rng: random.Random) -> dict[str, Any]:
    schema = {"type": "boolean", "description": kind["about"]}
    return {"kind": kind, "name": name, "schema": schema, "required": False, "slot": None}


def _request(
    kind: dict[str, Any], thing: str, parameters: list[dict[str, Any]], rng: random.Random
) -> dict[str, Any]:
    said, fixed = list[str](), dict[str, Any]()
    for parameter in parameters:
        # Where optional arguments are mostly left out, a model leaves out those that are asked for.
        if not parameter["required"] and rng.random() < 0.15:
            continue
        if parameter["slot"] is None:
            value = rng.random() < 0.7
            said.append(rng.choice(parameter["kind"]["yes" if value else "no"]))
            fixed[parameter["name"]] = value
        else:
            said.append(_phrase(parameter, rng))
    if rng.random() < 0.5:
        rng.shuffle(said)
    text = _sentence(rng.choice(kind["ask"]), thing, said, rng)
    return {"text": text, "set": fixed}


def _parallel(
    kind: dict[str, Any], thing: str, parameters: list[dict[str, Any]], rng: random.Random
) -> str:
    varied = rng.sample(parameters, 1 if rng.random() < 0.6 else min(2, len(parameters)))
    shared = [_phrase(p, rng) for p in parameters if all(p is not v for v in varied)]
    count = rng.choice([2, 2, 3, 3, 4, 5])
    phrases = [_phrase(p, rng) for p in varied]
    if len(varied) == 1 and rng.random() < 0.5:
        place = "{" + varied[0]["name"] + "}"
        several = [place.replace("}", f"#{i}}}") for i in range(1, count + 1)]
        parts = phrases[0].replace(place, _series(several))
    else:
        parts = _series(
            [re.sub(r"\{(\w+)\}", rf"{{\1#{i}}}", " ".join(phrases)) for i in range(1, count + 1)]
        )
    said = [parts, *shared] if rng.random() < 0.5 else [*shared, parts]
    return _sentence(rng.choice(kind["ask"]), thing, said, rng)


def _series(parts: list[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _phrase(parameter: dict[str, Any], rng: random.Random) -> str:
    place, words, chance = "{" + parameter["name"] + "}", _words(parameter["name"]), rng.random()
    if chance < 0.08:
        return f"with {words} {place}"
    if chance < 0.14:
        return f"({words}: {place})"
    if chance < 0.18:
        return f", {words} {place},"
    return _plain_phrase(parameter, rng)


def _plain_phrase(parameter: dict[str, Any], rng: random.Random) -> str:
    place, words = "{" + parameter["name"] + "}", _words(parameter["name"])
    return str(rng.choice(parameter["kind"]["say"])).replace("{n}", words).replace("{}", place)


def _words(name: str) -> str:
    """A parameter's name as one says it."""
    return re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").lower()


def _sentence(opening: str, thing: str, said: list[str], rng: random.Random) -> str:
    if "{P}" in opening:
        first = " ".join(said)
        text = opening.replace("{P}", first[:1].upper() + first[1:])
    else:
        text = opening.replace("{p}", " " + " ".join(said))
    text = text.replace("{o}", thing).replace(" ,", ",")
    text = re.sub(r",+([.?!,]|$)", r"\1", text)
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def _outcomes(
    thing: str, parameters: list[dict[str, Any]], rng: random.Random
) -> list[dict[str, Any]]:
    """A result as an object, and one as plain words; the answer says which arguments it is for."""
    known = [p for p in parameters if p["required"] and p["slot"] is not None]
    about = " " + _plain_phrase(rng.choice(known), rng) if known and rng.random() < 0.7 else ""
    result, made = {_snake(thing): "{$value}"}, {"value": {"int": [2, 900]}}
    answer = rng.choice(
        [
            f"The {thing}{about}: {{$value}}.",
            f"The result for the {thing}{about} is {{$value}}.",
            f"For the {thing}{about} the tool gives {{$value}}.",
        ]
    )
    words = rng.sample(load_words()["findings"], 12)
    said = rng.choice(
        [
            f"The {thing}{about}: {{$words}}.",
            f"{{$words}}: that is the {thing}{about}.",
            f"It is {{$words}}{about}.",
            f"The answer{about} is {{$words}}.",
        ]
    )
    return [
        {"result": result, "made": made, "answer": answer},
        {"result": "{$words}", "made": {"words": words}, "answer": said},
        {"result": {"result": "{$words}"}, "made": {"words": words}, "answer": said},
    ]


def _name(verb: str, thing: str, rng: random.Random) -> str:
    words, chance = _snake(thing), rng.random()
    if chance < 0.65:
        return f"{verb}_{words}"
    if chance < 0.8:
        first, *rest = words.split("_")
        return verb + first.title() + "".join(word.title() for word in rest)
    if chance < 0.9:
        return f"{words}.{verb}"
    return f"{words}_{verb}"


def _snake(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
