"""Whether memory grows with the number of runs."""

from __future__ import annotations

import gc
import os

import psutil

from agentkit import Agent, Sampling, TransformersModel
from benchmarks.report import Figure

RUNS, WARM = 1000, 20


def run() -> list[Figure]:
    """Runs of different prompts; the stored caches are held to 16 MiB, which they reach early."""
    model = TransformersModel("embedded-base", cache_bytes=16 << 20).load()
    try:
        agent = Agent(model, system="Be brief.", sampling=Sampling(max_tokens=4))
        for number in range(WARM):
            _ask(agent, number)
        early = _resident()
        for number in range(WARM, RUNS):
            _ask(agent, number)
        return [
            Figure(
                what=f"memory after {RUNS} runs, against after {WARM}",
                ours=_resident() / early,
                unit="times",
                at_most=1.02,
            )
        ]
    finally:
        model.close()


def _ask(agent: Agent, number: int) -> None:
    agent.run_sync(f"Question {number}: name a colour.")


def _resident() -> int:
    gc.collect()
    return int(psutil.Process(os.getpid()).memory_info().rss)
