"""Two engines on a local Ray: throughput and cache hits by routing, and one killed under load.

``python -m benchmarks.cluster``; needs ``agentkit[ray]``, and is no part of ``make bench``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from typing import Any

from agentkit import ModelRequest, OpenAIModel, Sampling, SystemMessage, Usage, UserMessage
from agentkit.models.base import ModelResponse, generate
from benchmarks.baseline import TEXT

PORT = 18_123
TOPICS = ["bridges", "bread", "glass", "tides", "paper", "clocks", "salt", "maps"]


def main() -> None:
    """Measure, and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--at-once", type=int, default=6)
    parser.add_argument("--agents", type=int, default=16, help="different system texts")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--slack", type=float, default=1.25, help="see ClusterOptions.slack")
    parser.add_argument("--rounds", type=int, default=2, help="of both ways of routing in turn")
    options = parser.parse_args()
    import ray
    from ray import serve

    ray.init(num_cpus=2, include_dashboard=False, logging_level="warning")
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    try:
        texts: list[str] = []
        for routing in ("round_robin", "prefix") * options.rounds:
            _deploy(routing, options.slack)
            figures, texts = asyncio.run(_load(options))
            print(json.dumps({"routing": routing, **figures}), flush=True)
            serve.delete("agentkit")
        _deploy("prefix", options.slack)
        figures, again = asyncio.run(_load(options, kill=True))
        # Turns are greedy: what was begun on the dead engine should end as it did before.
        same = sum(map(str.__eq__, texts, again))
        figures = {**figures, "same_text": same, "engines": _running()}
        print(json.dumps({"killed": True, **figures}), flush=True)
    finally:
        serve.shutdown()
        ray.shutdown()


def _deploy(routing: Any, slack: float) -> None:
    from ray import serve

    from agentkit.cluster import ClusterOptions, cluster_app
    from agentkit.server import ServerOptions

    options = ClusterOptions(min_replicas=2, max_replicas=2, routing=routing, slack=slack)
    server = ServerOptions(max_running=64, max_queued=256, queue_timeout=600)
    app = cluster_app("embedded", options=options, server=server)
    serve.run(app, name="agentkit", route_prefix="/")


async def _load(
    options: argparse.Namespace, *, kill: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Figures, and the answers in the order of the questions (an empty one where there is none)."""
    model = OpenAIModel(f"http://127.0.0.1:{PORT}/v1")
    places = asyncio.Semaphore(options.at_once)
    answered = 0

    async def ask(i: int) -> ModelResponse:
        nonlocal answered
        # Shuffled by a stride, so that no routing is in step with the order of the agents.
        agent = (i * 5 + i // options.agents) % options.agents
        request = ModelRequest(
            messages=[
                SystemMessage(f"You are writer {agent}. {TEXT * 2}"),
                UserMessage(f"Story {i} of {TOPICS[i % len(TOPICS)]}."),
            ],
            sampling=Sampling(max_tokens=options.tokens),
        )
        async with places:
            response = await generate(model, request)
        answered += 1
        if kill and answered == options.requests // 3:
            await _kill_one()
        return response

    begin = time.perf_counter()
    done = await asyncio.gather(*map(ask, range(options.requests)), return_exceptions=True)
    seconds = time.perf_counter() - begin
    good = [response for response in done if isinstance(response, ModelResponse)]
    usage = sum((response.usage for response in good), Usage())
    await model.aclose()
    figures = {
        "asked": options.requests,
        "answered": len(good),
        "errors": [repr(error)[:200] for error in done if not isinstance(error, ModelResponse)],
        "seconds": round(seconds, 2),
        "written_per_second": round(usage.generated_tokens / seconds, 1),
        "cached": round(usage.reused_tokens / max(1, usage.prompt_tokens), 3),
    }
    return figures, [r.text if isinstance(r, ModelResponse) else "" for r in done]


async def _kill_one() -> None:
    """SIGKILL to an engine that this benchmark has started."""
    from ray import serve

    from agentkit.cluster import RouteKey

    handle = serve.get_deployment_handle("engine", app_name="agentkit")
    pid = await handle.pid.remote(route=RouteKey("", ""))
    os.kill(pid, signal.SIGKILL)


def _running() -> int:
    """Engines that run, the dead one's successor included."""
    from ray import serve

    deployment = serve.status().applications["agentkit"].deployments["engine"]
    return int(deployment.replica_states.get("RUNNING", 0))


if __name__ == "__main__":
    main()
