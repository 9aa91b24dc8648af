"""The commands as users run them: output, error lines, exit codes, and how light they start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentkit import RunResult, __version__
from agentkit.cli.app import app
from support import prompt_cases

CASES = prompt_cases()
HEAVY = ("torch", "transformers", "faiss", "sentence_transformers", "llguidance", "numpy")
TOOLS = '''
from agentkit import tool

@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b

def double(number: int) -> int:
    """Twice a number."""
    return 2 * number

@tool
def ping() -> str:
    """Ask whether anyone is there."""
    print("noise from a tool")
    return "pong"

LIMIT = 3
'''


def environment(**changes: str) -> dict[str, str]:
    """As this process's, with what it imports from; settings of the developer's own left out."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AGENTKIT_", "LC_", "LANG"))}
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
    return {**kept, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", **changes}


def agentkit(
    *args: str | Path, stdin: bytes = b"", cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "agentkit.cli", *map(str, args)],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=environment(**env),
        timeout=300,
    )


def invoke(*args: str | Path, stdin: str = "") -> Result:
    """Run the command in this process, which has torch imported already."""
    return CliRunner(env={"AGENTKIT_MODEL": "embedded"}).invoke(app, list(map(str, args)), stdin)


def error_line(output: str) -> str:
    """The one line that the output must consist of."""
    lines = output.splitlines()
    assert len(lines) == 1, output
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with tools and documents, which is the current one."""
    (tmp_path / "cli_tools.py").write_text(TOOLS, encoding="utf-8")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "reset.md").write_text("# Reset\n\nHold the red button to reset.\n", "utf-8")
    (docs / "warranty.txt").write_text("The warranty lasts three years.\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "cli_tools", raising=False)
    yield tmp_path
    sys.modules.pop("cli_tools", None)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_prompt_prints_the_expected_bytes_under_an_ascii_locale(
    case: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "case.json"
    file.write_text(json.dumps(case, ensure_ascii=False), encoding="utf-8")
    run = agentkit("prompt", file, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert run.stdout == case["expected"].encode("utf-8")
    assert (run.returncode, run.stderr) == (0, b"")


def test_prompt_reads_standard_input_and_opens_a_turn_unless_told_otherwise() -> None:
    conversation = '\ufeff{"messages": [{"role": "user", "content": "naïve"}]}'
    run = agentkit("prompt", "-", stdin=conversation.encode())
    assert run.stdout.decode().endswith(
        "naïve<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>"
    )


def test_prompt_in_chatml() -> None:
    run = invoke(
        "prompt", "-", "-f", "chatml", stdin='{"messages": [{"role": "user", "content": "x"}]}'
    )
    assert run.stdout.endswith("<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n")


def test_prompt_picks_a_case_of_a_list(tmp_path: Path) -> None:
    file = tmp_path / "cases.json"
    file.write_text(json.dumps(CASES), encoding="utf-8")
    assert invoke("prompt", file, "--case", "list-content").stdout == next(
        case["expected"] for case in CASES if case["name"] == "list-content"
    )
    for args in ((), ("--case", "bogus")):
        run = invoke("prompt", file, *args)
        assert run.exit_code == 2
        assert "parallel-calls" in error_line(run.stderr)
    assert "--case NAME" in invoke("prompt", file).stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"messages": [\n  {"role": }]}', "line 2, column 12"),
        ("[]", "--case"),
        ("3", "a number"),
        ("{}", '"messages"'),
        ('{"messages": "hi"}', "must be a list of objects, not text"),
        ('{"messages": ["hi"]}', "messages[0] must be an object, not text"),
        ('{"messages": [{"role": "alien", "content": ""}]}', "'alien'"),
        ('{"messages": [{"role": "user", "content": 3}]}', "messages[0].content"),
        ('{"messages": [], "tools": {}}', '"tools" must be a list of objects, not an object'),
        ('{"messages": [], "documents": [1]}', "documents[0] must be an object, not a number"),
        ('{"messages": [], "add_generation_prompt": 1}', "true or false"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate"),
        ("[" * 100_000, "nested"),
    ],
)
def test_prompt_says_what_is_wrong(text: str, expected: str) -> None:
    run = invoke("prompt", "-", stdin=text)
    assert (run.exit_code, run.stdout) == (2, "")
    assert expected in error_line(run.stderr)


def test_prompt_of_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'{\n"messages": "\xe9"}')
    assert "line 2" in error_line(invoke("prompt", tmp_path / "latin.json").stderr)
    assert "No such file" in error_line(invoke("prompt", tmp_path / "none.json").stderr)
    assert invoke("prompt", tmp_path / "none.json").exit_code == 2


def test_a_closed_pipe_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [sys.executable, "-m", "agentkit.cli", "prompt", "-"],
        input=b'{"messages": []}',
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    os.close(writer)
    assert (run.returncode, run.stderr) == (141, b"")


# Starting up


@pytest.mark.parametrize(
    "args",
    [["--help"], ["--version"], ["prompt", "-"]]
    + [[name, "--help"] for name in ("chat", "ask", "index", "prompt", "doctor")],
    ids=" ".join,
)
def test_what_answers_at_once_imports_nothing_heavy(args: list[str]) -> None:
    program = f"""
