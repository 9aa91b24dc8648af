"""``agentkit eval tools``: measure how well a model calls tools."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from agentkit.cli.console import notes_console, write_json
from agentkit.cli.failures import with_exit_codes
from agentkit.cli.options import ModelName, Seed, Temperature

if TYPE_CHECKING:
    from rich.console import Console

    from agentkit.evaluation import BFCLCase, ToolReport
    from agentkit.evaluation.tool_calling import CaseResult

__all__ = ["tools"]


@with_exit_codes
def tools(
    bfcl: Annotated[
        Path | None,
        typer.Option(
            "--bfcl",
            metavar="FOLDER",
            help="The leaderboard's data: a folder of `BFCL_v4_<category>.json`. "
            "If not given: that of the installed package `bfcl-eval`.",
        ),
    ] = None,
    categories: Annotated[
        list[str] | None,
        typer.Option(
            "--category",
            "-c",
            metavar="NAME",
            help="Such as `simple_python`, `parallel`, `irrelevance` or `live_multiple`; or "
            "`live`, `non_live`, `all`. May be repeated. [default: simple_python]",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Cases of each category, evenly spread over it."),
    ] = None,
    model: ModelName = None,
    grammar: Annotated[
        bool, typer.Option(help="Write calls under the grammar of the tools' schemas.")
    ] = True,
    choice: Annotated[
        str,
        typer.Option(
            "--tool-choice",
            metavar="auto|required",
            help="`required` leaves out the decision whether to call at all.",
        ),
    ] = "auto",
    system: Annotated[
        str | None,
        typer.Option(
            "--system", "-s", metavar="TEXT", help="Instructions, where a case brings none."
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens per turn.")] = 512,
    temperature: Temperature = 0.0,
    seed: Seed = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a report with kinds of failures and the cases."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write each case's calls and verdict, one JSON a line."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, metavar="N", help="Questions asked at a time.")
    ] = 4,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as one JSON object.")
    ] = False,
) -> None:
    """Measure tool calls on the Berkeley Function Calling Leaderboard's questions.

    Each question is one turn of an agent with the question's functions as tools. Its calls are
    judged by the leaderboard's own rules: function, arguments, types and values; calls in
    parallel in any order; no call where none is needed. The data is not part of agentkit:
    `pip install --no-deps bfcl-eval` brings it.

    Examples:

    - `agentkit eval tools --category simple_python --limit 50`

    - `agentkit eval tools --bfcl bfcl/data -c non_live --model ibm-granite/granite-4.0-350m --json`

    - `agentkit eval tools -c parallel --no-grammar --html report.html`
    """
    from agentkit.errors import UserError
    from agentkit.evaluation import expand_categories, find_bfcl, read_cases
    from agentkit.models.base import Sampling

    for path in (html, output):
        _check_writable(path)
    names = expand_categories(categories or ["simple_python"])
    folder = find_bfcl(bfcl)
    # All data is read before a model is loaded, so that a damaged file costs no time.
    cases = [case for name in names for case in read_cases(folder, name, limit=limit)]
    notes = notes_console()
    if choice not in ("auto", "required"):
        raise UserError(f"--tool-choice must be auto or required, not {choice!r}")
    with output.open("w", encoding="utf-8", errors="replace") if output else nullcontext() as file:
        report = _evaluate(
            cases,
            notes,
            file,
            model=model,
            constrain=grammar,
            system=system,
            tool_choice=choice,
            concurrency=concurrency,
            sampling=Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed),
            meta={"data": "BFCL", "max_tokens": max_tokens, "temperature": temperature},
        )
    if html is not None:
        from agentkit.evaluation import html_report

        html.write_text(html_report(report), encoding="utf-8")
        notes.print(f"Report: {html}")
    if as_json:
        write_json(report.to_dict(), indent=2)
    else:
        _print_table(report)


def _evaluate(
    cases: list[BFCLCase],
    notes: Console,
    file: IO[str] | None,
    *,
    model: str | None,
    **options: Any,
) -> ToolReport:
    """Ask and judge, and write each result to a file once it is there."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from agentkit.cli.setup import load_model
    from agentkit.evaluation import evaluate_tools
    from agentkit.models.naming import named_model

    language_model = named_model(model)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    right = 0
    try:
        load_model(language_model, notes)
        with Progress(*columns, TimeElapsedColumn(), console=notes, transient=True) as bar:
            task = bar.add_task("Asking", total=len(cases))

            def progress(result: CaseResult) -> None:
                nonlocal right
                right += result.verdict.correct
                bar.update(task, advance=1, description=f"{right} right of")
                if file is not None:
                    file.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")
                    file.flush()

            return asyncio.run(evaluate_tools(language_model, cases, progress=progress, **options))
    finally:
        language_model.close()


def _check_writable(path: Path | None) -> None:
    from agentkit.errors import UserError

    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise UserError(f"{path} cannot be written: it is a folder, or its folder is missing")


def _print_table(report: ToolReport) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from agentkit.evaluation.bfcl_scoring import FAILURES

    table = Table(title=f"Tool calls of {report.meta.get('model', 'the model')}", box=SIMPLE_HEAD)
    table.add_column("Category", no_wrap=True)
    heads = ("Right", "95 % interval", "Cases", "Valid calls", "Mended", "Tokens", "s a case")
    for head in heads:
        table.add_column(head, justify="right")
    parts = [(name, report.category(name)) for name in report.categories]
    for name, part in [*parts, *([("all", report)] if len(parts) > 1 else [])]:
        figures = part.figures()
        low, high = figures["interval"]
        table.add_row(
            name,
            f"{figures['accuracy']:.1%}",
            f"{low:.1%} - {high:.1%}",
            str(figures["cases"]),
            f"{figures['call_validity']:.1%}",
            f"{figures['repair_rate']:.1%}",
            str(figures["generated_tokens"]),
            f"{figures['seconds_per_case']:.2f}",
        )
    console = Console()
    console.print(table)
    figures = report.figures()
    for name, text in (
        ("missed_call_rate", "of the questions that want a call got none"),
        ("false_call_rate", "of the others got one"),
    ):
        if figures[name] is not None:
            console.print(f"{figures[name]:6.1%} {text}", highlight=False)
    for kind, count in report.failures.items():
        console.print(f"{count:5d}  {FAILURES.get(kind, kind)}", highlight=False)
