"""How a server is set up."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from agentkit.errors import UserError
from agentkit.models.base import Sampling

__all__ = ["ApiKey", "ServerOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """Who may use the server, and how much."""

    name: str
    """Whose key it is; in logs and for limits, never the key itself."""
    key: str = field(repr=False)
    """What clients send as a bearer token."""
    requests_per_minute: float | None = None
    """In place of :attr:`ServerOptions.requests_per_minute`."""
    tokens_per_minute: float | None = None
    """In place of :attr:`ServerOptions.tokens_per_minute`."""

    def __post_init__(self) -> None:
        if not self.name or not self.key.strip() or not self.key.isascii():
            raise UserError(
                f"API key {self.name!r}: it needs a name, and a key of ASCII characters"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server treats its clients."""

    api_keys: tuple[ApiKey, ...] = ()
    """Who may use ``/v1``; anyone, if there are none."""
    metrics: Literal["open", "key", "off"] = "open"
    """Whether ``/metrics`` may be read by anyone, by those with a key, or not at all."""
    served_names: tuple[str, ...] = ()
    """Further names under which clients may ask for the model, such as ``gpt-4o-mini`` for
    programs that cannot be told another."""
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=1024))
    """What holds where a request says nothing."""
    max_tokens: int = 4096
    """The most tokens that one turn may be asked to write."""
    max_body_bytes: int = 4 << 20
    """The largest request, in bytes."""
    max_running: int = 16
    """Requests at work at once; turns of one model are written side by side."""
    max_queued: int = 64
    """Requests that may wait; further ones are answered 429 with ``Retry-After``."""
    queue_timeout: float = 60.0
    """Seconds that a request waits before it is answered 429."""
    request_timeout: float = 600.0
    """Seconds for a whole request, its waiting included."""
    body_timeout: float = 30.0
    """Seconds in which a client must have sent its request."""
    requests_per_minute: float | None = None
    """Of each key (without keys, of each address); a minute's worth may come at once."""
    tokens_per_minute: float | None = None
    """Likewise, read and written. Tokens that come from the cache are free."""
    heartbeat: float = 15.0
    """Seconds of silence after which a stream gets a comment, so that proxies keep it open."""
    drain_seconds: float = 30.0
    """On SIGTERM: how long running requests may go on."""
    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may use the server, such as ``https://app.example.org``; ``*`` for
    all of them."""
    allowed_hosts: tuple[str, ...] = ()
    """Values that the ``Host`` header may have; any, if not given."""
    paused_runs: int = 1024
    """Agent runs that are kept while they wait for approval; the oldest go first."""
    paused_seconds: float = 24 * 3600.0
    """How long they are kept."""
    page: bool = True
    """Whether there is a page at ``/``, with the routes below ``/v1/sessions`` that it needs.
    Who may use these sees prompts in full, with the agents' instructions."""
    stop_sequences: int = 16
    """How many stop strings a request may have."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            floor = 0 if f.name in ("max_queued", "drain_seconds", "paused_runs") else None
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if value < 0 or (floor is None and value == 0):
                raise UserError(f"ServerOptions.{f.name} is {value!r}; it must be above 0")
        if self.metrics not in ("open", "key", "off"):
            raise UserError(
                f"ServerOptions.metrics is {self.metrics!r}; it must be 'open', 'key' or 'off'"
            )
        for name in ("name", "key"):
            values = [getattr(key, name) for key in self.api_keys]
            if len(set(values)) < len(values):
                raise UserError(f"ServerOptions.api_keys: two keys have the same {name}")
