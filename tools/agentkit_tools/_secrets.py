"""Credentials in use, so that they can be kept out of what models, errors and logs hold."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from agentkit_tools._http_response import redact, spellings

__all__ = ["in_use", "note_secrets", "watching"]

_current: ContextVar[set[str] | None] = ContextVar("agentkit_secrets", default=None)


@contextmanager
def watching(secrets: Iterable[str]) -> Iterator[None]:
    """Collect the secrets that a call uses, and keep them out of the log.

    Args:
        secrets: That are known already.
    """
    known = _current.get()
    if known is not None:  # Fetching a token amid a call.
        known.update(secrets)
        yield
        return
    token = _current.set(set(secrets))
    try:
        yield
    finally:
        _current.reset(token)


def note_secrets(*secrets: str) -> None:
    """Say that the running call uses these texts; for :class:`~agentkit_tools.auth.Auth`."""
    known = _current.get()
    if known is not None:
        known.update(secrets)


def in_use() -> tuple[str, ...]:
    """The spellings of the running call's secrets; see :func:`redact`."""
    return spellings(_current.get() or ())


class _Redaction(logging.Filter):
    """httpx logs URLs, and httpcore headers of responses: both may hold a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _current.get():
            record.msg, record.args = redact(record.getMessage(), in_use()), ()
        return True


# Filters are not inherited, so each logger that speaks of requests gets its own.
for _name in (
    "httpx",
    *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy")),
):
    logging.getLogger(_name).addFilter(_Redaction())
