"""How readily a model calls tools, and by how much to hold it back.

    python -m finetune.calibrate MODEL --write FOLDER

Trained on turns of which most are calls, a small model calls too readily. By how much is one
number, the log-odds of its first token, and so is the remedy: ``call_bias`` in the model's
``agentkit.json``. It is chosen on functions that were kept from training: half of the requests are
theirs, half are near misses, which ask for another function of the domain, or merely about it.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agentkit import ToolDefinition, TransformersModel, UserMessage
from agentkit.models.settings import SETTINGS_FILE, ModelSettings
from finetune.corpus import ask, is_held_out, load_domains


@dataclass(frozen=True)
class Decided:
    """What a bias makes of the decisions."""

    call_bias: float
    """Added to the logit of the token that begins a call."""
    called: float
    """Share of the requests for a tool that are answered by a call."""
    refrained: float
    """Share of the other requests that are not."""

    @property
    def informed(self) -> float:
        """Youden's J: 0 is chance, 1 is always right."""
        return self.called + self.refrained - 1


def requests(each: int = 2, *, seed: int = 0) -> Iterator[tuple[ToolDefinition, str, bool]]:
    """Questions to a held-out tool, and whether they are for it.

    Args:
        each: Of both kinds, for each tool.
        seed: Where chance begins.
    """
    rng = random.Random(seed)
    for domain in load_domains():
        chat = [item["ask"] for item in domain.get("chat", [])]
        for function in filter(lambda f: is_held_out(f["name"]), domain["functions"]):
            tool = ToolDefinition(
                name=function["name"],
                description=function["description"],
                parameters=function["parameters"],
            )
            others = [f for f in domain["functions"] if f is not function]
            for _ in range(each):
                yield tool, ask(function, rng.choice(function["requests"]), rng).text, True
                if chat and rng.random() < 0.5:
                    yield tool, rng.choice(chat), False
                elif others:
                    other = rng.choice(others)
                    yield tool, ask(other, rng.choice(other["requests"]), rng).text, False


def lead_of_a_call(model: TransformersModel, tool: ToolDefinition, text: str) -> float:
    """By how much the logit of a call's first token exceeds every other's."""
    engine = model.engine
    prompt = engine.chat_format.render([UserMessage(text)], tools=[tool])
    _, logits = engine.prefill(engine.codec.encode(prompt))
    others = logits.clone()
    others[engine.call_token] = -float("inf")
    return float(logits[engine.call_token] - others.max())


def decisions(leads: Sequence[tuple[float, bool]]) -> list[Decided]:
    """What each bias from 0 to -4 would have decided."""

    def share(bias: float, wanted: bool) -> float:
        right = [(lead + bias > 0) == wanted for lead, wants in leads if wants == wanted]
        return round(sum(right) / max(1, len(right)), 4)

    return [Decided(-n / 4, share(-n / 4, True), share(-n / 4, False)) for n in range(17)]


def best(decided: Sequence[Decided]) -> Decided:
    """The one that is right most often; of several, the one that changes least."""
    return max(decided, key=lambda d: (round(d.informed, 3), d.call_bias))


def main() -> None:
    """Measure, print, and write the bias into the model's folder if asked to."""
    options = argparse.ArgumentParser(description="Calibrate the decision to call.")
    options.add_argument("model", help="a folder, `embedded`, or a hub id")
    options.add_argument("--each", type=int, default=2, help="requests of each kind, for each tool")
    options.add_argument("--write", type=Path, help=f"folder for {SETTINGS_FILE}")
    given = options.parse_args()
    model = TransformersModel(given.model, call_bias=0.0)
    leads = [
        (lead_of_a_call(model, tool, text), for_it) for tool, text, for_it in requests(given.each)
    ]
    model.close()
    found = decisions(leads)
    for one in found:
        print(json.dumps({**asdict(one), "informed": round(one.informed, 3)}))
    chosen = asdict(ModelSettings(call_bias=best(found).call_bias))
    print(f"{len(leads)} requests; best: {json.dumps(chosen)}")
    if given.write:
        (given.write / SETTINGS_FILE).write_text(json.dumps(chosen) + "\n", "utf-8")


if __name__ == "__main__":
    main()
