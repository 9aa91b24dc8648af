"""What ``make demo`` runs: real questions, the real model, and what each answer cost.

Nothing here is recorded. Each answer is checked for the fact that it must hold, and the exit
code says whether all did.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.panel import Panel
from rich.table import Table

from agentkit import RunResult
from common import ask, console, is_small, load_model, parser, print_sources, run
from docs_qa import HANDBOOK, open_index, reader
from weather_calculator import toolsmith
from weather_server import serve_weather

__all__ = ["main"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A question, and how to tell a right answer."""

    question: str
    """What is asked."""
    agent: Literal["tools", "documents"] = "tools"
    """Who answers: the agent with tools, or the one with documents."""
    tool: str | None = None
    """The tool that must be called."""
    facts: tuple[str, ...]
    """What the answer must hold."""
    follows: bool = False
    """Whether it goes on from the question before."""

    def solved_by(self, result: RunResult) -> bool:
        """Whether a run called the right tool and has the right answer."""
        called = [record.call.name for record in result.calls if record.status == "ok"]
        right_tool = called == ([self.tool] if self.tool else [])
        return right_tool and all(fact in result.output for fact in self.facts)


TASKS = (
    Task(question="How much is 12 times 34?", tool="calculate", facts=("408",)),
    Task(
        question="What is the weather in Paris?",
        tool="get_weather",
        facts=("18 degrees", "sunny", "Paris"),
    ),
    Task(
        question="And in Berlin?",
        tool="get_weather",
        facts=("11 degrees", "raining", "Berlin"),
        follows=True,
    ),
    Task(
        question="How long does the battery last without sun?",
        agent="documents",
        facts=("60 days",),
    ),
    Task(
        question="How far does the radio reach in the open?",
        agent="documents",
        facts=("300 metres",),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo."""
    made = parser("Show what agentkit does, with the embedded model.", questions=())
    made.add_argument("--svg", type=Path, help="also save what is printed as a picture")
    options = made.parse_args(arguments)
    console.record = options.svg is not None
    solved: list[bool] = []
    failed = run(_show(options, solved))
    if options.svg is not None:
        # Without rich's own fonts, which it would fetch from elsewhere: any monospace font will do.
        plain = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        console.save_svg(str(options.svg), title="make demo", code_format=plain)
    return failed or int(not all(solved))


async def _show(options: argparse.Namespace, solved: list[bool]) -> None:
    index = open_index(HANDBOOK)
    model = load_model(options)
    console.print(
        Panel(
            f"{model.name} in this process, {model.engine.model.dtype}, {model.engine.device}\n"
            f"a Python tool, an HTTP tool and an index of {len(index)} passages",
            title="agentkit",
            expand=False,
        )
    )
    table = _table()
    with serve_weather() as address:
        agents = {
            "tools": toolsmith(model, address),
            "documents": reader(model, index, top_k=1 if is_small(options) else 4),
        }
        earlier: RunResult | None = None
        try:
            for task in TASKS:
                agent = agents[task.agent]
                result = await ask(agent, task.question, history=earlier if task.follows else None)
                print_sources(result)
                earlier = result
                solved.append(task.solved_by(result))
                _add_row(table, task, result, solved[-1])
        finally:
            await model.aclose()
    console.print()
    console.print(table)
    console.print(f"{sum(solved)} of {len(solved)} answers are right.")


def _table() -> Table:
    table = Table("Question", "Answer", "By", title="Tokens and time of each run")
    for name in ("Read", "Reused", "Written", "Seconds"):
        table.add_column(name, justify="right")
    return table


def _add_row(table: Table, task: Task, result: RunResult, right: bool) -> None:
    usage = result.usage
    by = ", ".join(record.call.name for record in result.calls) or task.agent
    table.add_row(
        f"(then) {task.question}" if task.follows else task.question,
        f"[green]{result.output}[/]" if right else f"[red]{result.output}[/]",
        by,
        str(usage.prefilled_tokens),
        str(usage.reused_tokens),
        str(usage.generated_tokens),
        f"{result.seconds:.1f}",
    )


if __name__ == "__main__":
    sys.exit(main())
