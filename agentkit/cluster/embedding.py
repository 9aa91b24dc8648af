"""Embedding a large corpus over many processes, with Ray Data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from agentkit.cluster._ray import import_ray
from agentkit.errors import UserError

if TYPE_CHECKING:
    from agentkit_retrievers.embedding import Embedder

__all__ = ["embed_corpus"]


def embed_corpus(
    passages: Iterable[str] | Any,
    *,
    embedder: str | Callable[[], Embedder] = "minilm",
    replicas: int | tuple[int, int] = 1,
    batch_size: int = 256,
    column: str = "text",
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> Any:
    """Embed passages with models that Ray Data starts, feeds and replaces.

    Nothing runs before the dataset is read (``iter_batches``, ``write_parquet``, ...), and no
    more of it is in memory than is at work.

    Args:
        passages: Texts, or a Ray dataset with a column of texts
            (``ray.data.read_parquet(...)``).
        embedder: Name or folder of a sentence-transformers model, or a function that makes an
            embedder.
        replicas: Models; a pair for as few and as many as the work asks for.
        batch_size: Passages that a model gets at once.
        column: Of a dataset, that holds the text.
        cpus: CPU cores for each model.
        gpus: GPUs likewise.

    Returns:
        A Ray dataset in the order of the passages: their columns, and ``embedding``, a normalised
        float32 vector.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    import_ray()
    import ray.data

    from agentkit.cluster.batch import actor_pool

    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1")
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    dataset: Any = passages
    if not isinstance(passages, ray.data.Dataset):
        rows = [{column: text} for text in passages]
        blocks = max(1, -(-len(rows) // batch_size))
        dataset = ray.data.from_items(rows, override_num_blocks=blocks)
    return dataset.map_batches(
        _EmbedderBatch,
        fn_constructor_args=(embedder, column, max(1, int(cpus))),
        compute=actor_pool(ray.data, replicas),
        batch_size=batch_size,
        batch_format="numpy",
        num_cpus=cpus,
        num_gpus=gpus,
    )


class _EmbedderBatch:
    """An embedding model in a process of Ray Data's."""

    def __init__(self, embedder: str | Callable[[], Embedder], column: str, threads: int) -> None:
        import torch

        from agentkit_retrievers import SentenceTransformerEmbedder

        torch.set_num_threads(threads)
        self._column = column
        self._embedder: Embedder = (
            SentenceTransformerEmbedder(embedder) if isinstance(embedder, str) else embedder()
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        texts = [str(text) for text in batch[self._column]]
        return {**batch, "embedding": self._embedder.embed_documents(texts)}
