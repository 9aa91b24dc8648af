"""How often a tool selector shows the right tool, among many, and what it saves."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from agentkit import ToolDefinition, ToolSelector
from agentkit.tool_selection import ToolEmbedder
from benchmarks.report import Figure

__all__ = ["read_set", "recall", "run"]

SET = Path(__file__).parent / "data" / "tool_selection.txt"
_TOOL = re.compile(r"(\w+)\(([^)]*)\): (.+)")


def read_set(path: Path = SET) -> tuple[list[ToolDefinition], list[tuple[str, str]]]:
    """The tools, and the questions with the name of the tool that each is for."""
    tools: list[ToolDefinition] = []
    questions: list[tuple[str, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("? "):
            questions.append((line[2:], tools[-1].name))
        elif match := _TOOL.fullmatch(line):
            name, parameters, description = match.groups()
            keys = [key.strip() for key in parameters.split(",") if key.strip()]
            schema = {"type": "object", "properties": {key: {"type": "string"} for key in keys}}
            tools.append(ToolDefinition(name=name, description=description, parameters=schema))
    return tools, questions


def recall(
    tools: list[ToolDefinition],
    questions: list[tuple[str, str]],
    ks: tuple[int, ...],
    embedder: ToolEmbedder | None = None,
) -> dict[int, float]:
    """For each k, the share of questions whose tool is among the k likeliest."""
    selector = ToolSelector(embedder=embedder)
    hits = dict.fromkeys(ks, 0)
    for question, wanted in questions:
        names = [name for name, _ in selector.rank(tools, [question])]
        place = names.index(wanted)
        for k in ks:
            hits[k] += place < k
    return {k: count / len(questions) for k, count in hits.items()}


def run() -> list[Figure]:
    """Recall at several sizes, the time of one choice, and the prompt that is saved."""
    tools, questions = read_set()
    shares = recall(tools, questions, (1, 3, 5, 8, 12))
    selector = ToolSelector(8)
    selector.rank(tools, ["warm up"])
    begin = time.perf_counter()
    for question, _ in questions[:20]:
        selector.rank(tools, [question])
    seconds = (time.perf_counter() - begin) / 20
    characters = [len(json.dumps(tool.to_openai())) for tool in tools]
    return [
        *(
            Figure(
                what=f"questions whose tool is not among the {k} picked "
                f"({len(questions)} questions, {len(tools)} tools)",
                ours=100 * (1 - share),
                unit="%",
                at_most=15 if k == 8 else None,
            )
            for k, share in shares.items()
        ),
        Figure(what="picking 8 tools for a request", ours=1000 * seconds, unit="ms"),
        Figure(
            what="characters of the tools section, 8 tools against all",
            ours=8 * sum(characters) / len(characters),
            baseline=sum(characters),
            unit="characters",
        ),
    ]
