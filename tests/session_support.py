"""Databases for the tests of sessions: SQLite, and Postgres where there is a server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentkit.sessions import SessionStore, schema

POSTGRES = os.environ.get("AGENTKIT_TEST_POSTGRES", "")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty database."""
    if request.param == "sqlite":
        yield str(tmp_path / "sessions.db")
        return
    if not POSTGRES:
        pytest.skip("AGENTKIT_TEST_POSTGRES names no server")
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield str(schema.sa.make_url(POSTGRES).set(database=name).render_as_string(False))
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def store(url: str) -> Iterator[SessionStore]:
    with SessionStore.open(url) as opened:
        yield opened
