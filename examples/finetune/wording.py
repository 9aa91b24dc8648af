"""Words around the authored ones: how requests are joined, refused and followed up.

Also how tools are presented: the same function is known to different programs by names of other
styles, with descriptions that say more or less.
"""

from __future__ import annotations

import copy
import random
import re
from typing import Any

SYSTEMS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "Use the tools where they help. Do not guess.",
    "You are the assistant of a small company. Be friendly and short.",
    "Call a tool when one fits the request; otherwise say that you cannot do it.",
    "You help people with everyday questions. Use a tool for every figure.",
    "Be precise. If a request needs no tool, answer it yourself.",
    "You are a support agent.",
)

NO_TOOL = (
    "I have no tool for that.",
    "None of my tools can do that.",
    "I am sorry, but I do not have the ability to do that with the tools I have.",
    "I cannot help with that: no tool I have fits this request.",
    "My tools do not cover that request.",
    "I do not have the ability to fulfill this request; none of the tools I have does that.",
    "That is outside of what my tools can do.",
    "Sorry, I have no function for this.",
    "The tools I have been given cannot be used for that.",
    "I am not able to do this, as no available tool is meant for it.",
    "Unfortunately none of the available tools can answer that.",
    "I do not have a tool that can do this for you.",
)

FOLLOW_UPS = (
    "And {}?",
    "What about {}?",
    "And for {}?",
    "How about {}?",
    "Same for {}, please.",
    "Now {}.",
    "And with {} instead?",
    "Do it again for {}.",
    "Ok, and {}?",
    "Try {} too.",
)

_BEFORE = (
    "Hi! ",
    "Hello, ",
    "Please help: ",
    "Hey, ",
    "Quick question: ",
    "Good morning. ",
    "I need your help. ",
    "Could you help me? ",
    "Ok. ",
    "One more thing: ",
    "For a report I am writing: ",
    "Help me out here. ",
)
_AFTER = (
    " Thanks!",
    " Thank you.",
    " Please.",
    " It is urgent.",
    " I'd appreciate it.",
    " Thanks in advance.",
    " Just the result, please.",
    " My boss wants to know.",
    " No rush.",
)
_JOINS = (
    " Also, ",
    " And ",
    " Then ",
    " Besides, ",
    " After that, ",
    " Oh, and ",
    " In addition, ",
    "\n",
    " ",
)
_DOMAIN_WORDS = ("service", "api", "tools", "client", "manager", "utils", "helper", "app")
_DEFAULTS = re.compile(r"\s*(Default is|Defaults to)[^.]*\.", re.IGNORECASE)


def around(text: str, rng: random.Random) -> str:
    """A request with courtesies, or in other letters."""
    chance = rng.random()
    if chance < 0.4:
        return rng.choice(_BEFORE) + text
    if chance < 0.75:
        end = "" if text.endswith((".", "?", "!")) else "."
        return text + end + rng.choice(_AFTER)
    if chance < 0.85:
        return text.rstrip(".?!")
    return text[:1].lower() + text[1:]


def join_requests(texts: list[str], rng: random.Random) -> str:
    """Requests for different things in one message."""
    joined = texts[0]
    for text in texts[1:]:
        if not joined.endswith((".", "?", "!")):
            joined += "."
        join = rng.choice(_JOINS)
        starts_low = join.strip() and text[:2] != "I " and not text[:2].isupper()
        joined += join + (text[:1].lower() + text[1:] if starts_low else text)
    return joined


class Style:
    """How one program presents its tools.

    Args:
        rng: Where chance comes from.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._case = rng.choice(["as is"] * 6 + ["snake", "camel", "pascal", "dotted"])
        self._no_defaults = rng.random() < 0.1
        self._terse = rng.random() < 0.12
        self._closed = rng.random() < 0.5
        self._shuffled = rng.random() < 0.25

    def name(self, name: str) -> str:
        """A function's name in this style."""
        spread = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).replace(".", "_")
        words = [word.lower() for word in spread.split("_") if word]
        if self._case == "snake":
            return "_".join(words)
        if self._case == "camel":
            return words[0] + "".join(word.title() for word in words[1:])
        if self._case == "pascal":
            return "".join(word.title() for word in words)
        if self._case == "dotted" and "." not in name:
            return f"{self._rng.choice(_DOMAIN_WORDS)}.{name}"
        return name

    def parameters(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A function's parameters, in another order and with other descriptions."""
        parameters = copy.deepcopy(schema)
        items = list(parameters.get("properties", {}).items())
        if self._shuffled:
            self._rng.shuffle(items)
        parameters["properties"] = dict(items)
        for _, value in items:
            text = value.get("description", "")
            if self._terse and text:
                value["description"] = _first_sentence(text)
            elif self._no_defaults and text:
                value["description"] = _DEFAULTS.sub("", text) or text
        parameters.setdefault("required", [])
        if self._closed:
            parameters["additionalProperties"] = False
        return parameters

    def tool(self, function: dict[str, Any], name: str) -> dict[str, Any]:
        """An OpenAI function definition."""
        text = function["description"]
        shown = {
            "name": name,
            "description": _first_sentence(text) if self._terse else text,
            "parameters": function["parameters"],
        }
        return {"type": "function", "function": shown}


def _first_sentence(text: str) -> str:
    return text.split(". ")[0].rstrip(".") + "."
