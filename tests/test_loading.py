"""Loading text, Markdown, HTML and PDF, one by one and by folder."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from agentkit.errors import MissingExtraError, RetrievalError, UserError
from agentkit.retrieval import Document
from agentkit_retrievers import Chunker, load, load_folder

if TYPE_CHECKING:
    from pathlib import Path


def make_pdf(pages: list[str], *, title: str = "", extra: str = "") -> bytes:
    """A minimal PDF with one line of text on each page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET" if text else ""
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            f"/Contents {5 + 2 * number} 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects.append(f"<< /Title ({title}) >>")
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"<< /Size {size} /Root 1 0 R /Info {size - 1} 0 R {extra} >>"
    xref = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n{trailer}\n"
    return f"{body}{xref}startxref\n{len(body)}\n%%EOF\n".encode("latin-1")


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def load_one(path: Path, **options: Any) -> Document:
    (document,) = load(path, **options)
    return document


def test_plain_text(tmp_path: Path) -> None:
    path = write(tmp_path / "my notes.txt", "Grüße\r\n# no heading\r\n")
    assert load_one(path) == Document(
        text="Grüße\n# no heading\n",
        doc_id=path.as_posix(),
        title="my notes",
        source=path.as_posix(),
        metadata={"format": "text"},
    )


def test_an_unknown_suffix_is_plain_text(tmp_path: Path) -> None:
    document = load_one(write(tmp_path / "setup.CFG", "[a]\nb = 1"))
    assert (document.text, document.metadata["format"]) == ("[a]\nb = 1", "text")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_obeyed(tmp_path: Path, encoding: str) -> None:
    assert load_one(write(tmp_path / "a.txt", "Grüße".encode(encoding))).text == "Grüße"


def test_another_encoding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "Grüße".encode("cp1252"))
    with pytest.raises(RetrievalError, match=r"a\.txt: not utf-8 text .*encoding='cp1252'"):
        load(path)
    assert load_one(path, encoding="cp1252").text == "Grüße"
    with pytest.raises(UserError, match="unknown text encoding 'cp-1252x'"):
        load(path, encoding="cp-1252x")


@pytest.mark.parametrize("content", ["", " \n\n", "---\ntitle: x\n---\n"])
def test_a_file_without_text_is_no_document(tmp_path: Path, content: str) -> None:
    assert load(write(tmp_path / "a.md", content)) == []


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Intro\n\n## The `first` **one** ##\n\n# Second", "The first one"),
        ("Big\n===\ntext", "Big"),
        ("```\n# code\n```\n# Real", "Real"),
        ("````\n```\n# code\n````\n~~~\n# code", "page"),
        ("no heading, #hashtag", "page"),
        ("# [Link](https://x.y) {#anchor}\n", "Link"),
        ("#\n# C#\n", "C#"),
    ],
)
def test_markdown_titles(tmp_path: Path, text: str, title: str) -> None:
    document = load_one(write(tmp_path / "page.md", text))
    assert (document.title, document.text) == (title, text)


@pytest.mark.parametrize(
    "front",
    [
        "---\ntitle: 'The guide'\ntags:\n  - a\nurl: http://x/y\n---\n",
        '+++\ntitle = "The guide"\nurl = "http://x/y"\n+++\n',
    ],
)
def test_front_matter(tmp_path: Path, front: str) -> None:
    document = load_one(write(tmp_path / "page.md", front + "# Heading\nText"))
    assert (document.title, document.text) == ("The guide", "# Heading\nText")
    assert document.metadata["front_matter"]["url"] == "http://x/y"


@pytest.mark.parametrize("text", ["---\nJust a rule.\n---\nx", "---\nkey: value\nnever closed"])
def test_a_rule_is_no_front_matter(tmp_path: Path, text: str) -> None:
    document = load_one(write(tmp_path / "page.md", text))
    assert (document.text, document.metadata) == (text, {"format": "markdown"})


PAGE = """<!doctype html><html><head><title> The
  Page </title><style>p {color: red}</style><script>var no = 1;</script></head>
<body><nav>Home | About</nav><div role=navigation>Menu</div>
<main><h1>Big <em>head</em><a class="headerlink" href="#x">¶</a></h1>
<p>First   <b>bold</b>, <i>it</i>alic
text.</p><!-- comment --><p hidden>secret</p>
<ul><li>one</li><li><p>two</p></li></ul>
<pre>
def f():
    # comment
    return 1
</pre>
<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>
line<br>break</main><footer>Imprint</footer></body></html>"""

PAGE_TEXT = """# Big head

First bold, italic text.

- one
- two

```
def f():
    # comment
    return 1
```

a | b
1 | 2

line
break"""


def test_html(tmp_path: Path) -> None:
    document = load_one(write(tmp_path / "page.html", PAGE))
    assert document.text == PAGE_TEXT
    assert (document.title, document.metadata) == ("The Page", {"format": "html"})
    (chunk,) = Chunker().split(document)
    assert chunk.title == "The Page > Big head"


def test_code_in_html_list_items(tmp_path: Path) -> None:
    page = "<ul><li></li><li><pre># code</pre></li></ul><h2>Head</h2>text"
    document = load_one(write(tmp_path / "a.html", page))
    assert document.text == "```\n# code\n```\n\n## Head\n\ntext"


def test_html_without_title_or_main(tmp_path: Path) -> None:
    document = load_one(write(tmp_path / "a.htm", "<h1>Head</h1>text<script>no</script>"))
    assert (document.title, document.text) == ("Head", "# Head\n\ntext")


def test_html_declares_its_charset(tmp_path: Path) -> None:
    page = '<meta charset="iso-8859-1"><p>Grüße'.encode("latin-1")
    assert load_one(write(tmp_path / "a.html", page)).text == "Grüße"
    unknown = b'<meta charset="nonsense"><p>text'
    assert load_one(write(tmp_path / "b.html", unknown)).text == "text"


