"""Many prompts over many engines, with Ray Data."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from agentkit.cluster._ray import import_ray
from agentkit.errors import ModelError, UserError
from agentkit.models.base import ModelRequest, Sampling, generate

__all__ = ["actor_pool", "run_batch"]


def run_batch(
    prompts: Iterable[str | ModelRequest] | Any,
    *,
    model: str | None = None,
    replicas: int | tuple[int, int] = 1,
    sampling: Sampling | None = None,
    system: str | None = None,
    batch_size: int = 32,
    column: str = "prompt",
    cpus: float = 1.0,
    gpus: float = 0.0,
    model_options: Mapping[str, Any] | None = None,
) -> Any:
    """Have many prompts answered by engines that Ray Data starts, feeds and replaces.

    Nothing runs before the dataset is read (``iter_rows``, ``write_parquet``, ...). Rows of one
    batch are written side by side. A batch whose engine dies is done again by another one.

    Args:
        prompts: Texts or requests, or a Ray dataset with a column of texts.
        model: As for :class:`agentkit.TransformersModel`.
        replicas: Engines; a pair for as few and as many as the work asks for.
        sampling: How tokens are chosen, where prompts are texts.
        system: Instructions, likewise.
        batch_size: Prompts that an engine gets at once.
        column: Of a dataset, that holds the prompt.
        cpus: CPU cores for each engine.
        gpus: GPUs likewise.
        model_options: Further options of :class:`agentkit.TransformersModel`.

    Returns:
        A Ray dataset in the order of the prompts: their columns, and ``output``,
        ``finish_reason``, ``prompt_tokens``, ``cached_tokens``, ``generated_tokens``, ``error``.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    import_ray()
    import ray.data

    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1")
    # Rows come back as their batches finish, unless Ray is told to keep them in order.
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    dataset: Any = prompts
    if not isinstance(prompts, ray.data.Dataset):
        rows = [{column: p, "index": i} for i, p in enumerate(prompts)]
        blocks = max(1, -(-len(rows) // batch_size))
        dataset = ray.data.from_items(rows, override_num_blocks=blocks)
    return dataset.map_batches(
        _EngineBatch,
        fn_constructor_args=(model, sampling, system, column, dict(model_options or {})),
        compute=actor_pool(ray.data, replicas),
        batch_size=batch_size,
        batch_format="numpy",
        num_cpus=cpus,
        num_gpus=gpus,
    )


def actor_pool(data: Any, replicas: int | tuple[int, int]) -> Any:
    """How many processes Ray Data starts.

    Args:
        data: The module ``ray.data``.
        replicas: Their number; a pair for as few and as many as the work asks for.
    """
    least, most = (replicas, replicas) if isinstance(replicas, int) else replicas
    return data.ActorPoolStrategy(min_size=least, max_size=most)


class _EngineBatch:
    """An engine in a process of Ray Data's."""

    def __init__(
        self,
        model: str | None,
        sampling: Sampling | None,
        system: str | None,
        column: str,
        options: Mapping[str, Any],
    ) -> None:
        from agentkit.models.transformers_model import TransformersModel

        self._model = TransformersModel(model, **options).load()
        self._sampling = sampling or Sampling()
        self._system = system
        self._column = column

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = asyncio.run(self._answer(list(batch[self._column])))
        for name in rows[0] if rows else ():
            batch[name] = _column([row[name] for row in rows])
        if any(isinstance(prompt, ModelRequest) for prompt in batch[self._column]):
            del batch[self._column]
        return batch

    async def _answer(self, prompts: Iterable[str | ModelRequest]) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*map(self._one, prompts)))

    async def _one(self, prompt: str | ModelRequest) -> dict[str, Any]:
        request = prompt if isinstance(prompt, ModelRequest) else self._request(str(prompt))
        row: dict[str, Any] = {
            "output": "",
            "finish_reason": "",
            "prompt_tokens": 0,
            "cached_tokens": 0,
            "generated_tokens": 0,
            "error": "",
        }
        try:
            done = await generate(self._model, request)
        except ModelError as error:
            # One prompt that is too long must not cost the others their answers.
            return {**row, "error": f"{type(error).__name__}: {error}"}
        return {
            **row,
            "output": "".join([done.text, *(call.raw for call in done.calls)]),
            "finish_reason": done.finish_reason,
            "prompt_tokens": done.usage.prompt_tokens,
            "cached_tokens": done.usage.reused_tokens,
            "generated_tokens": done.usage.generated_tokens,
        }

    def _request(self, prompt: str) -> ModelRequest:
        from agentkit.messages import SystemMessage, UserMessage

        messages = (UserMessage(prompt),)
        system = () if self._system is None else (SystemMessage(self._system),)
        return ModelRequest(messages=(*system, *messages), sampling=self._sampling)


def _column(values: list[Any]) -> Any:
    import numpy as np

    if values and isinstance(values[0], str):
        return np.array(values, dtype=object)
    return np.array(values)
