"""The examples: what they are made of, and each of them as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from agentkit import FaissRetriever
from docs_qa import open_index
from hashing_embedder import HashingEmbedder
from weather_server import WEATHER, serve_weather

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """The environment of an example: offline, with the packages that this test has."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "COLUMNS": "200",
        "PYTHONIOENCODING": "utf-8",
    }


def run_example(
    name: str, *arguments: str, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        capture_output=True,
        encoding="utf-8",
        env=env,
        timeout=500,
        check=False,
    )


def test_calculator(environment: dict[str, str]) -> None:
    done = run_example("calculator.py", "2^3 + 1", "15% of 1,240", env=environment)
    assert done.stdout.splitlines() == ["2^3 + 1 = 9", "15% of 1,240 = 186"]
    done = run_example("calculator.py", "__import__('os')", env=environment)
    assert done.returncode == 1
    assert "is not arithmetic" in done.stderr


@pytest.mark.parametrize("place", ["Paris", "paris", "Paris,%20France"])
def test_weather_server(place: str) -> None:
    with serve_weather() as address, urllib.request.urlopen(f"{address}/weather/{place}") as reply:
        assert json.load(reply) == {
            "city": "Paris",
            "celsius": 18,
            "sky": "sunny",
            "summary": "18 degrees and sunny",
        }


@pytest.mark.parametrize("path", ["/weather/Atlantis", "/weather/", "/", "/other/Paris"])
def test_weather_server_knows_no_more(path: str) -> None:
    with serve_weather() as address, pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"{address}{path}")
    with raised.value as reply:
        assert reply.code == 404
        text = reply.read().decode()
        assert all(city in text for city in WEATHER)


def test_index_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "agentkit_retrievers.document_index.SentenceTransformerEmbedder", HashingEmbedder
    )
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "a.md").write_text("# A\n\nApples are red.", encoding="utf-8")
    builds = []
    build = FaissRetriever.from_folder.__func__  # type: ignore[attr-defined]

    def counted(cls: type[FaissRetriever], *args: object, **options: object) -> FaissRetriever:
        builds.append(args)
        return build(cls, *args, **options)

    monkeypatch.setattr(FaissRetriever, "from_folder", classmethod(counted))
    assert len(open_index(documents)) == 1
    assert len(open_index(documents)) == 1
    assert len(builds) == 1
    (documents / "b.md").write_text("# B\n\nBananas are yellow.", encoding="utf-8")
    assert len(open_index(documents)) == 2
    assert len(builds) == 2


@pytest.mark.model
@pytest.mark.parametrize(
    ("example", "question", "expected"),
    [
        (
            "docs_qa.py",
            "How long does the battery last without sun?",
            ["60 days", "[1] Power > Battery, power.md, characters 0-209"],
        ),
        (
            "weather_calculator.py",
            "How much is 12 times 34?",
            ["calculate(expression='12 * 34')", "The result is 408."],
        ),
        (
            "weather_calculator.py",
            "How warm is it in Madrid?",
            ["get_weather(city='Madrid')", "27 degrees and windy in Madrid"],
        ),
        (
            "langgraph_agent.py",
            "What is the weather in Paris?",
            ["stopped before get_weather(city='Paris')", "18 degrees and sunny in Paris"],
        ),
        (
            "combined.py",
            "How far does the radio reach in the open?",
            ["search_handbook(", "The radio reaches 300 metres", "radio.md, characters"],
        ),
    ],
)
def test_example(
    example: str, question: str, expected: list[str], environment: dict[str, str]
) -> None:
    done = run_example(example, question, env=environment)
    assert done.returncode == 0, done.stderr
    for text in expected:
        assert text in done.stdout


@pytest.mark.model
def test_demo(tmp_path: Path, environment: dict[str, str]) -> None:
    picture = tmp_path / "demo.svg"
    done = run_example("demo.py", "--svg", str(picture), env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 answers are right." in done.stdout
    assert picture.read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.model
def test_unknown_model_is_one_line(environment: dict[str, str]) -> None:
    done = run_example("weather_calculator.py", "--model", "no/such-model", env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
