"""From what MCP servers send to what a text model can read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcp_types import CallToolResult, ContentBlock

__all__ = ["block_text", "cut", "describe_blob", "result_value"]


def result_value(result: CallToolResult, *, max_chars: int) -> Any:
    """A tool's result: JSON where the server gave JSON, else text.

    Servers repeat structured content as text, often indented; the model then gets the JSON alone.
    A text that says something else is what the server's author wrote for models.
    """
    structured = result.structured_content
    if structured is not None and (not result.content or _repeats(result.content, structured)):
        value = _unwrapped(structured)
        if not isinstance(value, str):
            text = json.dumps(value, ensure_ascii=False)
            return value if len(text) <= max_chars else cut(text, max_chars)
    else:
        value = "\n".join(filter(None, map(block_text, result.content)))
    return cut(value, max_chars) or "done (no content)"


def block_text(block: ContentBlock) -> str:
    """One piece of content as text; what is not text is described."""
    if block.type == "text":
        return block.text
    if block.type in ("image", "audio"):
        return describe_blob(block.type, block.mime_type, block.data)
    if block.type == "resource_link":
        return _link(block.name, block.uri, block.mime_type, block.description)
    if block.type == "resource":
        resource = block.resource
        blob: str | None = getattr(resource, "blob", None)
        if blob is None:
            return f"[{resource.uri}]\n{getattr(resource, 'text', '')}"
        return describe_blob(f"resource {resource.uri}", resource.mime_type, blob)
    return f"[{block.type}]"


def describe_blob(kind: str, mime_type: str | None, base64_data: str) -> str:
    """Such as ``[image: image/png, 1204 bytes]``."""
    size = len(base64_data) * 3 // 4 - base64_data[-2:].count("=")
    return f"[{kind}: {mime_type or 'unknown type'}, {size} bytes]"


def cut(text: str, max_chars: int) -> str:
    """The text's beginning, and how much is left out."""
    left = len(text) - max_chars
    return text if left <= 0 else f"{text[:max_chars]}\n[cut here; {left} more characters]"


def _link(name: str, uri: str, mime_type: str | None, description: str | None) -> str:
    kind = f" ({mime_type})" if mime_type else ""
    return f"[resource {name}: {uri}{kind}]" + (f" {description}" if description else "")


def _repeats(content: Iterable[ContentBlock], structured: Any) -> bool:
    """Whether the text blocks are the structured content once more."""
    texts = []
    for block in content:
        if block.type != "text":
            return False
        texts.append(block.text)
    wanted = (structured, _unwrapped(structured))
    values = [_parsed(text) for text in texts]
    # A list comes as one block for each of its items.
    return any(value == w for w in wanted for value in (_parsed("\n".join(texts)), values))


def _unwrapped(structured: Any) -> Any:
    """Without the ``{"result": ...}`` that servers put around what is no object."""
    if isinstance(structured, dict) and structured.keys() == {"result"}:
        return structured["result"]
    return structured


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
