"""An evaluation of tool calls as one HTML page that needs nothing else."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING

from agentkit.evaluation.bfcl_scoring import FAILURES

if TYPE_CHECKING:
    from agentkit.evaluation.tool_calling import CaseResult, ToolReport

__all__ = ["html_report"]

_STYLE = """
:root { color-scheme: light dark; --bar: #4a7dbd; --bad: #c0504d; --line: #8886 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .7rem;
  text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
tr + tr { border-top: 1px solid var(--line) } small { opacity: .7 }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere }
svg { vertical-align: middle } rect.bar { fill: var(--bar) } rect.range { fill: var(--line) }
"""
_SHOWN_CASES = 200
_BAR = 220


def html_report(report: ToolReport, *, title: str = "Tool calls") -> str:
    """A page with accuracy by category, kinds of failures by category, and the failed cases.

    Returns:
        Self-contained HTML: no scripts, and nothing from elsewhere.
    """
    facts = " · ".join(f"{escape(str(k))}: {escape(str(v))}" for k, v in report.meta.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1><p><small>{facts}</small></p>"
        f"{_accuracy_table(report)}<h2>Failures</h2>{_confusion(report)}"
        f"<h2>Failed cases</h2>{_failed(report)}</html>\n"
    )


def _accuracy_table(report: ToolReport) -> str:
    rows = []
    parts = [(name, report.category(name)) for name in report.categories]
    for name, part in [*parts, ("all", report)]:
        figures = part.figures()
        low, high = figures["interval"]
        bar = (
            f'<svg width="{_BAR}" height="14"><rect class="bar" width="{_BAR * part.accuracy:.1f}" '
            f'height="14"/><rect class="range" x="{_BAR * low:.1f}" y="5" '
            f'width="{_BAR * (high - low):.1f}" height="4"/></svg>'
        )
        cells = [
            f"{figures['accuracy']:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{figures['correct']} of {figures['cases']}",
            f"{figures['call_validity']:.1%}",
            f"{figures['repair_rate']:.1%}",
            f"{figures['generated_tokens'] / max(1, figures['cases']):.0f}",
            f"{figures['seconds_per_case']:.2f}",
        ]
        rows.append(
            f"<tr><td>{escape(name)}</td><td>{bar}</td>"
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + "</tr>"
        )
    head = ("right", "95 % interval", "cases", "valid calls", "mended", "tokens a case", "s a case")
    return (
        "<table><tr><th>Category</th><th></th>"
        + "".join(f'<th class="n">{escape(name)}</th>' for name in head)
        + f"</tr>{''.join(rows)}</table>"
    )


def _confusion(report: ToolReport) -> str:
    """Kinds of failures against categories."""
    kinds = list(report.failures)
    if not kinds:
        return "<p>None.</p>"
    names = report.categories
    counts = {name: report.category(name).failures for name in names}
    most = max(counts[name].get(kind, 0) for name in names for kind in kinds)
    rows = []
    for kind in kinds:
        cells = []
        for name in names:
            count = counts[name].get(kind, 0)
            shade = f' style="background: rgb(192 80 77 / {0.75 * count / most:.2f})"'
            cells.append(f'<td class="n"{shade if count else ""}>{count or ""}</td>')
        meaning = f"{escape(kind)} <small>{escape(FAILURES.get(kind, ''))}</small>"
        rows.append(f"<tr><td>{meaning}</td>{''.join(cells)}</tr>")
    head = "".join(f'<th class="n">{escape(name)}</th>' for name in names)
    return f"<table><tr><th>Kind</th>{head}</tr>{''.join(rows)}</table>"


def _failed(report: ToolReport) -> str:
    failed = [result for result in report.results if not result.verdict.correct]
    rows = "".join(_case(result) for result in failed[:_SHOWN_CASES])
    more = len(failed) - _SHOWN_CASES
    note = f"<p><small>{more} more are not shown.</small></p>" if more > 0 else ""
    head = "<tr><th>Case</th><th>Question</th><th>Failure</th><th>Written</th><th>Right</th></tr>"
    return f"<table>{head}{rows}</table>{note}"


def _case(result: CaseResult) -> str:
    question = str(result.case.messages[-1].get("content", ""))[:300]
    written = [{name: dict(arguments)} for name, arguments in result.calls]
    shown = json.dumps(written, ensure_ascii=False) if written else result.text[:300]
    right = json.dumps(list(result.case.answers), ensure_ascii=False)
    failure = f"{escape(result.verdict.failure)}<br><small>{escape(result.verdict.detail)}</small>"
    return (
        f"<tr><td>{escape(result.case.id)}</td><td>{escape(question)}</td><td>{failure}</td>"
        f"<td><code>{escape(shown[:600])}</code></td><td><code>{escape(right[:600])}</code></td>"
        "</tr>"
    )