def test_deeply_nested_html(tmp_path: Path) -> None:
    assert load_one(write(tmp_path / "a.html", "<div>" * 5000 + "deep")).text == "deep"


def test_pdf(tmp_path: Path) -> None:
    data = make_pdf(["First page.", "", "Third page."], title="The Manual")
    document = load_one(write(tmp_path / "a.pdf", data))
    assert (document.title, document.text) == ("The Manual", "First page.\n\n\n\nThird page.")
    pages = document.metadata["pages"]
    assert [document.text[at : at + 5] for at in pages] == ["First", "\n\nThi", "Third"]
    chunks = Chunker(max_size=12, overlap=0).split(document)
    found = [(chunk.text, chunk.metadata["page"]) for chunk in chunks]
    assert found == [("First page.", 1), ("Third page.", 3)]


def test_pdf_without_title(tmp_path: Path) -> None:
    assert load_one(write(tmp_path / "manual.PDF", make_pdf(["Text"]))).title == "manual"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"%PDF-1.4 nonsense", r"a\.pdf: cannot be read as PDF"),
        (b"", r"a\.pdf: cannot be read as PDF"),
        (make_pdf(["", ""]), r"a\.pdf: the PDF's 2 pages hold no text.*OCR"),
        (
            make_pdf(
                ["x"],
                extra=f"/ID [<00> <00>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 "
                f"/O <{'00' * 32}> /U <{'00' * 32}> >>",
            ),
            r"a\.pdf: the PDF is protected by a password",
        ),
    ],
)
def test_pdfs_that_cannot_be_read(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(RetrievalError, match=message):
        load(write(tmp_path / "a.pdf", data))


@pytest.mark.parametrize(("name", "module"), [("a.pdf", "pypdf"), ("a.html", "bs4")])
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    write(tmp_path / name, "x")
    monkeypatch.delitem(sys.modules, "agentkit_retrievers.html_text", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install agentkit-granite\[documents\]"):
        load(tmp_path / name)
    # In a folder too it is no file's fault.
    with pytest.raises(MissingExtraError):
        load_folder(tmp_path, on_error="skip")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match=r"none\.txt: cannot be read: No such file"):
        load(tmp_path / "none.txt")
    with pytest.raises(RetrievalError, match=r"is a folder; read it with load_folder"):
        load(tmp_path)
    with pytest.raises(RetrievalError, match=r"a\.txt: holds zero bytes.*binary"):
        load(write(tmp_path / "a.txt", b"\x00\xff\x01"))
    with pytest.raises(RetrievalError, match=r"b\.txt: has 2,000 bytes, above max_bytes=1,000"):
        load(write(tmp_path / "b.txt", "x" * 2000), max_bytes=1000)


def sources(documents: list[Document]) -> list[str]:
    return [document.source for document in documents]


def test_a_folder_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ["b.txt", "a/z.md", "a/B.HTML", ".git/c.txt", ".d.txt", "e.bin", "a-b/x.pdf"]:
        write(tmp_path / name, make_pdf(["x"]) if name.endswith("pdf") else f"text of {name}")
    documents = load_folder(tmp_path)
    assert sources(documents) == ["a-b/x.pdf", "a/B.HTML", "a/z.md", "b.txt"]
    assert [document.doc_id for document in documents] == sources(documents)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("*.md", ["a/b/y.md", "x.md"]),
        (["x.*", "*.TXT"], ["a/z.txt", "x.md"]),
        ("a/*", ["a/b/y.md", "a/z.txt"]),
        ("**/*.md", ["a/b/y.md", "x.md"]),
        ("a/**/z.txt", ["a/z.txt"]),
        ("*.rst", []),
    ],
)
def test_patterns(tmp_path: Path, patterns: str | list[str], expected: list[str]) -> None:
    for name in ["x.md", "a/b/y.md", "a/z.txt"]:
        write(tmp_path / name, "text")
    assert sources(load_folder(tmp_path, patterns=patterns)) == expected


def test_links_in_a_circle(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "o.txt", "text").parent
    root = write(tmp_path / "root" / "sub" / "a.txt", "text").parent.parent
    (root / "sub" / "loop").symlink_to(root)
    (root / "again").symlink_to(root / "sub")
    (root / "out").symlink_to(outside)
    (root / "broken.txt").symlink_to(root / "nowhere.txt")
    assert sources(load_folder(root)) == ["out/o.txt", "sub/a.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert load_folder(tmp_path) == []


def test_files_that_fail_in_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "bad.txt", b"\xff")
    write(tmp_path / "good.txt", "text")
    with pytest.warns(UserWarning, match=r"left out: bad\.txt: not utf-8 text") as caught:
        assert sources(load_folder(tmp_path)) == ["good.txt"]
    assert caught[0].filename == __file__
    with pytest.raises(RetrievalError, match=r"^bad\.txt"):
        load_folder(tmp_path, on_error="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sources(load_folder(tmp_path, on_error="skip")) == ["good.txt"]
    with pytest.raises(UserError, match="on_error must be 'warn', 'raise' or 'skip'"):
        load_folder(tmp_path, on_error="ignore")  # type: ignore[arg-type]


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match=r"nowhere' does not exist"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(RetrievalError, match=r"is a file; read it with load\(\)"):
        load_folder(write(tmp_path / "a.txt", "x"))


def test_progress(tmp_path: Path) -> None:
    for name in ["a.txt", "b.txt"]:
        write(tmp_path / name, "text")
    calls: list[tuple[str, int, int]] = []
    load_folder(tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [("load", 1, 2), ("load", 2, 2)]
