"""``agentkit trace``: the runs in a trace file, as trees."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentkit.cli.console import printable, write_json
from agentkit.cli.failures import with_exit_codes
from agentkit.errors import UserError

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from agentkit.tracing import SpanNode

__all__ = ["trace"]

_COLOURS = {
    "invoke_agent": "bold",
    "chat": "cyan",
    "execute_tool": "green",
    "retrieval": "magenta",
}
_PIPE_WIDTH = 100_000
_CONTENT = {
    "gen_ai.system_instructions": "system",
    "gen_ai.input.messages": "input",
    "gen_ai.output.messages": "output",
    "gen_ai.tool.call.arguments": "arguments",
    "gen_ai.tool.call.result": "result",
    "gen_ai.retrieval.query.text": "query",
    "gen_ai.retrieval.documents": "documents",
}


@with_exit_codes
def trace(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A trace file.")],
    last: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the last N traces.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only the run with this id, or one beginning so."),
    ] = None,
    content: Annotated[
        bool,
        typer.Option("--content", help="Also show what was said, where the trace holds it."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the trees as JSON instead.")
    ] = False,
) -> None:
    """Show recorded runs: what took how long, tokens, calls and errors.

    FILE holds lines of OTLP JSON, as `agentkit ask --trace FILE`, `Tracing.to_file` and the
    file exporters of OpenTelemetry write them.

    Examples:

    - `agentkit ask "What is 12 times 7?" --tools my_tools --trace run.jsonl`

    - `agentkit trace run.jsonl`

    - `agentkit trace run.jsonl --last 1 --content`
    """
    from agentkit.tracing.reading import read_traces

    roots = read_traces(file)
    if run is not None:
        roots = [
            span
            for root in roots
            for span in root.walk()
            if str(span.attributes.get("agentkit.run.id", "")).startswith(run)
        ]
        if not roots:
            raise UserError(f"{file} holds no run whose id begins with {run!r}")
    if not roots:
        raise UserError(f"{file} holds no spans")
    roots = roots[-last:] if last else roots
    if as_json:
        write_json([_data(root) for root in roots])
        return
    _print(roots, content=content)


def _print(roots: list[SpanNode], *, content: bool) -> None:
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH  # A pipe cuts nothing.
    for i, root in enumerate(roots):
        if i:
            console.print()
        moment = datetime.fromtimestamp(root.start).astimezone()
        run_id = root.attributes.get("agentkit.run.id", root.trace_id)
        console.print(f"{moment:%Y-%m-%d %H:%M:%S}  {printable(str(run_id))}", style="dim")
        console.print(_tree(root, root, content=content), no_wrap=not console.is_terminal)


def _tree(span: SpanNode, root: SpanNode, *, content: bool) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(_label(span, root), guide_style="dim")
    if content:
        for key, word in _CONTENT.items():
            if key in span.attributes:
                text = printable(str(span.attributes[key]))
                tree.add(Text(f"{word}: {text}", style="dim"))
    below: list[tuple[float, Tree]] = [
        (child.start, _tree(child, root, content=content)) for child in span.children
    ]
    for name, moment, attributes in span.events:
        shown = ", ".join(f"{_short_key(k)}={v}" for k, v in attributes.items())
        text = f"· {name.removeprefix('agentkit.')}  +{moment - root.start:.2f} s  {shown}"
        line = Text(printable(" ".join(text.split())), style="yellow")
        below.append((moment, Tree(line)))
    tree.children += [branch for _, branch in sorted(below, key=lambda item: item[0])]
    return tree


def _label(span: SpanNode, root: SpanNode) -> Text:
    from rich.text import Text

    attributes = span.attributes
    operation = str(attributes.get("gen_ai.operation.name", ""))
    label = Text(printable(span.name), style=_COLOURS.get(operation, ""))
    label.append(f"  {span.seconds:.2f} s", style="bold" if span is root else "default")
    if span is not root:
        label.append(f"  +{span.start - root.start:.2f} s", style="dim")
    for fact in _facts(attributes):
        label.append(f"  {printable(fact)}", style="dim")
    if span.failed:
        why = str(attributes.get("error.type") or "")
        text = " ".join(filter(None, [why, span.message if span.message != why else ""]))
        label.append(f"  ✗ {printable(text) or 'failed'}", style="red")
    return label


def _facts(attributes: Any) -> list[str]:
    """What is said of a span on its line."""
    facts = []
    if "gen_ai.usage.input_tokens" in attributes:
        cached = attributes.get("gen_ai.usage.cache_read.input_tokens", 0)
        read = f"{attributes['gen_ai.usage.input_tokens']} in"
        facts.append(f"{read} ({cached} cached)" if cached else read)
    if "gen_ai.usage.output_tokens" in attributes:
        parts = [
            f"{count} {kind}"
            for kind in ("forced", "lookup")
            if (count := attributes.get(f"agentkit.usage.{kind}_tokens"))
        ]
        note = f" ({', '.join(parts)})" if parts else ""
        facts.append(f"{attributes['gen_ai.usage.output_tokens']} out{note}")
    if "agentkit.run.steps" in attributes:
        steps, calls = attributes["agentkit.run.steps"], attributes.get("agentkit.run.calls", 0)
        facts.append(f"{steps} step{'s' * (steps != 1)}, {calls} call{'s' * (calls != 1)}")
    if attributes.get("agentkit.run.stop_reason") not in (None, "answer"):
        facts.append(f"stopped: {attributes['agentkit.run.stop_reason']}")
    if "gen_ai.response.time_to_first_chunk" in attributes:
        facts.append(f"first after {attributes['gen_ai.response.time_to_first_chunk']:.2f} s")
    if attributes.get("agentkit.turn.given_up"):
        facts.append("given up at a bad call")
    if "agentkit.retrieval.documents" in attributes:
        facts.append(f"{attributes['agentkit.retrieval.documents']} documents")
    return facts


def _short_key(key: str) -> str:
    return key.rpartition(".")[2]


def _data(span: SpanNode) -> dict[str, Any]:
    return {
        "name": span.name,
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "start": span.start,
        "seconds": span.seconds,
        "failed": span.failed,
        "message": span.message,
        "attributes": dict(span.attributes),
        "events": [
            {"name": name, "time": moment, "attributes": dict(attributes)}
            for name, moment, attributes in span.events
        ],
        "children": [_data(child) for child in span.children],
    }
