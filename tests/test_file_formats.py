"""Word documents, tables, records and source code: read, and cut into chunks."""

from __future__ import annotations

import io
import json

import docx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import RetrievalError
from agentkit_retrievers import Chunker, load, load_folder
from agentkit_retrievers.code_structure import LANGUAGES, find_definitions
from agentkit_retrievers.loading import CODE_PATTERNS
from agentkit_retrievers.records import read_rows


def load_one(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (document,) = load(path)
    return document


def word_document():
    made = docx.Document()
    made.add_heading("Handbook", level=0)
    made.add_paragraph("Welcome.")
    made.add_heading("Holidays", level=1)
    made.add_paragraph("Everyone has thirty days.")
    made.add_paragraph("Ask early", style="List Bullet")
    made.add_paragraph("Write it down", style="List Bullet")
    table = made.add_table(rows=2, cols=2)
    for cell, text in zip(
        [cell for row in table.rows for cell in row.cells],
        ["Who", "Days", "All", "30"],
        strict=True,
    ):
        cell.text = text
    data = io.BytesIO()
    made.save(data)
    return data.getvalue()


def test_word(tmp_path):
    document = load_one(tmp_path / "handbook.docx", word_document())
    assert document.title == "Handbook"
    assert document.text == (
        "# Handbook\n\nWelcome.\n\n# Holidays\n\nEveryone has thirty days.\n\n- Ask early\n"
        "- Write it down\n\nWho | Days\nAll | 30"
    )
    chunks = Chunker().split(document)
    assert [chunk.title for chunk in chunks] == ["Handbook", "Handbook > Holidays"]
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text
    (tmp_path / "broken.docx").write_bytes(word_document()[:500])
    with pytest.raises(RetrievalError, match=r"broken\.docx: cannot be read as DOCX"):
        load(tmp_path / "broken.docx")


def test_tables(tmp_path):
    document = load_one(
        tmp_path / "prices.csv",
        'product;price;note\n"Lamp; large";12,50;\n\nChair;40;"two\nlines"\nextra;1;2;3\n',
    )
    assert document.text == (
        "product: Lamp; large\nprice: 12,50\n\n"
        "product: Chair\nprice: 40\nnote: two lines\n\n"
        "product: extra\nprice: 1\nnote: 2\ncolumn 4: 3"
    )
    chunks = Chunker(max_size=60, overlap=0).split(document)
    assert [(c.metadata["row"], c.metadata["last_row"]) for c in chunks] == [(1, 1), (2, 2), (3, 3)]
    assert "rows" not in chunks[0].metadata
    tabs = load_one(tmp_path / "t.tsv", "a,b\tc\n1,2\t3\n")
    assert tabs.text == "a,b: 1,2\nc: 3"
    (tmp_path / "header.csv").write_text("only,a,header\n")
    assert load(tmp_path / "header.csv") == []


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_characters="\0\r"), max_size=9), min_size=2, max_size=2
        ),
        min_size=1,
        max_size=6,
    )
)
def test_rows_survive_quoting(rows):
    import csv

    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerows([["one", "two"], *rows])
    text = out.getvalue().replace("\r\n", "\n")
    expected = [{"one": a, "two": b} for a, b in rows if a.strip() or b.strip()]
    assert read_rows(text, "x.csv", delimiter=",") == expected


def test_json_lines(tmp_path):
    path = tmp_path / "faq.jsonl"
    lines = [
        json.dumps({"title": "Reset", "text": "Hold the button.", "lang": "en"}),
        "",
        json.dumps({"question": "Why?", "tags": ["a", "b"], "empty": ""}),
        json.dumps("just text"),
    ]
    path.write_text("\n".join(lines))
    first, second, third = load(path)
    assert (first.doc_id, first.title, first.text) == (
        f"{path.as_posix()}:1",
        "Reset",
        "Hold the button.",
    )
    assert first.metadata == {"format": "record", "line": 1, "record": {"lang": "en"}}
    assert (second.text, second.metadata["line"]) == ('question: Why?\ntags: ["a", "b"]', 3)
    assert third.text == "value: just text"
    path.write_text('{"text": "fine"}\n{oops\n')
    with pytest.raises(RetrievalError, match=r"faq\.jsonl, line 2: is not JSON"):
        load(path)


PYTHON = '''"""A module."""

import os

LIMIT = 3


# Says hello.
@decorated
def hello():
    def inner():
        pass
    return inner


class Greeter:
    """Greets."""

    name = "x"

    def greet(self):
        return "hi"

    async def wave(self):
        return "o/"


print(hello())
'''


def test_python_is_cut_at_its_definitions(tmp_path):
    document = load_one(tmp_path / "hello.py", PYTHON)
    chunks = Chunker().split(document)
    source = (tmp_path / "hello.py").as_posix()
    assert [chunk.title.removeprefix(f"{source}") for chunk in chunks] == [
        "",
        " > hello",
        " > Greeter",
        " > Greeter > greet",
        " > Greeter > wave",
        "",
    ]
    assert chunks[1].text.startswith("# Says hello.\n@decorated\ndef hello():")
    assert chunks[1].text.endswith("return inner")
    assert chunks[-1].text == "print(hello())"
    broken = find_definitions("def fine():\n    pass\n\nclass Open(:\n", "python")
    assert [heading.title for heading in broken] == ["fine", "Open"]


@pytest.mark.parametrize(
    ("language", "text", "names"),
    [
        (
            "javascript",
            "import x\n\n/** Adds. */\n"
            "export async function add(a, b) {\n  if (a) { return b }\n}\n"
            "class Shape {\n  area() { return 0 }\n}\n",
            ["add", "Shape"],
        ),
        (
            "go",
            "package p\n\nfunc (s *Server) Run() {\n}\n\ntype Server struct {\n}\n",
            ["Run", "Server"],
        ),
        (
            "rust",
            "pub fn go() {}\n\nimpl Shape {\n    fn area(&self) {}\n}\n",
            ["go", "Shape", "area"],
        ),
        (
            "c",
            "#include <x.h>\n\nstatic int add(int a, int b) {\n"
            "  while (a) { a--; }\n  return b;\n}\n",
            ["add"],
        ),
        (
            "java",
            "public class A {\n    public int f(int x) {\n        return x;\n    }\n}\n",
            ["A", "f"],
        ),
        ("sql", "CREATE TABLE users (id int);\nselect 1;\n", ["users"]),
    ],
)
def test_other_languages_by_keyword_and_indentation(language, text, names):
    headings = find_definitions(text, language)
    assert [heading.title for heading in headings] == names


def test_a_definition_has_the_comment_above_it():
    text = "let x = 1\n\n// Adds two\n// numbers.\nfunction add(a, b) {}\n"
    (heading,) = find_definitions(text, "javascript")
    assert text[heading.start :].startswith("// Adds two")


@given(st.text(max_size=200), st.sampled_from(sorted(set(LANGUAGES.values()))))
def test_any_text_has_ordered_definitions_at_line_starts(text, language):
    starts = [heading.start for heading in find_definitions(text, language)]
    assert starts == sorted(set(starts))
    assert all(start == 0 or text[start - 1] == "\n" for start in starts)


def test_folders_are_read_without_code_unless_asked(tmp_path):
    (tmp_path / "guide.md").write_text("# Guide\n\nText.")
    (tmp_path / "main.py").write_text("x = 1\n")
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    assert [document.source for document in load_folder(tmp_path)] == ["guide.md", "rows.csv"]
    code = load_folder(tmp_path, patterns=CODE_PATTERNS)
    assert [document.metadata["language"] for document in code] == ["python"]
