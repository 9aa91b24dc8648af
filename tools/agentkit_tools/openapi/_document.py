"""OpenAPI documents: reading them, and following the references within and between them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from agentkit.errors import SchemaError, UserError
from agentkit_tools._http_body import ACCEPT_ENCODING, read_body
from agentkit_tools.http_errors import HTTPToolError
from agentkit_tools.network import NetworkPolicy

__all__ = ["Document", "Node"]

_MAX_BYTES = 64_000_000
_TIMEOUT_S = 30.0
_MAX_HOPS = 50


@dataclass(frozen=True, slots=True)
class Node:
    """A value in a document, and where it stands."""

    value: Any
    """The value."""
    source: str
    """Path or URL of the document; empty for one that was given as an object."""
    pointer: str
    """JSON Pointer within it."""

    @property
    def where(self) -> str:
        """How errors name the place."""
        return f"{self.source}#{self.pointer}"

    def child(self, *keys: str | int) -> Node:
        """A part of it; the value is None where there is none."""
        value, pointer = self.value, self.pointer
        for key in keys:
            pointer += f"/{_escaped(key)}"
            if isinstance(value, Mapping):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int) and key < len(value):
                value = value[key]
            else:
                value = None
        return Node(value, self.source, pointer)


class Document:
    """An OpenAPI document with the files that it refers to.

    Args:
        spec: Path, URL, or the parsed document.
        network: Where it may be loaded from, redirects included; the host that a URL plainly names
            is allowed.

    Raises:
        SchemaError: It cannot be read, or is no OpenAPI document of version 3.
        UserError: There is no such file.
    """

    def __init__(
        self, spec: str | Path | Mapping[str, Any], *, network: NetworkPolicy | None = None
    ) -> None:
        self._network = network or NetworkPolicy()
        if isinstance(spec, Mapping):
            self.source, content = "", _with_text_keys(spec)
        else:
            text = str(spec)
            self.source = text if _is_url(text) else str(Path(text))
            content = _read(self.source, self._network)
        self._contents: dict[str, Any] = {self.source: content}
        self.root = Node(content, self.source, "")
        """The whole document."""
        version = content.get("openapi") if isinstance(content, Mapping) else None
        if not isinstance(version, str) or not version.startswith("3."):
            raise SchemaError(f"{self._named()}: {_what_else(content)}")
        self.is_30 = version.startswith("3.0")
        """Whether schemas are of OpenAPI's own dialect, which 3.1 gave up."""
        if not isinstance(content.get("paths", {}), Mapping):
            raise SchemaError(f"{self._named()}#/paths must be an object")

    def _named(self) -> str:
        return self.source or "the OpenAPI document"

    @property
    def url(self) -> str | None:
        """Where it was loaded from, if that is a URL."""
        return self.source if _is_url(self.source) else None

    def resolved(self, node: Node) -> Node:
        """What the node refers to, in the end; the node itself if it is no reference.

        Raises:
            SchemaError: A reference leads nowhere, to itself or to where it must not.
        """
        seen: set[tuple[str, str]] = set()
        while isinstance(node.value, Mapping) and isinstance(node.value.get("$ref"), str):
            if (node.source, node.pointer) in seen or len(seen) > _MAX_HOPS:
                raise SchemaError(f"{node.where}: the reference leads back to itself")
            seen.add((node.source, node.pointer))
            node = self.follow(node, node.value["$ref"])
        return node

    def follow(self, node: Node, ref: str) -> Node:
        """The place that a reference names.

        Args:
            node: That holds it.
            ref: ``#/...``, or a relative path or URL with or without a pointer.

        Raises:
            SchemaError: It leads nowhere or to where it must not.
        """
        location, pointer = urldefrag(ref)
        source = self._locate(node, location) if location else node.source
        if source not in self._contents:
            try:
                self._contents[source] = _read(source, self._network)
            except UserError as error:
                raise SchemaError(f"{node.where}: {ref!r} leads nowhere: {error}") from None
        target = Node(self._contents[source], source, "")
        if pointer and not pointer.startswith("/"):
            raise SchemaError(f"{node.where}: {ref!r} is no JSON Pointer")
        for raw in pointer.split("/")[1:]:
            key = unquote(raw).replace("~1", "/").replace("~0", "~")
            inside = target.value
            index = isinstance(inside, list) and key.isdigit()
            target = target.child(int(key) if index else key)
            found = isinstance(inside, Mapping) and key in inside
            if not found and (not index or target.value is None):
                raise SchemaError(f"{node.where}: {ref!r} leads to nothing")
        return target

    def _locate(self, node: Node, location: str) -> str:
        if not node.source:
            raise SchemaError(
                f"{node.where}: {location!r} is another file, which cannot be found, as the "
                "document was not read from one; give its path instead"
            )
        if _is_url(node.source):
            target = urljoin(node.source, location)
            ours, theirs = urlsplit(node.source), urlsplit(target)
            # A document from elsewhere must not make this machine read its files or other hosts.
            if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
                raise SchemaError(f"{node.where}: {location!r} is of another host; not followed")
            return target
        if _is_url(location) or urlsplit(location).scheme not in ("", "file"):
            raise SchemaError(f"{node.where}: {location!r} is no local file; not followed")
        path = Path(node.source).parent / unquote(location.removeprefix("file://"))
        return str(path)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _escaped(key: str | int) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _read(source: str, network: NetworkPolicy) -> Any:
    data = _download(source, network) if _is_url(source) else _read_file(Path(source))
    text = data.decode("utf-8-sig", "replace")
    try:
        if source.endswith(".json") or text.lstrip()[:1] in ("{", "["):
            return json.loads(text)
    except ValueError as error:
        if source.endswith(".json"):
            raise SchemaError(f"{source} is not valid JSON: {error}") from None
    except RecursionError:
        raise SchemaError(f"{source} is nested too deeply") from None
    return _parse_yaml(text, source)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name the document in it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _download(url: str, network: NetworkPolicy) -> bytes:
    import httpx

    policy = network.guarding(url, label=url)
    try:
        # In a thread, as there may be a loop in this one.
        with ThreadPoolExecutor(1) as thread:
            body, complete = thread.submit(asyncio.run, _fetch(url, policy)).result()
    except (httpx.HTTPError, httpx.InvalidURL, HTTPToolError) as error:
        raise UserError(f"{url} cannot be loaded: {str(error).splitlines()[0]}") from None
    if not complete:
        raise SchemaError(f"{url} is larger than {_MAX_BYTES} bytes")
    return body


