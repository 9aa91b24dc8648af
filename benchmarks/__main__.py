"""Run the benchmarks and print each ratio: ``python -m benchmarks [NAME ...]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from rich.console import Console
from rich.table import Table

from benchmarks import (
    agent_loop,
    batching,
    decode,
    grammar,
    http_tools,
    index_scale,
    kv_reuse,
    lookup,
    memory,
    prefill,
    prefix_reuse,
    quality,
    retrieval,
    serving,
    startup,
    tool_selection,
)
from benchmarks.report import Figure

BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "startup": startup.run,
    "agent_loop": agent_loop.run,
    "grammar": grammar.run,
    "decode": decode.run,
    "prefill": prefill.run,
    "batching": batching.run,
    "lookup": lookup.run,
    "prefix_reuse": prefix_reuse.run,
    "kv_reuse": kv_reuse.run,
    "quality": quality.run,
    "memory": memory.run,
    "http_tools": http_tools.run,
    "tool_selection": tool_selection.run,
    "retrieval": retrieval.run,
    "index_scale": index_scale.run,
    "serving": serving.run,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    unknown = set(args.names) - set(BENCHMARKS)
    if unknown:
        parser.error(
            f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}"
        )

    console = Console()
    console.print(_machine())
    table = Table("benchmark", "figure", "ours", "baseline", "ratio", "target", "")
    figures = []
    for name in args.names or BENCHMARKS:
        with console.status(f"measuring {name}"):
            measured = BENCHMARKS[name]()
        for figure in measured:
            figures.append({"benchmark": name, **figure.to_dict()})
            table.add_row(name, *figure.cells())
    console.print(table)
    if args.json:
        args.json.write_text(json.dumps({"machine": _machine(), "figures": figures}, indent=1))
    if any(figure["met"] is False for figure in figures):
        sys.exit("a target was missed")


def _machine() -> str:
    import torch
    import transformers

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{os.cpu_count()} CPUs ({torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} threads), {gpu}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()
