"""Evaluating tool calls: from cases to figures, reports and the command."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentkit import ModelError, ScriptedModel, ToolCall, UserError
from agentkit.cli.app import app
from agentkit.cli.eval_tools import _print_table
from agentkit.evaluation import ToolReport, evaluate_tools, html_report, read_cases
from bfcl_support import write_data

AREA = ToolCall(name="shapes.area", arguments={"width": 2, "height": 3})
BOOK = ToolCall(name="book", arguments={"names": ["Ann Lee", "Bob"]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def evaluate(folder: Path, *categories: str, turns: list[Any], **options: Any) -> ToolReport:
    cases = [case for name in categories for case in read_cases(folder, name)]
    with ScriptedModel(turns) as model:
        return asyncio.run(evaluate_tools(model, cases, **options))


def test_figures(folder: Path) -> None:
    report = evaluate(
        folder,
        "simple_python",
        "parallel_multiple",
        "irrelevance",
        "live_relevance",
        turns=[
            # A number as text is mended by the agent, so that the tool gets the right one.
            ToolCall(name="shapes.area", arguments={"width": "2", "height": 3}),
            ToolCall(name="book", arguments={"names": ["Ann Lee"]}),
            [BOOK, AREA],
            "I am fine.",
            "I do not know how.",
        ],
    )
    assert [result.verdict.correct for result in report.results] == [True, False, True, True, False]
    figures = report.to_dict()
    assert next(iter(figures)) == "accuracy"
    assert figures["accuracy"] == 0.6
    assert figures["interval"][0] < 0.6 < figures["interval"][1]
    assert figures["failures"] == {"value": 1, "no_call": 1}
    assert figures["categories"]["simple_python"]["accuracy"] == 0.5
    assert (figures["calls"], figures["call_validity"], figures["repair_rate"]) == (4, 1.0, 0.25)
    assert figures["prompt_tokens"] > 0
    # One of four that want a call got none, and the one that wants none got none.
    assert (figures["missed_call_rate"], figures["false_call_rate"]) == (0.25, 0.0)
    assert figures["meta"] == {"model": "scripted", "grammar": True, "tool_choice": "auto"}
    detailed = report.to_dict(cases=True)["results"]
    assert detailed[0]["calls"] == [{"shapes.area": {"width": 2, "height": 3}}]
    assert json.dumps(detailed)


def test_each_case_is_one_turn_with_its_functions(folder: Path) -> None:
    model = ScriptedModel([[BOOK, AREA]])
    cases = read_cases(folder, "parallel_multiple")
    options = {"constrain": False, "system": "Call functions."}
    asyncio.run(evaluate_tools(model, cases, **options))  # type: ignore[arg-type]
    (request,) = model.requests
    assert [tool.name for tool in request.tools] == ["shapes.area", "book"]
    assert [message.content for message in request.messages] == ["Call functions.", "Both, please."]
    assert request.constrain is False


@pytest.mark.parametrize(
    ("turn", "failure", "validity"),
    [
        ("It is 6.", "no_call", 0.0),
        ("<tool_call>\n{broken\n</tool_call>", "unreadable", 0.0),
        (ToolCall(name="area", arguments={}), "function", 0.0),
        (ToolCall(name="shapes.area", arguments={"width": "wide"}), "missing_argument", 0.0),
        (ModelError("no memory left"), "failed", 0.0),
    ],
)
def test_failures(folder: Path, turn: Any, failure: str, validity: float) -> None:
    report = evaluate(folder, "simple_python", turns=[turn, BOOK])
    assert report.results[0].verdict.failure == failure
    assert report.results[1].verdict.correct
    assert report.results[0].valid == validity


def test_an_unreadable_call_is_no_call_where_none_is_needed(folder: Path) -> None:
    report = evaluate(folder, "irrelevance", turns=["<tool_call>\n{broken\n</tool_call>"])
    assert report.accuracy == 1


def test_concurrency_keeps_the_order(folder: Path) -> None:
    def answer(request: Any) -> ToolCall:
        return AREA if "area" in request.messages[-1].content else BOOK

    told: list[str] = []
    report = evaluate(
        folder,
        "simple_python",
        turns=[answer, answer],
        concurrency=2,
        progress=lambda result: told.append(result.case.id),
    )
    assert [result.case.id for result in report.results] == ["simple_python_0", "simple_python_1"]
    assert report.accuracy == 1
    assert sorted(told) == ["simple_python_0", "simple_python_1"]
    with pytest.raises(UserError, match="concurrency"):
        evaluate(folder, "simple_python", turns=[], concurrency=0)


def test_html_is_self_contained_and_escaped(folder: Path) -> None:
    text = "<script>alert(1)</script>"
    report = evaluate(folder, "simple_python", "irrelevance", turns=[text, BOOK, AREA])
    page = html_report(report)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=|https?://", page)
    assert "no_call" in page
    assert "unneeded_call" in page
    assert "66.7%" not in page
    assert "33.3%" in page
    nothing_wrong = html_report(evaluate(folder, "irrelevance", turns=["Fine."]))
    assert "None." in nothing_wrong


def test_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _print_table(evaluate(folder, "simple_python", "irrelevance", turns=["None.", BOOK, AREA]))
    table = capsys.readouterr().out
    for expected in ("simple_python", "irrelevance", "all", "50.0%", "33.3%", "no call where one"):
        assert expected in table


@pytest.mark.model
def test_the_command(folder: Path, tmp_path: Path) -> None:
    runner = CliRunner(env={"AGENTKIT_MODEL": "embedded"})
    page, lines = tmp_path / "report.html", tmp_path / "cases.jsonl"
    arguments = ["eval", "tools", "--bfcl", str(folder), "-c", "simple_python", "--limit", "1"]
    arguments += ["--max-tokens", "60"]
    done = runner.invoke(app, [*arguments, "--json", "--html", str(page), "--output", str(lines)])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert next(iter(figures)) == "accuracy"
    assert figures["cases"] == 1
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(lines.read_text(encoding="utf-8"))["id"] == "simple_python_0"


def test_the_commands_mistakes(folder: Path) -> None:
    runner = CliRunner()
    for arguments, message in (
        (["--bfcl", str(folder / "none")], "holds no"),
        (["--bfcl", str(folder), "-c", "simpel"], "no category 'simpel'"),
        (["--bfcl", str(folder), "--html", str(folder)], "cannot be written"),
    ):
        done = runner.invoke(app, ["eval", "tools", *arguments])
        assert done.exit_code == 2
        assert message in done.stderr