import sys
from agentkit.cli import main
sys.argv = ["agentkit", *{args!r}]
try:
    main()
finally:
    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        input=b'{"messages": []}',
        capture_output=True,
        env=environment(),
    )
    assert (run.returncode, run.stderr.strip()) == (0, b"[]")
    assert run.stdout


def test_version() -> None:
    assert invoke("--version").stdout == f"agentkit {__version__}\n"


@pytest.mark.parametrize("name", ["chat", "ask", "index", "prompt", "doctor"])
def test_help_of_every_command_has_examples(name: str) -> None:
    run = invoke(name, "--help")
    assert run.exit_code == 0
    assert f"agentkit {name}" in run.stdout.partition("Examples")[2]


# Mistakes


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--tools", "no_such_module"), "no module 'no_such_module'"),
        (("--tools", "cli_tools:ad"), "did you mean 'add'?"),
        (("--tools", "cli_tools:zzz"), "it has: add, double, ping"),
        (("--tools", "cli_tools:LIMIT"), "is of type int"),
        (("--tools", "cli_tools:"), "give a module"),
        (("--tools", "json"), "holds no tools"),
        (("--tools", "nowhere.py:add"), "no file nowhere.py"),
        (("--tools", "cli_tools", "--tools", "cli_tools.py"), "two tools are named 'add'"),
        (("--tools", "cli_tools", "--tool-choice", "sub"), "'sub'"),
        (("--tool-choice", "required"), "there are no tools"),
        (("--docs", "missing"), "no folder missing"),
        (("--docs", "cli_tools.py"), "is a file"),
        (("--model", "./missing"), "no model folder missing"),
    ],
)
def test_mistakes_are_one_line(project: Path, args: tuple[str, ...], expected: str) -> None:
    run = invoke("ask", "hi", *args)
    assert run.stdout == ""
    assert expected in error_line(run.stderr)
    # A model that cannot be loaded is the only one that is not plainly the caller's mistake.
    assert run.exit_code == (1 if "--model" in args else 2)


def test_a_damaged_index_is_not_taken_for_documents(project: Path) -> None:
    manifest = {"format": "agentkit-index", "version": 1, "files": {"vectors.faiss": {}}}
    (project / "docs" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    run = invoke("ask", "hi", "--docs", "docs")
    assert run.exit_code == 1
    assert "lacks its file vectors.faiss" in error_line(run.stderr)


def test_unreadable_documents_are_left_out_with_a_warning(project: Path) -> None:
    (project / "docs" / "bad.txt").write_bytes(b"\xff\xfe\xff")
    run = invoke("index", "docs", "--out", "docs.index")
    assert run.exit_code == 0
    assert "warning: left out: bad.txt" in run.stderr
    assert "Indexed 2 documents as 2 passages" in run.stdout


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import no_such_dependency", "needs the module 'no_such_dependency'"),
        ("x = 1\ny = x / 0", "ZeroDivisionError: division by zero (broken.py, line 2)"),
        ("from agentkit import tool\n@tool\ndef f(x): ...", "broken"),
    ],
)
def test_modules_that_fail_are_explained(project: Path, code: str, expected: str) -> None:
    (project / "broken.py").write_text(code, encoding="utf-8")
    run = agentkit("ask", "hi", "--tools", "broken", cwd=project)
    assert run.returncode == 2
    assert expected in error_line(run.stderr.decode())


def test_debug_shows_the_traceback(project: Path) -> None:
    for args, env in ((["--debug"], {}), ([], {"AGENTKIT_DEBUG": "1"})):
        run = agentkit(*args, "ask", "hi", "--tools", "nowhere", cwd=project, **env)
        assert run.stderr.startswith(b"Traceback")
        assert run.returncode == 1


