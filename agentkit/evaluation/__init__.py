"""Measuring models: how well they call tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit._lazy import lazy_exports

if TYPE_CHECKING:
    from agentkit.evaluation.bfcl_data import BFCLCase, expand_categories, find_bfcl, read_cases
    from agentkit.evaluation.bfcl_scoring import Verdict, judge
    from agentkit.evaluation.html_report import html_report
    from agentkit.evaluation.tool_calling import CaseResult, ToolReport, evaluate_tools

__all__ = [
    "BFCLCase",
    "CaseResult",
    "ToolReport",
    "Verdict",
    "evaluate_tools",
    "expand_categories",
    "find_bfcl",
    "html_report",
    "judge",
    "read_cases",
]

_HOMES = {
    "BFCLCase": ".bfcl_data",
    "CaseResult": ".tool_calling",
    "ToolReport": ".tool_calling",
    "Verdict": ".bfcl_scoring",
    "evaluate_tools": ".tool_calling",
    "expand_categories": ".bfcl_data",
    "find_bfcl": ".bfcl_data",
    "html_report": ".html_report",
    "judge": ".bfcl_scoring",
    "read_cases": ".bfcl_data",
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
