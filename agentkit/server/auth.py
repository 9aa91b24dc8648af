"""API keys: reading them, and telling who a request comes from."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers

from agentkit.errors import UserError
from agentkit.server.errors import ApiError
from agentkit.server.options import ApiKey

__all__ = ["KEYS_VARIABLE", "Caller", "KeyRing", "read_keys", "read_keys_file"]

KEYS_VARIABLE = "AGENTKIT_API_KEYS"
"""Environment variable with the keys of ``agentkit serve``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who a request comes from."""

    name: str
    """The key's name; the address, where there are no keys."""
    key: ApiKey | None = None
    """The key, if there are keys."""


class KeyRing:
    """The keys that open the server.

    Args:
        keys: All of them; with none, everyone may come in.
    """

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = [(_digest(key.key), key) for key in keys]

    def caller(self, headers: Headers, address: str) -> Caller:
        """Who sends these headers.

        Raises:
            ApiError: 401: there are keys, and theirs is none of them.
        """
        if not self._keys:
            return Caller(name=address)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise ApiError(
                401,
                "this server needs an API key; send it as `Authorization: Bearer KEY`",
                code="missing_api_key",
            )
        # Every key is looked at, and digests of one length are compared: time tells nothing.
        sent = _digest(token.strip())
        found = None
        for digest, key in self._keys:
            if hmac.compare_digest(digest, sent):
                found = key
        if found is None:
            raise ApiError(401, "the API key is not valid", code="invalid_api_key")
        return Caller(name=found.name, key=found)


def read_keys(text: str, *, where: str) -> tuple[ApiKey, ...]:
    """Read keys: ``NAME:KEY``, or a key alone, separated by commas or lines; ``#`` for comments.

    Args:
        text: The keys.
        where: What to call the text in errors.

    Raises:
        UserError: There is none, or one has no usable form.
    """
    keys: list[ApiKey] = []
    lines = [line.partition("#")[0] for line in text.splitlines()]
    for entry in (entry.strip() for line in lines for entry in line.split(",")):
        if not entry:
            continue
        name, colon, key = entry.partition(":")
        if not colon:
            name, key = f"key-{len(keys) + 1}", entry
        keys.append(ApiKey(name=name.strip(), key=key.strip()))
    if not keys:
        raise UserError(f"{where} holds no API key; write one as NAME:KEY")
    return tuple(keys)


def read_keys_file(path: str | Path) -> tuple[ApiKey, ...]:
    """Read the keys of a file; see :func:`read_keys`.

    Raises:
        UserError: It cannot be read, or holds none.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"the file of API keys {path} cannot be read: {error}") from error
    return read_keys(text, where=f"the file {path}")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
