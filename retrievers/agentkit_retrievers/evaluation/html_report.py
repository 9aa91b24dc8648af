"""A comparison of searches as one HTML page that needs nothing else."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from agentkit_retrievers.evaluation.retrieval import METRICS, RetrievalReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentkit_retrievers.evaluation.retrieval import RetrievalScores

__all__ = ["html_report"]

_STYLE = """
:root { color-scheme: light dark;
  --bar: #4a7dbd; --line: #8886; --good: #2e8b57; --bad: #c0504d }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .7rem;
  text-align: left }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
tr + tr { border-top: 1px solid var(--line) } small { opacity: .7 }
svg { width: 100%; height: auto } svg text { fill: currentColor; font: 12px system-ui, sans-serif }
"""
_LABEL, _PLOT, _ROW = 190, 520, 26
_SHOWN_QUERIES = 15


def html_report(report: RetrievalReport, *, title: str = "Retrieval") -> str:
    """A page with a table, a plot of each metric with its intervals, and questions that differ.

    Returns:
        Self-contained HTML: no scripts, and nothing from elsewhere.
    """
    meta = report.to_dict()["meta"]
    facts = " · ".join(f"{escape(str(key))}: {escape(str(value))}" for key, value in meta.items())
    plots = "".join(f"<h2>{escape(metric)}</h2>{_plot(report, metric)}" for metric in METRICS)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1><p><small>{facts}</small></p>"
        f"{_table(report)}<p><small>Intervals: 95 %, bootstrap over questions. Gains: over the "
        "first configuration, on the same questions.</small></p>"
        f"{plots}{_queries(report)}</html>\n"
    )


def _table(report: RetrievalReport) -> str:
    head = "".join(f'<th class="n">{escape(metric)}</th>' for metric in METRICS)
    baseline = next(iter(report.configurations.values()))
    rows = []
    for name, result in report.configurations.items():
        cells = "".join(f'<td class="n">{_cell(result, metric)}</td>' for metric in METRICS)
        base = baseline.estimate("ndcg@10").mean
        gain = (
            ""
            if result is baseline or not base
            else (f"{result.gain('ndcg@10', baseline).mean / base:+.1%}")
        )
        rows.append(
            f'<tr><td>{escape(name)}</td>{cells}<td class="n">{gain}</td>'
            f'<td class="n">{1000 * result.seconds:.1f}</td></tr>'
        )
    return (
        f'<table><tr><th>configuration</th>{head}<th class="n">gain in ndcg@10</th>'
        f'<th class="n">ms a question</th></tr>{"".join(rows)}</table>'
    )


def _cell(result: RetrievalScores, metric: str) -> str:
    each = result.estimate(metric)
    return f"{each.mean:.3f} <small>{each.low:.3f}–{each.high:.3f}</small>"


def _plot(report: RetrievalReport, metric: str) -> str:
    """Bars with intervals, on an axis from 0 to 1."""
    parts = []
    height = _ROW * len(report.configurations) + 24
    for tick in range(6):
        x = _LABEL + _PLOT * tick / 5
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 20}" stroke="var(--line)"/>'
            f'<text x="{x:.1f}" y="{height - 5}" text-anchor="middle">{tick / 5:.1f}</text>'
        )
    for row, (name, result) in enumerate(report.configurations.items()):
        each = result.estimate(metric)
        y = row * _ROW + _ROW / 2
        low, high = _LABEL + _PLOT * each.low, _LABEL + _PLOT * each.high
        parts.append(
            f'<text x="{_LABEL - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_LABEL}" y="{y - 8:.1f}" width="{_PLOT * each.mean:.1f}" height="16" '
            f'fill="var(--bar)"><title>{each.mean:.4f}</title></rect>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" '
            'stroke="currentColor" stroke-width="2"/>'
            f'<text x="{max(high, _LABEL + _PLOT * each.mean) + 6:.1f}" y="{y + 4:.1f}">'
            f"{each.mean:.3f}</text>"
        )
    return (
        f'<svg viewBox="0 0 {_LABEL + _PLOT + 60} {height}" role="img" '
        f'aria-label="{escape(metric)} by configuration">{"".join(parts)}</svg>'
    )


def _queries(report: RetrievalReport) -> str:
    """The questions on which the last configuration differs most from the first."""
    names = list(report.configurations)
    if len(names) < 2:
        return ""
    first, last = report.configurations[names[0]], report.configurations[names[-1]]
    pairs = zip(report.queries, first.scores["ndcg@10"], last.scores["ndcg@10"], strict=True)
    ranked = sorted(pairs, key=lambda pair: pair[2] - pair[1])
    better, worse = ranked[::-1][:_SHOWN_QUERIES], ranked[:_SHOWN_QUERIES]
    title = f"{escape(names[-1])} against {escape(names[0])}, ndcg@10 of single questions"
    return (
        f"<h2>{title}</h2><h3>Gained most</h3>{_query_rows([p for p in better if p[2] > p[1]])}"
        f"<h3>Lost most</h3>{_query_rows([p for p in worse if p[2] < p[1]])}"
    )


def _query_rows(pairs: Sequence[tuple[object, float, float]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(getattr(query, 'text', '')))}</td>"
        f'<td class="n">{before:.2f} → {after:.2f}</td></tr>'
        for query, before, after in pairs
    )
    return f"<table>{rows}</table>" if rows else "<p>None.</p>"
