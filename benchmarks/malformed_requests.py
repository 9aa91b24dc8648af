"""10,000 malformed requests: ``python -m benchmarks.malformed_requests [EXAMPLES]``.

schemathesis makes them from the server's own OpenAPI document, for each operation as many; the
server must answer none of them with a 5xx. One in three is in good form, and asks for the model and
the agent that are there, so that what stands behind the checks is reached too.
"""

from __future__ import annotations

import math
import sys
from collections import Counter

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from agentkit import Agent, Model, ModelRequest
from agentkit.models.base import ModelResponse
from agentkit.server import create_app

__all__ = ["run"]


_NAMES = {"model": "fine", "agent": "clerk"}


class _Fine:
    name = "fine"

    async def stream(self, request: ModelRequest):  # type: ignore[no-untyped-def]
        yield ModelResponse(text="fine")

    async def aclose(self) -> None: ...


def run(total: int) -> Counter[tuple[str, int]]:
    """Send so many requests; counts them by operation and status."""
    model: Model = _Fine()
    app = create_app(model, agents={"clerk": Agent(model)})
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [result.ok() for result in schema.get_all_operations()]
    takers = [o for o in operations if o.method.upper() == "POST"]
    seen: Counter[tuple[str, int]] = Counter()
    for operation in takers:
        # Twice as many broken ones as good ones.
        for mode, share in ((GenerationMode.NEGATIVE, 2 / 3), (GenerationMode.POSITIVE, 1 / 3)):
            cases = operation.as_strategy(generation_mode=mode)
            if mode is GenerationMode.POSITIVE:
                cases = cases.map(_aimed)

            @given(case=cases)
            @settings(
                max_examples=math.ceil(total * share / len(takers)),
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def send(case: schemathesis.Case) -> None:
                reply = case.call()
                seen[case.operation.label, reply.status_code] += 1
                assert reply.status_code < 500, (case.body, reply.text)

            send()
    return seen


def _aimed(case: schemathesis.Case) -> schemathesis.Case:
    """The request, at what is there."""
    if "name" in case.path_parameters:
        case.path_parameters["name"] = "clerk"
    if isinstance(case.body, dict):
        case.body.update({key: name for key, name in _NAMES.items() if key in case.body})
    return case


if __name__ == "__main__":
    counts = run(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    for (label, status), count in sorted(counts.items()):
        print(f"{label:50} {status} {count:6}")
    print(f"{sum(counts.values())} requests, no 5xx")
