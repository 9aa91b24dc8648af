"""``agentkit serve``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from agentkit.cli.app import app
from agentkit.cli.failures import EXIT_USAGE
from server_support import wait_for

AGENTS = """
from agentkit import Agent, ScriptedModel
def clerk():
    return Agent(ScriptedModel(["Good day."]))
nothing = 3
"""


def test_agents_and_keys(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(AGENTS)
    command = [sys.executable, "-m", "agentkit.cli", "serve", "--port", "0"]
    command += ["--agents", "desk=served:clerk"]
    environment = {**os.environ, "AGENTKIT_API_KEYS": "ann:s3cret"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    environment.pop("AGENTKIT_MODEL", None)
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    try:
        assert process.stderr is not None
        told = process.stderr.readline()
        assert told.startswith("serving scripted, agent desk at http://127.0.0.1:")
        url = told.split(" at ")[1].strip().removesuffix("/v1")
        key = {"Authorization": "Bearer s3cret"}
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            wait_for(lambda: client.get("/ready").status_code == 200)
            assert client.get("/v1/agents").status_code == 401
            run = client.post("/v1/agents/desk/runs", json={"input": "Hello"}, headers=key)
            assert run.json()["output"] == "Good day."
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--agents", "served:nothing"], "is of type int; it must be an Agent"),
        (["--agents", "served:clark"], "did you mean 'clerk'?"),
        (["--agents", "served"], "give a module and a name"),
        (["--api-keys", "nowhere"], "cannot be read"),
    ],
)
def test_what_cannot_work_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    (tmp_path / "served.py").write_text(AGENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "served", raising=False)
    result = CliRunner().invoke(app, ["serve", *options])
    assert result.exit_code == EXIT_USAGE
    assert words in " ".join(result.stderr.split())
