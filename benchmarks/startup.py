"""How long ``import agentkit`` takes, beside importing torch."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.report import Figure, median_seconds


def run() -> list[Figure]:
    """Time whole processes, an empty one taken off."""
    empty, agentkit, agent, torch = (
        median_seconds(lambda code=code: _python(code), repeat=5)
        for code in (
            "",
            "import agentkit",
            "from agentkit import Agent, tool, HTTPTool",
            "import torch",
        )
    )
    return [
        Figure(
            what="import agentkit, against import torch",
            ours=agentkit - empty,
            baseline=torch - empty,
            unit="s",
            at_most=0.3,
        ),
        Figure(
            what="from agentkit import Agent, tool, HTTPTool",
            ours=agent - empty,
            baseline=torch - empty,
            unit="s",
        ),
    ]


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)