def test_an_interrupt_ends_with_130(project: Path) -> None:
    (project / "stop.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    run = agentkit("ask", "hi", "--tools", "stop", cwd=project)
    assert (run.returncode, run.stdout, run.stderr) == (130, b"", b"interrupted\n")


@pytest.mark.parametrize(
    "args", [["ask"], ["ask", "hi", "--max-tokens", "0"], ["ask", "hi", "--bogus"], ["bogus"]]
)
def test_wrong_usage_ends_with_2(args: list[str]) -> None:
    assert invoke(*args).exit_code == 2


def test_an_empty_question_is_refused() -> None:
    run = invoke("ask", "-", stdin=" \n")
    assert run.exit_code == 2
    assert "empty" in error_line(run.stderr)


def test_chat_refuses_files_that_it_could_not_use(project: Path) -> None:
    for args, expected in (
        (("--save", "docs"), "is a folder"),
        (("--save", "none/talk.json"), "no folder"),
        (("--resume", "cli_tools.py"), "cannot be read"),
    ):
        run = invoke("chat", *args)
        assert run.exit_code == 2
        assert expected in error_line(run.stderr)


def test_index_refuses_folders_that_do_not_fit(project: Path) -> None:
    assert "no folder" in error_line(invoke("index", "missing", "--out", "i").stderr)
    assert "of its own" in error_line(invoke("index", "docs", "--out", "docs").stderr)
    run = invoke("index", "docs", "--out", "i", "--pattern", "*.pdf")
    assert run.exit_code == 1
    assert "*.pdf" in error_line(run.stderr)


# The real model


@pytest.mark.model
def test_ask_json_is_one_object_whatever_tools_print(project: Path) -> None:
    run = agentkit(
        *("ask", "Hello?", "--model", "embedded", "--tools", "cli_tools:ping"),
        *("--tool-choice", "ping", "--max-steps", "1", "--max-tokens", "24", "--json"),
        cwd=project,
    )
    assert run.returncode == 0, run.stderr.decode()
    result = RunResult.from_dict(json.loads(run.stdout))
    assert [(c.call.name, c.status, c.observation) for c in result.calls] == [
        ("ping", "ok", "pong")
    ]
    assert run.stderr == b"noise from a tool\n"


@pytest.mark.model
def test_ask_keeps_the_answer_apart_from_the_account(project: Path) -> None:
    run = invoke(
        *("ask", "-", "--docs", "docs", "--max-tokens", "4", "--top-k", "1"), stdin="How to reset?"
    )
    assert run.exit_code == 0, run.stderr
    assert run.stdout.strip()
    assert "reset.md" not in run.stdout
    assert "[1] Reset, reset.md" in run.stderr
    assert "4 generated" in run.stderr
    assert "\x1b" not in run.output


@pytest.mark.model
def test_index_then_ask_over_the_saved_index(project: Path) -> None:
    run = invoke("index", "docs", "--out", "docs.index", "--json")
    counts = json.loads(run.stdout)
    assert (counts["documents"], counts["chunks"], counts["dimension"]) == (2, 2, 384)
    # From here on the index must be enough.
    for file in (project / "docs").iterdir():
        file.unlink()
    run = invoke(
        *("ask", "How long is the warranty?", "--docs", "docs.index"),
        *("--top-k", "1", "--max-tokens", "2", "--json"),
    )
    result = RunResult.from_dict(json.loads(run.stdout))
    assert [hit.document.source for hit in result.sources] == ["warranty.txt"]


@pytest.mark.model
def test_documents_can_be_a_tool(project: Path) -> None:
    run = invoke(
        *("ask", "reset", "--docs", "docs", "--retrieval", "tool", "--json"),
        *("--tool-choice", "required", "--max-steps", "1", "--max-tokens", "40"),
    )
    result = RunResult.from_dict(json.loads(run.stdout))
    assert [call.call.name for call in result.calls] == ["search_documents"]
    assert result.sources


@pytest.mark.model
def test_chat_over_a_pipe_saves_and_goes_on(project: Path) -> None:
    run = invoke(
        "chat", "--max-tokens", "3", "--save", "talk.json", stdin="One\n\nTwo\n/exit\nno\n"
    )
    assert run.exit_code == 0, run.stderr
    assert "> One" in run.stderr
    assert "> no" not in run.stderr
    saved = RunResult.load("talk.json")
    assert [m.content for m in saved.messages if type(m).__name__ == "UserMessage"] == [
        "One",
        "Two",
    ]
    assert saved.usage.reused_tokens > 0
    run = invoke(
        *("chat", "--max-tokens", "3", "--resume", "talk.json", "--save", "more.json"),
        stdin="Three\n",
    )
    assert len(RunResult.load("more.json").messages) == len(saved.messages) + 2
