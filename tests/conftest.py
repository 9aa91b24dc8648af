"""Shared fixtures: the real embedded model, and Granite's real architecture with random weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from http_support import Service

# No test may reach for the network; what is not on this machine is not there.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from agentkit import TransformersModel
from support import granite_model


@pytest.fixture(scope="session")
def embedded() -> Iterator[TransformersModel]:
    """The embedded model, as users get it, in float32."""
    model = TransformersModel("embedded", dtype="float32")
    yield model.load()
    model.close()


@pytest.fixture(scope="session")
def granite() -> Iterator[TransformersModel]:
    """Dense Granite 4.0 with random weights."""
    model = granite_model(hybrid=False)
    yield model
    model.close()


@pytest.fixture(scope="session")
def granite_hybrid() -> Iterator[TransformersModel]:
    """Hybrid Granite 4.0 (Mamba-2 and attention layers) with random weights."""
    model = granite_model(hybrid=True)
    yield model
    model.close()


@pytest.fixture
def service() -> Iterator[Service]:
    """An HTTP server on this machine."""
    from http_support import Service

    running = Service()
    yield running
    running.close()


@pytest.fixture
def http_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Retries without pauses, credentials in the environment, and no proxies."""
    import stamina

    from http_support import SECRET

    monkeypatch.setenv("PROBE_TOKEN", SECRET)
    monkeypatch.setenv("PROBE_USER", "ann")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture(
    params=["granite", "granite_hybrid", pytest.param("embedded", marks=pytest.mark.model)]
)
def model(request: pytest.FixtureRequest) -> TransformersModel:
    """Each of the three in turn."""
    fixture: TransformersModel = request.getfixturevalue(request.param)
    return fixture
