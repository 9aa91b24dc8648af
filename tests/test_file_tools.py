"""Files below a root: what is found and read, and that nothing outside can be."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import ToolContext, ToolError, UserError
from agentkit_tools import FileTools
from agentkit_tools._file_text import matches_name, name_pattern

SECRET = "the secret outside"
SWAP = """
import os, sys, time
root, outside = sys.argv[1:]
inside, current = root + "/inside", root + "/current"
while True:
    os.rename(inside, current)
    time.sleep(0.0002)
    os.rename(current, inside)
    os.symlink(outside, current)
    time.sleep(0.0002)
    os.unlink(current)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "notes" / "old").mkdir(parents=True)
    (root / "readme.md").write_text("# Readme\n\nStart here.\n", encoding="utf-8")
    (root / "notes" / "todo.txt").write_text("Buy milk\nCall Ann\nbuy BREAD\n", encoding="utf-8")
    (root / "notes" / "old" / "2024.md").write_text("nothing to buy\n", encoding="utf-8")
    (root / ".hidden").write_text("hidden words", encoding="utf-8")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("buy", encoding="utf-8")
    (root / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0buy")
    (tmp_path / "outside.txt").write_text(SECRET, encoding="utf-8")
    return root


def call(tools: FileTools, tool_name: str, /, **arguments: Any) -> str:
    tool = next(tool for tool in tools if tool.definition.name == tool_name)
    result = asyncio.run(tool.call(arguments, ToolContext(tool_name=tool_name)))
    assert isinstance(result, str)
    return result


def test_list_find_search_read(root: Path) -> None:
    tools = FileTools(root)
    listed = call(tools, "list_files").splitlines()
    assert [re.sub(r" \(.*", "", line) for line in listed] == ["image.png", "notes/", "readme.md"]
    assert "notes/todo.txt (28 bytes, " in call(tools, "list_files", path="notes")
    assert call(tools, "find_files", name="*.md").count("\n") == 1
    assert call(tools, "find_files", name="todo").startswith("notes/todo.txt")
    assert call(tools, "find_files", name="*.exe") == "no file below . has a name like '*.exe'"
    assert call(tools, "search_files", text="Buy").splitlines() == [
        "notes/old/2024.md:1: nothing to buy",
        "notes/todo.txt:1: Buy milk",
        "notes/todo.txt:3: buy BREAD",
    ]
    assert call(tools, "search_files", text="buy", name="*.md").count("\n") == 0
    assert call(tools, "search_files", text="ann", path="notes/todo.txt").endswith("2: Call Ann")
    assert call(tools, "search_files", text="xyz") == "no line contains 'xyz'"
    assert call(tools, "read_file", path="notes/todo.txt", start_line=2, end_line=2).startswith(
        "Call Ann\n"
    )
    assert [tool.definition.name for tool in tools] == [
        "list_files",
        "find_files",
        "search_files",
        "read_file",
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../outside.txt", "'..'"),
        ("notes/../../outside.txt", "'..'"),
        ("/etc/passwd", "absolute path"),
        ("~/x", "absolute path"),
        ("C:\\Windows\\win.ini", "absolute path"),
        ("\\\\server\\share", "absolute path"),
        ("link.txt", "symbolic link"),
        ("up/outside.txt", "link"),
        ("loop/x", "link"),
        (".hidden", "is hidden"),
        (".git/config", "is hidden"),
        ("pipe", "device, pipe or socket"),
        ("socket", "device, pipe or socket"),
        ("notes", "is a folder"),
        (".", "is a folder"),
        ("notes/none.txt", "there is no"),
        ("readme.md/x", "not a folder"),
        ("a\0b", "no path has"),
        ("\ud800", "no path has"),
        ("x" * 300, "cannot be used"),
        ("image.png", "a PNG image of"),
    ],
)
def test_what_is_not_read(root: Path, path: str, message: str) -> None:
    (root / "link.txt").symlink_to(root.parent / "outside.txt")
    (root / "up").symlink_to(root.parent)
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    server = socket.socket(socket.AF_UNIX)
    try:
        server.bind(os.path.relpath(root / "socket"))
        with pytest.raises(ToolError, match=re.escape(message)):
            call(FileTools(root), "read_file", path=path)
    finally:
        server.close()


def test_links_and_pipes_are_not_found_either(root: Path) -> None:
    (root / "link.txt").symlink_to(root.parent / "outside.txt")
    (root / "up").symlink_to(root.parent)
    os.mkfifo(root / "pipe")
    tools = FileTools(root, hidden=True)
    for listing in (call(tools, "list_files"), call(tools, "find_files", name="*")):
        assert not re.search("link|up|pipe|outside", listing)
        assert ".hidden" in listing
    assert call(tools, "search_files", text="secret") == "no line contains 'secret'"


def test_a_link_swapped_in_meanwhile_is_not_followed(root: Path) -> None:
    """A folder and a link to the outside take turns under one name while it is read."""
    tools = FileTools(root)
    outside = root.parent / "elsewhere"
    outside.mkdir()
    (outside / "file.txt").write_text(SECRET, encoding="utf-8")
    inside = root / "inside"
    inside.mkdir()
    (inside / "file.txt").write_text("harmless", encoding="utf-8")
    swapper = subprocess.Popen([sys.executable, "-c", SWAP, str(root), str(outside)])
    seen: set[str] = set()
    try:
        for attempt in range(20_000):
            try:
                seen.add(tools._reader.read_lines("current/file.txt", 1, None))
            except ToolError as error:
                seen.add(re.sub(r".*(there is no|not a folder|link).*", r"\1", str(error)))
            if attempt > 3000 and {"harmless", "link"} <= seen:
                break
    finally:
        swapper.kill()
        swapper.wait()
    assert SECRET not in seen
    assert {"harmless", "link"} <= seen