async def _fetch(url: str, policy: NetworkPolicy) -> tuple[bytes, bool]:
    headers = {"Accept-Encoding": ACCEPT_ENCODING}
    async with (
        policy.client(follow_redirects=True, timeout=_TIMEOUT_S, headers=headers) as client,
        client.stream("GET", url) as response,
    ):
        response.raise_for_status()
        return await read_body(response, _MAX_BYTES)


def _parse_yaml(text: str, source: str) -> Any:
    import yaml

    try:
        return _with_text_keys(yaml.load(text, Loader=_yaml_loader()))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SchemaError(f"{source} is neither JSON nor YAML: {reason[:300]}") from None
    except RecursionError:
        raise SchemaError(f"{source} is nested too deeply") from None


def _yaml_loader() -> Any:
    """Of YAML as JSON's superset: the country ``NO`` is no boolean, and a date is text."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [
                (tag, pattern)
                for tag, pattern in resolvers
                if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")
            ]
            for first, resolvers in base.yaml_implicit_resolvers.items()
        }

    boolean = re.compile("^(?:true|True|TRUE|false|False|FALSE)$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", boolean, list("tTfF"))
    return Loader


def _with_text_keys(value: Any) -> Any:
    """Response codes and the like are numbers in YAML; JSON has text only."""
    if isinstance(value, Mapping):
        return {_key(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_text_keys(item) for item in value]
    return value


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key)


def _what_else(content: Any) -> str:
    if isinstance(content, Mapping) and "swagger" in content:
        return (
            f"this is Swagger {content['swagger']}, which is not supported; convert it to OpenAPI "
            "3, for example with swagger2openapi"
        )
    if isinstance(content, Mapping) and "openapi" in content:
        return f"OpenAPI {content['openapi']!r} is not supported; it must be of version 3"
    return "this is no OpenAPI document: it has no 'openapi' field with a version"
