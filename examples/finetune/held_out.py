"""Questions about functions that were kept from training, in BFCL's format.

    python -m finetune.held_out FOLDER
    agentkit eval tools --bfcl FOLDER -c simple_python -c multiple -c parallel -c irrelevance

What to change in the recipe is decided by these; BFCL itself is for the figure at the end.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.conversations import in_order
from finetune.corpus import ask, load_domains

Case = tuple[str, list[dict[str, Any]], list[dict[str, Any]]]


def cases(category: str, count: int, *, seed: int = 0) -> Iterator[Case]:
    """A question, the functions that are shown, and the calls that are right.

    Args:
        category: `simple_python`, `multiple`, `parallel` or `irrelevance`.
        count: How many.
        seed: Where chance begins.
    """
    rng = random.Random(f"{category} {seed}")
    functions = [f for domain in load_domains("held_out") for f in domain["functions"]]
    everything = [f for domain in load_domains() for f in domain["functions"]]
    for number in range(count):
        function = functions[number % len(functions)]
        shown = [function]
        if category == "multiple":
            others = [f for f in everything if f["name"] != function["name"]]
            shown = [function, *rng.sample(others, rng.randint(1, 3))]
            rng.shuffle(shown)
        if category == "irrelevance":
            other = rng.choice([f for f in functions if f is not function])
            yield ask(other, rng.choice(other["requests"]), rng).text, shown, []
            continue
        templates = function["requests"] if category != "parallel" else function["parallel"]
        asked = ask(function, rng.choice(templates), rng)
        calls = [in_order(call, function["parameters"]) for call in asked.calls]
        yield asked.text, shown, [{function["name"]: call} for call in calls]


def write(folder: Path, count: int) -> None:
    """Write the files of all four categories."""
    (folder / "possible_answer").mkdir(parents=True, exist_ok=True)
    for category in ("simple_python", "multiple", "parallel", "irrelevance"):
        questions, answers = [], []
        for number, (text, functions, calls) in enumerate(cases(category, count)):
            identifier = f"{category}_{number}"
            shown = [{k: f[k] for k in ("name", "description", "parameters")} for f in functions]
            message = {"role": "user", "content": text}
            questions.append({"id": identifier, "question": [[message]], "function": shown})
            truth = [{name: _allowed(call) for name, call in one.items()} for one in calls]
            answers.append({"id": identifier, "ground_truth": truth})
        for place, lines in ((folder, questions), (folder / "possible_answer", answers)):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (place / f"BFCL_v4_{category}.json").write_text(text, "utf-8")


def _allowed(call: dict[str, Any]) -> dict[str, list[Any]]:
    """BFCL's form: for each argument the values that are right."""
    return {
        name: [{k: [v] for k, v in value.items()} if isinstance(value, dict) else value]
        for name, value in call.items()
    }


def main() -> None:
    """Write the questions."""
    options = argparse.ArgumentParser(description="Held-out questions in BFCL's format.")
    options.add_argument("folder", type=Path)
    options.add_argument("--count", type=int, default=60, help="questions of each category")
    given = options.parse_args()
    write(given.folder, given.count)


if __name__ == "__main__":
    main()
