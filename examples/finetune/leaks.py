"""Whether anything of what models are measured by is in what they are trained on.

Functions are compared by name, whatever its case and punctuation; questions by runs of words:
a request that shares eight words in a row with a question leaks, and so does a shorter one that
is the same. Templates are filled before they are compared.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from finetune.composed import compose_domain, composed_names
from finetune.corpus import ask, load_domains, run_chain

RUN = 8
"""So many words in a row are no accident."""


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"[a-z0-9]+", text.lower())


def squeeze(name: str) -> str:
    """A name without case and punctuation: `math.GCD` and `math_gcd` are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


class Measured:
    """The functions and questions that must not be trained on."""

    def __init__(self, names: Iterable[str], questions: Iterable[str]) -> None:
        """Index them.

        Args:
            names: Of functions.
            questions: Whole texts of users.
        """
        self.names = {squeeze(name) for name in names}
        self.whole, self.runs = set[str](), set[str]()
        for question in questions:
            split = words(question)
            self.whole.add(" ".join(split))
            self.runs.update(_runs(split))

    def has_question(self, text: str) -> bool:
        """Whether a text is, or shares a run of words with, a question."""
        split = words(text)
        if len(split) >= 4 and " ".join(split) in self.whole:
            return True
        return any(run in self.runs for run in _runs(split))


def _runs(split: list[str]) -> Iterator[str]:
    for start in range(len(split) - RUN + 1):
        yield " ".join(split[start : start + RUN])


def measured(bfcl: Path | None, queries: Path | None) -> Measured:
    """Read benchmarks from disk.

    Args:
        bfcl: A folder somewhere below which BFCL's `BFCL_*.json` lie.
        queries: A `queries.jsonl` as in MTRAG-UN.

    Raises:
        FileNotFoundError: Nothing is there, so that nothing would be compared.
    """
    names, questions = [], []
    files = sorted(bfcl.rglob("BFCL_*.json")) if bfcl else []
    if bfcl and not files:
        raise FileNotFoundError(f"no BFCL_*.json below {bfcl}")
    for path in files:
        text = path.read_text("utf-8")
        if not text.startswith('{"id"'):
            continue  # lists of cases of other files
        for line in text.splitlines():
            item = json.loads(line) if line.strip() else {}
            if isinstance(item, dict):
                functions = item.get("function", [])
                names += [f["name"] for f in functions if isinstance(f, dict) and "name" in f]
                questions += list(_contents(item.get("question", [])))
    if queries:
        for line in queries.read_text("utf-8").splitlines():
            questions += [t for t in _strings(json.loads(line)) if len(t) > 12]
    return Measured(names, questions)


def _contents(question: Any) -> Iterator[str]:
    for value in question if isinstance(question, list) else [question]:
        if isinstance(value, list):
            yield from _contents(value)
        elif isinstance(value, dict) and isinstance(value.get("content"), str):
            yield value["content"]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from _strings(inner)


def leaks(domains: Iterable[dict[str, Any]], against: Measured, tries: int = 5) -> Iterator[str]:
    """What of authored domains is in a benchmark, in words."""
    rng = random.Random(1)
    for domain in domains:
        for function in domain["functions"]:
            if squeeze(function["name"]) in against.names:
                yield f"{domain['domain']}: the function name {function['name']!r} is taken"
            for template in [*function["requests"], *function.get("parallel", [])]:
                if any(
                    against.has_question(ask(function, template, rng).text) for _ in range(tries)
                ):
                    yield f"{domain['domain']}/{function['name']}: {template!r}"
            for item in function.get("unclear", []):
                if against.has_question(item["ask"]):
                    yield f"{domain['domain']}/{function['name']}: {item['ask']!r}"
        for chain in domain.get("chains", []):
            if against.has_question(run_chain(chain, rng)[0]):
                yield f"{domain['domain']}: chain {chain['request']!r}"
        for item in domain.get("chat", []):
            if against.has_question(item["ask"]):
                yield f"{domain['domain']}: chat {item['ask']!r}"


def composed_leaks(against: Measured, tries: int = 1000) -> Iterator[str]:
    """What of composed functions is in a benchmark: of all names, and of many requests."""
    for name in sorted(composed_names()):
        if squeeze(name) in against.names:
            yield f"composed: the function name {name!r} is taken"
    rng = random.Random(1)
    yield from leaks((compose_domain(rng) for _ in range(tries)), against, tries=1)


def main() -> int:
    """Compare files (or all of them) and say what leaks."""
    options = argparse.ArgumentParser(description="Fail if training data hold benchmark items.")
    options.add_argument("files", nargs="*", type=Path)
    options.add_argument("--bfcl", type=Path, required=True)
    options.add_argument("--queries", type=Path, required=True)
    given = options.parse_args()
    domains = [json.loads(p.read_text("utf-8")) for p in given.files] or load_domains()
    against = measured(given.bfcl, given.queries)
    found = [*leaks(domains, against), *composed_leaks(against)]
    print("\n".join(found) or f"{len(domains)} domains, nothing leaks")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
