"""``agentkit doctor``: what this machine can run, and what is missing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from agentkit.cli.console import write_json
from agentkit.cli.failures import EXIT_FAILED, with_exit_codes

if TYPE_CHECKING:
    from rich.console import Console

    from agentkit.cli.finding import Finding

__all__ = ["doctor"]

_MARKS = {
    "ok": ("✓", "green"),
    "optional": ("-", "dim"),
    "warning": ("!", "yellow"),
    "missing": ("✗", "red"),
}


@with_exit_codes
def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as one JSON object.")
    ] = False,
) -> None:
    """Say what is installed, what is cached, what would run, and how to mend what would not.

    Exits with 0 if an agent could run here, with 1 if not. Nothing is downloaded.

    Examples:

    - `agentkit doctor`

    - `agentkit doctor --json | jq '.findings[] | select(.status != "ok")'`
    """
    from rich.console import Console

    from agentkit.cli.console import notes_console
    from agentkit.cli.diagnosis import examine

    with notes_console().status("Looking around"):
        findings = examine()
    can_run = not any(finding.status == "missing" and finding.needed for finding in findings)
    if as_json:
        write_json(
            {"can_run": can_run, "findings": [asdict(finding) for finding in findings]}, indent=2
        )
    else:
        _print(findings, Console(highlight=False, markup=False, emoji=False, soft_wrap=True))
        print("An agent can run here." if can_run else "No agent can run here yet.")
    if not can_run:
        raise typer.Exit(EXIT_FAILED)


def _print(findings: list[Finding], console: Console) -> None:
    from rich.text import Text

    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark, style = _MARKS[finding.status]
        line = Text.assemble((mark, style), f" {finding.name.ljust(width)}  {finding.detail}")
        console.print(line)
        if finding.fix:
            label = "to get it" if finding.status == "optional" else "to mend it"
            console.print(Text(f"  {' ' * width}  {label}: {finding.fix}", style))
