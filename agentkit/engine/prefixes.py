"""Prompt beginnings on the disk, so that a new process need not read them again.

The system text and the tools of an agent are the same at every start; their keys and values are
too. They are kept as safetensors files, one a beginning, named by a hash of the model and the
tokens. Reading such a file takes the time of copying it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from agentkit.engine.kv_cache import KVCache

__all__ = ["PrefixStore", "model_identity"]

logger = logging.getLogger(__name__)

_VERSION = "1"
_SUFFIX = ".prefix.safetensors"


class PrefixStore:
    """Caches of prompt beginnings in a folder. The least recently used go when it is full.

    Several processes may share a folder: files appear whole or not at all. A file that is damaged
    or of another model is passed over with a warning.

    Args:
        folder: Where the files are; made when the first is written.
        identity: Of the model; see :func:`model_identity`.
        max_bytes: What the files may occupy together.
        min_tokens: Beginnings shorter than this are not worth a file.
    """

    def __init__(
        self, folder: str | Path, *, identity: str, max_bytes: int, min_tokens: int = 64
    ) -> None:
        self._folder = Path(folder).expanduser()
        self._identity = identity
        self._max_bytes = max_bytes
        self.min_tokens = min_tokens
        """Beginnings shorter than this are not worth a file."""
        self._known: set[Path] = set()  # read or written by this process
        self._damaged: set[Path] = set()
        self._writer: ThreadPoolExecutor | None = None

    def load(self, token_ids: Sequence[int], config: Any, device: torch.device) -> KVCache | None:
        """The cache of exactly these tokens, if there is a file of it that is in order.

        Args:
            token_ids: The beginning.
            config: The model's configuration.
            device: Where the cache goes.
        """
        path = self._path(token_ids)
        if path in self._known or not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                self._check(file.metadata() or {}, token_ids)
                names = list(file.keys())
                cache = KVCache(config)
                cache.restore(token_ids, {name: file.get_tensor(name) for name in names})
            self._known.add(path)
            os.utime(path)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            logger.warning("the stored prompt prefix %s cannot be used: %s", path, error)
            self._damaged.add(path)
            return None
        return cache

    def wants(self, token_ids: Sequence[int]) -> bool:
        """Whether a file of these tokens is missing, and worth writing."""
        path = self._path(token_ids)
        if len(token_ids) < self.min_tokens or path in self._known:
            return False
        return path in self._damaged or not path.is_file()

    def save(self, cache: KVCache) -> None:
        """Write a cache to its file, in the background.

        Args:
            cache: Not to be used by anyone else.
        """
        path = self._path(cache.token_ids)
        self._known.add(path)
        if cache.nbytes > self._max_bytes:
            return
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="agentkit-prefixes")
        self._writer.submit(self._write, path, cache)

    def close(self) -> None:
        """Wait until everything is written."""
        if self._writer is not None:
            self._writer.shutdown()

    def _path(self, token_ids: Sequence[int]) -> Path:
        key = f"{_VERSION}\n{self._identity}\n{','.join(map(str, token_ids))}"
        return self._folder / (hashlib.sha256(key.encode()).hexdigest()[:40] + _SUFFIX)

    def _check(self, metadata: dict[str, str], token_ids: Sequence[int]) -> None:
        if metadata.get("model") != self._identity or metadata.get("version") != _VERSION:
            raise ValueError("it is of another model or version")
        if metadata.get("token_ids") != json.dumps(list(token_ids)):
            raise ValueError("it is of another prompt")

    def _write(self, path: Path, cache: KVCache) -> None:
        metadata = {
            "version": _VERSION,
            "model": self._identity,
            "token_ids": json.dumps(cache.token_ids),
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=".writing-")
            os.close(handle)
            try:
                save_file(cache.tensors(), name, metadata=metadata)
                Path(name).replace(path)
            finally:
                Path(name).unlink(missing_ok=True)
            self._drop_oldest(path)
        except (OSError, SafetensorError, RuntimeError, TypeError) as error:
            logger.warning("the prompt prefix could not be stored in %s: %s", path, error)

    def _drop_oldest(self, newest: Path) -> None:
        found = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            try:
                status = path.stat()
            except OSError:  # Another process has dropped it.
                continue
            found.append((path != newest, -status.st_mtime, status.st_size, path))
        total = 0
        for _, _, size, path in sorted(found):
            total += size
            if total > self._max_bytes:
                path.unlink(missing_ok=True)


def model_identity(model: Any, *, dtype: torch.dtype, backend: object, tokenizer: str) -> str:
    """A hash that differs between models whose caches differ.

    Of the weights only a sample is read: enough to tell a model from a fine-tuned one.

    Args:
        model: The transformers model.
        dtype: Of its weights.
        backend: What computes the caches; its ``identity``, or else its class, counts.
        tokenizer: Fingerprint of the vocabulary.
    """
    digest = hashlib.sha256()
    computed_by = getattr(backend, "identity", type(backend).__qualname__)
    for part in (str(dtype), computed_by, tokenizer, model.config.to_json_string(use_diff=False)):
        digest.update(f"{part}\n".encode())
    for name, parameter in model.named_parameters():
        sample = parameter.detach().flatten()
        sample = sample[:: max(1, sample.numel() // 16)].float().cpu()
        digest.update(name.encode() + sample.numpy().tobytes())
    return digest.hexdigest()
