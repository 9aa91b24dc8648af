"""Do we judge calls as the Berkeley Function Calling Leaderboard does?

Makes right and wrong calls for every case of BFCL's data by many small changes, and has both
its checker and ours judge them. Needs the package ``bfcl-eval``, for which
``pip install --no-deps bfcl-eval`` is enough.

python -m benchmarks.bfcl_agreement [--rounds 10] [--seed 0]
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import types
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from agentkit.evaluation import BFCLCase, find_bfcl, judge, read_cases
from agentkit.evaluation.bfcl_data import CATEGORIES

__all__ = ["compare", "load_checker", "main", "make_calls"]

_STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -3, 5.0, 2.5, "", "x", "5", "a b", [], ["x"], [1], [[1]], {},
    {"a": 1}, [{"a": 1}], "2024-01-01", 10**12, [None],
)  # fmt: skip


def load_checker() -> Callable[..., Mapping[str, Any]]:
    """BFCL's ``ast_checker``, without the clients of all the models that it knows."""
    config = types.ModuleType("bfcl_eval.constants.model_config")
    plain = types.SimpleNamespace(underscore_to_dot=False)
    config.MODEL_CONFIG_MAPPING = {"model": plain}  # type: ignore[attr-defined]
    sys.modules.setdefault("bfcl_eval.constants.model_config", config)
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    checker: Callable[..., Mapping[str, Any]] = ast_checker
    return checker


def make_calls(case: BFCLCase, rng: random.Random) -> list[dict[str, dict[str, Any]]]:
    """Calls that are right, changed in none, one or two places."""
    calls = []
    for answer in case.answers:
        ((name, allowed),) = answer.items()
        arguments = {}
        for key, values in allowed.items():
            real = [value for value in values if value != ""]
            if not real or ("" in values and rng.random() < 0.4):
                continue
            arguments[key] = _pick(copy.deepcopy(rng.choice(real)), rng)
        calls.append({name: arguments})
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        _change(calls, case, rng)
    return calls


def _pick(value: Any, rng: random.Random) -> Any:
    """A dictionary's values are lists of what is allowed; anything else is the value itself."""
    if isinstance(value, dict):
        picked = {}
        for key, values in value.items():
            real = [one for one in values if one != ""] if isinstance(values, list) else [values]
            if real and not ("" in values and rng.random() < 0.5):
                picked[key] = rng.choice(real)
        return picked
    if isinstance(value, list):
        return [_pick(one, rng) for one in value]
    return value


def _change(calls: list[dict[str, dict[str, Any]]], case: BFCLCase, rng: random.Random) -> None:
    what = rng.random()
    if what < 0.05:
        calls.append(copy.deepcopy(rng.choice(calls)) if calls else {"other": {}})
    elif what < 0.1 and calls:
        calls.pop(rng.randrange(len(calls)))
    elif what < 0.2:
        rng.shuffle(calls)
    elif calls:
        call = rng.choice(calls)
        ((name, arguments),) = call.items()
        if what < 0.27:
            other = rng.choice([f["name"] for f in case.functions] + [name.upper(), "other"])
            call.clear()
            call[other] = arguments
        elif what < 0.33 and arguments:
            arguments.pop(rng.choice(list(arguments)))
        elif what < 0.4:
            known = next(
                (f["parameters"]["properties"] for f in case.functions if f["name"] == name), {}
            )
            arguments[rng.choice([*known, "extra"])] = rng.choice(_STRANGE)
        elif arguments:
            key = rng.choice(list(arguments))
            arguments[key] = _change_value(arguments[key], rng)


def _change_value(value: Any, rng: random.Random) -> Any:
    if rng.random() < 0.25:
        return copy.deepcopy(rng.choice(_STRANGE))
    match value:
        case bool():
            return rng.choice([not value, int(value), str(value)])
        case int() | float():
            return rng.choice([float(value), int(value), value + 1, str(value), -value])
        case str():
            cut = rng.randrange(len(value) + 1)
            marked = value[:cut] + rng.choice(" ,./-_*^'\"x") + value[cut:]
            return rng.choice([value.upper(), value.lower(), marked, f" {value} ", value[:-1]])
        case list() if value:
            place = rng.randrange(len(value))
            changed = [*value[:place], _change_value(value[place], rng), *value[place + 1 :]]
            return rng.choice([changed, value[:-1], [*value, value[0]], value[::-1]])
        case dict() if value:
            key = rng.choice(list(value))
            without = {k: v for k, v in value.items() if k != key}
            return rng.choice(
                [without, {**value, "extra": 1}, {**value, key: _change_value(value[key], rng)}]
            )
    return rng.choice(_STRANGE)


def compare(
    checker: Callable[..., Mapping[str, Any]],
    case: BFCLCase,
    calls: list[dict[str, dict[str, Any]]],
) -> tuple[bool, bool | None]:
    """Our judgement, and BFCL's; ``None`` if its checker fails with an exception."""
    from bfcl_eval.constants.enums import Language

    ours = judge(case, [next(iter(call.items())) for call in calls]).correct
    try:
        theirs: bool | None = checker(
            copy.deepcopy(list(case.functions)), copy.deepcopy(calls),
            copy.deepcopy(list(case.answers)), Language.PYTHON, case.category, "model",
        )["valid"]  # fmt: skip
    except Exception:
        theirs = None
    return ours, theirs


def main() -> int:
    """Compare on all data; 1 if there is any disagreement."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=10, help="calls made for each case")
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    checker, folder = load_checker(), find_bfcl()
    rng = random.Random(chosen.seed)
    counts: Counter[str] = Counter()
    for category, kind in CATEGORIES.items():
        if kind in ("irrelevance", "relevance"):
            continue
        for case in read_cases(folder, category):
            for _ in range(chosen.rounds):
                calls = make_calls(case, rng)
                ours, theirs = compare(checker, case, calls)
                counts["right" if theirs else "wrong" if theirs is False else "crash"] += 1
                if theirs is None:
                    counts["crash, and right to us"] += ours
                elif ours != theirs:
                    counts["disagreement"] += 1
                    print(case.id, "ours:", ours, "BFCL:", theirs, json.dumps(calls)[:500])
    print(json.dumps({"disagreement": 0, **counts}, indent=1))
    return 1 if counts["disagreement"] else 0


if __name__ == "__main__":
    sys.exit(main())