def test_long_files_are_read_in_parts(root: Path) -> None:
    lines = [f"line {number} ä\n" for number in range(1, 2001)]
    (root / "long.txt").write_text("".join(lines), encoding="utf-8")
    tools = FileTools(root, max_bytes=3000)
    text, start = "", 1
    while start:
        part = call(tools, "read_file", path="long.txt", start_line=start)
        body, _, note = part.partition("[lines ")
        text += body
        start = int(re.findall(r"start_line=(\d+)", note)[0]) if note else 0
    assert text == "".join(lines)
    with pytest.raises(ToolError, match="has 2000 lines"):
        call(tools, "read_file", path="long.txt", start_line=2001)


@pytest.mark.parametrize("max_bytes", [1000, 1001, 1002, 1003])
def test_long_lines_are_read_by_bytes(root: Path, max_bytes: int) -> None:
    content = "aä€😀" * 1000
    (root / "long.txt").write_text(content, encoding="utf-8")
    tools = FileTools(root, max_bytes=max_bytes)
    assert "is longer than this; start_byte=" in call(tools, "read_file", path="long.txt")
    text, start = "", 0
    while start is not None:
        part = call(tools, "read_file", path="long.txt", start_byte=start)
        body, _, note = part.partition("\n[bytes ")
        text += body
        start = int(re.findall(r"start_byte=(\d+)", note)[0]) if note else None
    assert text == content


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "f.txt is empty"),
        (b"\xef\xbb\xbfhello\r\nyou", "hello\nyou"),
        ("grüß\n".encode("utf-16"), "grüß\n"),
        ("caf\u00e9 ol\u00e9 here".encode("cp1252"), "caf� ol� here\n[not UTF-8"),
    ],
)
def test_encodings(root: Path, data: bytes, expected: str) -> None:
    (root / "f.txt").write_bytes(data)
    assert call(FileTools(root), "read_file", path="f.txt").startswith(expected)


def test_results_are_capped(root: Path) -> None:
    for number in range(30):
        (root / f"f{number}.log").write_text("word " * 200 + "needle " + "word " * 200)
    tools = FileTools(root, max_results=5)
    assert "[28 more; use find_files" in call(tools, "list_files")
    assert "[only the first 5" in call(tools, "find_files", name=".log")
    found = call(tools, "search_files", text="needle")
    assert found.count("needle") == 5
    assert len(found) < 5 * 300


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.py", "a/b/c.py", True),
        ("*.py", "a/b/c.pyc", False),
        ("todo", "x/My-TODO-list.txt", True),
        ("notes/*.md", "notes/a.md", True),
        ("notes/*.md", "notes/b/a.md", False),
        ("notes/**/*.md", "notes/b/c/a.md", True),
        ("notes/**/*.md", "notes/a.md", True),
        ("**/x/**", "a/x/b/c", True),
        ("[ab].txt", "c/b.txt", True),
        ("[.txt", "[.txt", True),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool) -> None:
    assert matches_name(path, name_pattern(pattern)) is matches


@given(st.text("a*?/[]!-.b", min_size=1, max_size=60), st.text("ab/.", max_size=60))
def test_patterns_never_hang_or_crash(pattern: str, path: str) -> None:
    try:
        compiled = name_pattern(pattern)
    except ToolError:
        return
    assert matches_name(path, compiled) in (True, False)


def test_writing_is_opt_in(root: Path) -> None:
    assert len(FileTools(root)) == 4
    tools = FileTools(root, write=True, max_write_bytes=100)
    assert getattr(tools[-1], "approval", None) == "ask"
    assert call(tools, "write_file", path="new/deep/a.txt", content="hé") == (
        "wrote new/deep/a.txt (3 bytes)"
    )
    with pytest.raises(ToolError, match="overwrite=true"):
        call(tools, "write_file", path="new/deep/a.txt", content="x")
    assert call(tools, "write_file", path="new/deep/a.txt", content="x", overwrite=True) == (
        "replaced new/deep/a.txt (1 bytes)"
    )
    assert (root / "new/deep/a.txt").read_text() == "x"
    assert [path.name for path in (root / "new/deep").iterdir()] == ["a.txt"]
    (root / "link.txt").symlink_to(root.parent / "outside.txt")
    (root / "up").symlink_to(root.parent)
    for path in ("link.txt", "up/outside.txt", "../outside.txt", ".bashrc", "notes", "up/new/x"):
        with pytest.raises(ToolError):
            call(tools, "write_file", path=path, content="x", overwrite=True)
    with pytest.raises(ToolError, match="limit is 100"):
        call(tools, "write_file", path="b.txt", content="x" * 101)
    assert (root.parent / "outside.txt").read_text() == SECRET
    assert sorted(path.name for path in root.parent.iterdir()) == ["outside.txt", "root"]


def test_wrong_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        FileTools(tmp_path / "none")
    with pytest.raises(UserError, match="max_bytes"):
        FileTools(tmp_path, max_bytes=0)
