"""Where functions and classes begin in source code, as headings for chunking."""

from __future__ import annotations

import ast
import re
import warnings
from itertools import pairwise

from agentkit_retrievers.markdown import Heading

__all__ = ["LANGUAGES", "find_definitions"]

LANGUAGES = {
    ".py": "python",
    ".pyi": "python",
    ".js": "javascript",
    ".jsx": "javascript",
    ".mjs": "javascript",
    ".ts": "typescript",
    ".tsx": "typescript",
    ".java": "java",
    ".kt": "kotlin",
    ".cs": "csharp",
    ".go": "go",
    ".rs": "rust",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".hpp": "cpp",
    ".swift": "swift",
    ".php": "php",
    ".rb": "ruby",
    ".scala": "scala",
    ".sh": "shell",
    ".sql": "sql",
}
"""Languages by file suffix."""

_KEYWORDS = (
    "function|func|fun|fn|def|class|struct|enum|interface|trait|impl|module|namespace|protocol|"
    "extension|object|record|type|contract|mod"
)
_MODIFIERS = (
    "export|default|public|private|protected|internal|static|final|abstract|async|override|open|"
    "sealed|data|inline|virtual|unsafe|extern|pub(?:\\([^)]*\\))?|const|partial|readonly"
)
_DEFINITION = re.compile(
    rf"^(?P<indent>[ \t]*)(?:(?:{_MODIFIERS})[ \t]+)*"
    rf"(?:(?:{_KEYWORDS})\b[ \t]*(?:\([^)]*\)\s*)?(?:<[^>]*>\s*)?(?P<name>[\w.$:~]+)"
    # C's and its relatives' functions: a type, a name, parameters, and an opening brace.
    r"|(?:[\w:<>,*&\[\]]{1,80}[ \t]+){1,8}[*&]*(?P<cname>~?[\w:]+)[ \t]*"
    r"\([^;{}]{0,400}\)[^;{}=]{0,200}\{"
    r"|create\s+(?:or\s+replace\s+)?(?:table|view|function|procedure|index)\s+(?P<sql>[\w.\"]+))",
    re.IGNORECASE | re.MULTILINE,
)
_STATEMENTS = frozenset({"if", "for", "while", "switch", "return", "else", "catch", "do", "new"})
_COMMENT = re.compile(r"[ \t]*(?://|/\*|\*|#|--|@|\[)")
_MAX_LEVEL = 6


def find_definitions(text: str, language: str) -> list[Heading]:
    """Functions, classes and the like, in order, each with the comments above it.

    Python is parsed; other languages are read line by line, by keywords and indentation.

    Returns:
        Headings whose ``end`` is their ``start``, since the definition itself is the body. One
        with an empty title begins what stands between Python's definitions.
    """
    if language == "python":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Of odd escapes and the like in foreign code.
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return _by_lines(text)
        return _of_python(tree, text)
    return _by_lines(text)


def _of_python(tree: ast.Module, text: str) -> list[Heading]:
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    lines = text.split("\n")
    found: list[Heading] = []

    def visit(body: list[ast.stmt], level: int) -> None:
        inside = False  # Whether the statement before was a definition.
        for node in body:
            defines = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                add(first, level, node.name)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, level + 1)
            elif inside and level == 1:
                add(node.lineno, level, "")
            inside = defines

    def add(line: int, level: int, name: str) -> None:
        line -= 1
        while line > 0 and lines[line - 1].lstrip().startswith("#"):
            line -= 1
        start = starts[line]
        if not found or start > found[-1].start:
            found.append(Heading(start=start, end=start, level=level, title=name))

    visit(tree.body, 1)
    return found


def _by_lines(text: str) -> list[Heading]:
    starts = [0, *(match.end() for match in re.finditer("\n", text)), len(text) + 1]
    spans = list(pairwise(starts))
    number = {start: i for i, (start, _) in enumerate(spans)}
    found: list[Heading] = []
    indents: list[int] = []
    for match in _DEFINITION.finditer(text):
        name = match["name"] or match["cname"] or match["sql"] or ""
        first_word = match[0].split(None, 1)[0].rstrip("({")
        line = number.get(match.start())
        if line is None or name in _STATEMENTS or first_word in _STATEMENTS:
            continue
        indent = len(match["indent"].expandtabs(4))
        while indents and indents[-1] >= indent:
            indents.pop()
        if len(indents) > 1:
            continue  # A function within a method: part of it.
        indents.append(indent)
        while line > 0 and _COMMENT.match(text, *spans[line - 1]):
            line -= 1
        start = spans[line][0]
        if not found or start > found[-1].start:
            level = min(len(indents), _MAX_LEVEL)
            found.append(Heading(start=start, end=start, level=level, title=name))
    return found
