"""Conversations to learn from, made of the authored data.

What belongs to one set of tools is kept together as a group: the tools are read once, and every
conversation about them continues from there, in training as in an agent.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune import wording
from finetune.composed import compose_domain
from finetune.corpus import Asked, Part, ask, load_domains, run_chain, settle
from finetune.documents import document_groups, load_passages

Message = dict[str, Any]


@dataclass
class Group:
    """Conversations that begin with the same system text, tools and documents."""

    tools: list[dict[str, Any]]
    """OpenAI function definitions."""
    branches: list[list[Message]] = field(default_factory=list)
    """The conversations, as OpenAI messages, without the system message."""
    system: str | None = None
    """Instructions."""
    documents: list[dict[str, str]] = field(default_factory=list)
    """For the documents section."""


@dataclass(frozen=True)
class Mix:
    """How much of what a group holds; the numbers are probabilities, or counts of conversations."""

    composed: float = 0.3
    """Groups about functions that are made by chance rather than authored."""
    one_tool: float = 0.45
    """Groups with a single tool."""
    system: float = 0.25
    """Groups with instructions."""
    single: int = 14
    """Requests that want one call, at most."""
    parallel: int = 4
    """Requests that want several."""
    none: int = 10
    """Requests that want none."""
    chains: float = 0.35
    """Groups, of those with several tools, that include a chain where the domain has one."""
    answer: float = 0.6
    """Conversations that go on to the answer."""
    follow_up: float = 0.5
    """Of these, the ones that go on to a second request."""
    fullest: float = 0.7
    """Requests for one call that are the fullest of three: those that name the most arguments."""
    documents: float = 0.25
    """Groups about documents rather than tools."""


def groups(
    count: int, *, seed: int = 0, mix: Mix | None = None, part: Part = "train"
) -> Iterator[Group]:
    """Make groups; the same seed gives the same.

    Args:
        count: How many.
        seed: Where chance begins.
        mix: What they hold.
        part: The functions that they are about.
    """
    mix, rng, domains = mix or Mix(), random.Random(seed), load_domains(part)
    passages = document_groups(load_passages(), rng)
    for _ in range(count):
        if rng.random() < mix.documents:
            system, tools, documents, branches = next(passages)
            yield Group(tools=tools, branches=branches, system=system, documents=documents)
        else:
            yield _Maker(domains, rng, mix).group()


class _Maker:
    """Makes one group."""

    def __init__(self, domains: list[dict[str, Any]], rng: random.Random, mix: Mix) -> None:
        self.domains, self.rng, self.mix = domains, rng, mix
        made = rng.random() < mix.composed
        self.domain = compose_domain(rng) if made else rng.choice(domains)

    def group(self) -> Group:
        rng, mix = self.rng, self.mix
        chain = None
        if rng.random() < mix.one_tool:
            functions = [rng.choice(self.domain["functions"])]
        else:
            functions, chain = self._several()
        style = wording.Style(rng)
        names = {f["name"]: style.name(f["name"]) for f in functions}
        # Arguments go in the order in which the tool shows them, so the style comes first.
        functions = [{**f, "parameters": style.parameters(f["parameters"])} for f in functions]
        group = Group(tools=[style.tool(f, names[f["name"]]) for f in functions])
        if rng.random() < mix.system:
            group.system = rng.choice(wording.SYSTEMS)
        makers = [self._single] * rng.randint(9, mix.single)
        makers += [self._parallel] * rng.randint(3, mix.parallel)
        makers += [self._none] * rng.randint(7, mix.none)
        rng.shuffle(makers)  # what does not fit into a pack is left out from the end
        for make in makers:
            if branch := make(functions, names):
                group.branches.append(branch)
        if chain is not None:
            group.branches.insert(0, self._chain(chain, functions, names))
        return group

    def _several(self) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        rng, here = self.rng, self.domain["functions"]
        chain = None
        if self.domain.get("chains") and rng.random() < self.mix.chains:
            chain = rng.choice(self.domain["chains"])
        wanted = {s["call"] for s in chain["steps"]} if chain else set()
        functions = [f for f in here if f["name"] in wanted]
        size = max(len(functions) + (not functions), rng.choice([2, 2, 3, 3, 4]))
        for _ in range(20 * size):
            if len(functions) == size:
                break
            # Near distractors make the model read; far ones are what agents mostly have.
            pool = here if rng.random() < 0.5 else rng.choice(self.domains)["functions"]
            other = rng.choice(pool)
            if other["name"] not in [f["name"] for f in functions]:
                functions.append(other)
        rng.shuffle(functions)
        return functions, chain

    def _single(self, functions: list[dict[str, Any]], names: dict[str, str]) -> list[Message]:
        function = self.rng.choice(functions)
        if function.get("unclear") and self.rng.random() < 0.08:
            item = self.rng.choice(function["unclear"])
            return _said(item["ask"], item["reply"])
        requests = function["requests"]
        if self.rng.random() < self.mix.fullest:
            # Authored requests name a third of the optional arguments; a model that has read those
            # alone leaves them out where they are asked for.
            requests = self.rng.sample(requests, min(3, len(requests)))
            requests = [max(requests, key=_named)]
        asked = self._ask(function, self.rng.choice(requests))
        return self._conversation(function, names, asked)

    def _parallel(self, functions: list[dict[str, Any]], names: dict[str, str]) -> list[Message]:
        rng, function = self.rng, self.rng.choice(functions)
        if len(functions) > 1 and rng.random() < 0.4:
            chosen = rng.sample(functions, 2)
        elif function.get("parallel") and rng.random() < 0.8:
            asked = self._ask(function, rng.choice(function["parallel"]))
            return self._conversation(function, names, asked)
        else:
            chosen = [function, function]
        parts = [self._ask(f, rng.choice(f["requests"])) for f in chosen]
        text = wording.join_requests([p.text for p in parts], rng)
        calls = [
            (names[f["name"]], call) for f, p in zip(chosen, parts, strict=True) for call in p.calls
        ]
        if len({json.dumps(call) for call in calls}) < len(calls):
            return []
        messages = [_user(text), _calls(calls)]
        if rng.random() < self.mix.answer:
            outcomes = [self._settle(f, p.said[0]) for f, p in zip(chosen, parts, strict=True)]
            _answer(messages, outcomes)
        return messages

    def _none(self, functions: list[dict[str, Any]], names: dict[str, str]) -> list[Message]:
        rng = self.rng
        domain = self.domain if rng.random() < 0.5 else rng.choice(self.domains)
        if domain.get("chat") and rng.random() < 0.35:
            item = rng.choice(domain["chat"])
            return _said(item["ask"], item["reply"])
        shown = {f["name"] for f in functions}
        others = [f for f in domain["functions"] if f["name"] not in shown]
        if not others:
            return []
        function = rng.choice(others)
        asked = self._ask(function, rng.choice(function["requests"]))
        return _said(asked.text, rng.choice(wording.NO_TOOL))

    def _chain(
        self, chain: dict[str, Any], functions: list[dict[str, Any]], names: dict[str, str]
    ) -> list[Message]:
        request, steps, answer = run_chain(chain, self.rng)
        schemas = {f["name"]: f["parameters"] for f in functions}
        messages = [_user(request)]
        for step in steps:
            arguments = in_order(step["args"], schemas[step["call"]])
            messages += [_calls([(names[step["call"]], arguments)]), _result(step["result"])]
        return [*messages, {"role": "assistant", "content": answer}]

    def _ask(self, function: dict[str, Any], template: Any) -> Asked:
        asked = ask(function, template, self.rng)
        asked.calls[:] = [in_order(call, function["parameters"]) for call in asked.calls]
        return asked if self.rng.random() < 0.7 else _reworded(asked, self.rng)

    def _conversation(
        self, function: dict[str, Any], names: dict[str, str], asked: Asked
    ) -> list[Message]:
        rng, name = self.rng, names[function["name"]]
        messages = [_user(asked.text), _calls([(name, call) for call in asked.calls])]
        if rng.random() < self.mix.answer:
            done = _answer(messages, [self._settle(function, said) for said in asked.said])
            if done and len(asked.calls) == 1 and rng.random() < self.mix.follow_up:
                messages += self._follow_up(function, name, asked)
        return messages

    def _follow_up(self, function: dict[str, Any], name: str, asked: Asked) -> list[Message]:
        """`And in Berlin?`: one argument changes, the others stay."""
        rng, call = self.rng, copy.deepcopy(asked.calls[0])
        kinds = function["parameters"]["properties"]
        texts = [k for k, v in call.items() if isinstance(v, str) and "enum" not in kinds[k]]
        texts = [k for k in texts if k in function.get("slots", {})]
        if not texts:
            return []
        key = rng.choice(texts)
        other = ask(function, f"{{{key}}}", rng)
        if other.calls[0][key] == call[key]:
            return []
        call[key] = other.calls[0][key]
        request = rng.choice(wording.FOLLOW_UPS).format(other.text)
        messages = [_user(request), _calls([(name, call)])]
        _answer(messages, [self._settle(function, {**asked.said[0], **other.said[0]})])
        return messages

    def _settle(self, function: dict[str, Any], said: dict[str, str]) -> tuple[Any, str] | None:
        for outcome in self.rng.sample(function["outcomes"], len(function["outcomes"])):
            if settled := settle(outcome, said, self.rng):
                result, answer = settled
                return _in_words(result) if self.rng.random() < 0.35 else result, answer
        return None


def in_order(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments in the order of the schema, which is the grammar's; 5.0 as 5."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return [plain(v) for v in value] if isinstance(value, list) else value

    ordered = {}
    for key, kind in schema.get("properties", {}).items():
        if key in arguments:
            value = arguments[key]
            nested = isinstance(value, dict) and isinstance(kind, dict)
            ordered[key] = (
                in_order(value, kind) if nested and "properties" in kind else plain(value)
            )
    return ordered


def _named(template: Any) -> int:
    """How many arguments a request names, in its words or beside them."""
    if isinstance(template, str):
        return template.count("{")
    return str(template["text"]).count("{") + len(template.get("set", {}))


def _reworded(asked: Asked, rng: random.Random) -> Asked:
    return Asked(wording.around(asked.text, rng), asked.calls, asked.said)


def _said(request: str, reply: str) -> list[Message]:
    return [_user(request), {"role": "assistant", "content": reply}]


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _calls(calls: list[tuple[str, dict[str, Any]]]) -> Message:
    made = [
        {
            "id": f"call_{i}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
        }
        for i, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": "", "tool_calls": made}


def _result(result: Any, number: int = 0) -> Message:
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": text}


def _in_words(result: Any) -> Any:
    """A flat object as a tool that returns text would say it."""
    if not isinstance(result, dict) or any(isinstance(v, dict | list) for v in result.values()):
        return result
    if len(result) == 1:
        return str(*result.values())
    return ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in result.items())


def _answer(messages: list[Message], outcomes: list[tuple[Any, str] | None]) -> bool:
    """Append results and answer, if every call has an outcome."""
    settled = [outcome for outcome in outcomes if outcome is not None]
    if len(settled) < len(outcomes):
        return False
    messages += [_result(result, i) for i, (result, _) in enumerate(settled)]
    messages.append({"role": "assistant", "content": " ".join(answer for _, answer in settled)})
    return True


def main() -> None:
    """Write groups as JSON lines, to look at or to train on elsewhere."""
    options = argparse.ArgumentParser(description="Make training conversations.")
    options.add_argument("output", type=Path)
    options.add_argument("--groups", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    with given.output.open("w", encoding="utf-8") as file:
        for group in groups(given.groups, seed=given.seed):
            file.write(json.dumps(vars(group), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
