"""Word documents as light Markdown."""

from __future__ import annotations

import io
import re
from typing import Any

__all__ = ["docx_to_text"]

_HEADING = re.compile(r"heading (\d)")


def docx_to_text(data: bytes) -> tuple[str, str]:
    """Title and text of a Word document (``.docx``): headings, paragraphs, lists, tables.

    Returns:
        The title, from the document's properties or its title paragraph, and the text.
    """
    import docx

    document = docx.Document(io.BytesIO(data))
    title = str(document.core_properties.title or "").strip()
    blocks: list[str] = []
    in_list = False
    for item in document.iter_inner_content():
        if isinstance(item, docx.table.Table):
            block, is_item = _table(item), False
        else:
            style = str((item.style and item.style.name) or "").lower()
            text = " ".join(item.text.split("\n")).strip()
            if not text:
                continue
            if style == "title":
                title = title or text
                style = "heading 1"
            heading = _HEADING.match(style)
            is_item = style.startswith("list")
            block = f"{'#' * min(int(heading[1]), 6)} {text}" if heading else text
            block = f"- {text}" if is_item else block
        if block:
            # Items of one list stand on lines that follow one another.
            blocks.append(("\n" if in_list and is_item else "\n\n" if blocks else "") + block)
            in_list = is_item
    return title, "".join(blocks)


def _table(table: Any) -> str:
    rows = []
    for row in table.rows:
        cells: list[str] = []
        last = None
        for cell in row.cells:
            if cell._tc is not last:  # A merged cell comes once for each column.
                cells.append(" ".join(cell.text.split()))
            last = cell._tc
        if any(cells):
            rows.append(" | ".join(cells))
    return "\n".join(rows)
