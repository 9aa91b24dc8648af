"""``agentkit serve``: a model and agents over HTTP."""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agentkit.cli.console import notes_console
from agentkit.cli.failures import with_exit_codes
from agentkit.cli.options import ModelName
from agentkit.errors import UserError

if TYPE_CHECKING:
    from agentkit.agent import Agent
    from agentkit.models.base import Model
    from agentkit.server import ApiKey, StoredConversations

__all__ = ["serve"]

_LIMITS = "Limits"
_KEYS = "Keys and access"


@with_exit_codes
def serve(
    model: ModelName = None,
    agents: Annotated[
        list[str] | None,
        typer.Option(
            "--agents",
            "-a",
            metavar="[NAME=]MODULE:ATTRIBUTE",
            help="An agent to serve, or a function that makes one; `file.py:attribute` works too. "
            "May be repeated. Named after the attribute, if no name is given.",
        ),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="A sentence-transformers model for `/v1/embeddings`: `minilm`, …"
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen at.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 for any free one.")
    ] = 8000,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="API keys, `NAME:KEY` in each line.", rich_help_panel=_KEYS
        ),
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:KEY",
            help="An API key; others on this machine can see it. May be repeated. The environment "
            "variable `AGENTKIT_API_KEYS` is better: keys separated by commas.",
            rich_help_panel=_KEYS,
        ),
    ] = None,
    no_auth: Annotated[
        bool,
        typer.Option(
            "--no-auth",
            help="Serve anyone who can reach an address that is not a loopback one.",
            rich_help_panel=_KEYS,
        ),
    ] = False,
    sessions: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Keep the page's sessions in this SQLite file, or at a `postgresql://` URL; else "
            "they end with the server.",
        ),
    ] = None,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="A page for people at `/`.")
    ] = True,
    metrics: Annotated[
        Literal["open", "key", "off"],
        typer.Option(help="Who may read `/metrics`.", rich_help_panel=_KEYS),
    ] = "open",
    cors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="A web origin whose pages may use the server. May be repeated.",
            rich_help_panel=_KEYS,
        ),
    ] = None,
    served_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name for the model. May be repeated."),
    ] = None,
    max_running: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Requests at once.", rich_help_panel=_LIMITS),
    ] = 16,
    max_queued: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Requests that may wait; others are answered 429.",
            rich_help_panel=_LIMITS,
        ),
    ] = 64,
    max_tokens: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="The most tokens that one turn may write.",
            rich_help_panel=_LIMITS,
        ),
    ] = 4096,
    requests_per_minute: Annotated[
        float | None,
        typer.Option(min=0.01, metavar="N", help="Of each key.", rich_help_panel=_LIMITS),
    ] = None,
    tokens_per_minute: Annotated[
        float | None,
        typer.Option(min=1, metavar="N", help="Of each key.", rich_help_panel=_LIMITS),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="SECONDS", help="For a whole request.", rich_help_panel=_LIMITS
        ),
    ] = 600.0,
    drain: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="How long running requests may go on after SIGTERM.",
            rich_help_panel=_LIMITS,
        ),
    ] = 30.0,
) -> None:
    """Serve a model and agents over HTTP, as OpenAI's API does.

    Examples:

    - `agentkit serve --model embedded`

    - `agentkit serve --agents support=my_agents:support --embedder minilm`

    - `AGENTKIT_API_KEYS=ann:s3cret agentkit serve --host 0.0.0.0`
    """
    from agentkit.server import ServerOptions, create_app
    from agentkit.server import serve as run
    from agentkit.server.running import is_loopback

    keys = _keys(api_keys, api_key or [])
    local = is_loopback(host)
    if not keys and not local and not no_auth:
        raise UserError(
            f"--host {host} can be reached from other machines: set AGENTKIT_API_KEYS or "
            "--api-keys, or say --no-auth to serve anyone"
        )
    options = ServerOptions(
        api_keys=keys,
        metrics=metrics,
        page=page,
        served_names=tuple(served_name or ()),
        max_tokens=max_tokens,
        max_running=max_running,
        max_queued=max_queued,
        request_timeout=timeout,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        drain_seconds=drain,
        cors_origins=tuple(cors or ()),
        # Without keys a web page could otherwise reach this server by a name of its own.
        allowed_hosts=("localhost", "127.0.0.1", "[::1]", host) if local and not keys else (),
    )
    loaded = _agents(agents or [])
    chat_model: Model | str | None = model
    if page and not loaded:
        # Else there would be nobody to talk to on the page.
        only = _plain_agent(model)
        loaded, chat_model = {"chat": only}, only.model
    stored = None if sessions is None else _stored(sessions)
    app = create_app(
        chat_model, agents=loaded, embedder=embedder, options=options, conversations=stored
    )
    notes = notes_console()

    def tell(url: str) -> None:
        names = [app.state.agentkit.model.name, *(f"agent {name}" for name in loaded)]
        notes.print(f"serving {', '.join(names)} at {url}/v1")
        if page:
            notes.print(f"the page is at {url}/")

    run(app, host=host, port=port, log_level="warning", on_started=tell)


def _plain_agent(model: str | None) -> Agent:
    from agentkit.agent import Agent

    return Agent(model, name="chat")


def _stored(url: str) -> StoredConversations:
    from agentkit.server import StoredConversations
    from agentkit.sessions import SessionStore

    store = SessionStore.open(url)
    atexit.register(store.close)  # Only once the last run has ended.
    return StoredConversations(store)


def _keys(file: Path | None, given: list[str]) -> tuple[ApiKey, ...]:
    from agentkit.server.auth import KEYS_VARIABLE, read_keys, read_keys_file

    found: list[ApiKey] = []
    if variable := os.environ.get(KEYS_VARIABLE):
        found += read_keys(variable, where=KEYS_VARIABLE)
    if file is not None:
        found += read_keys_file(file)
    for text in given:
        found += read_keys(text, where="--api-key")
    return tuple(found)


def _agents(specs: list[str]) -> dict[str, Agent]:
    from agentkit.cli.agent_loading import load_agent

    agents: dict[str, Agent] = {}
    for spec in specs:
        name, equals, place = spec.partition("=")
        if not equals:
            name, place = spec.rpartition(":")[2], spec
        if name in agents:
            raise UserError(f"--agents: two agents are called {name!r}; write NAME={place}")
        agents[name] = load_agent(place, option="--agents")
    return agents
