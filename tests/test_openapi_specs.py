"""Real OpenAPI documents: every operation becomes a tool whose calls a grammar can be made of.

See ``data/openapi/NOTICE.md`` for where they are from.
"""

from __future__ import annotations

import json
import lzma
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from agentkit.engine.grammar import GrammarCompiler
from agentkit.models.embedded import prepare_embedded_model
from agentkit.validation import ArgumentValidator
from agentkit_tools.openapi import OpenAPITools

DATA = Path(__file__).parent / "data" / "openapi"
COUNTS = {
    "circular-3.0.json": 3,
    "github-3.0.json.xz": 1223,
    "parameters-style-3.0.json": 25,
    "petstore-3.1.yaml": 20,
    "polymorphism-3.0.yaml": 13,
    "schema-types-3.1.json": 23,
    "security-3.1.yaml": 15,
    "stapi-3.0.json.xz": 120,
    "uspto-3.0.json": 3,
}


@lru_cache
def tools_of(name: str) -> OpenAPITools:
    path = DATA / name
    spec: Any = path
    if path.suffix == ".xz":
        spec = json.loads(lzma.decompress(path.read_bytes()))
    return OpenAPITools.from_spec(
        spec, include=["*"], server="https://api.example.org", deprecated=True
    )


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    tokenizer = AutoTokenizer.from_pretrained(prepare_embedded_model())
    return GrammarCompiler(tokenizer, vocab_size=len(tokenizer), eos_ids=[tokenizer.eos_token_id])


def test_every_document_is_tested() -> None:
    assert {path.name for path in DATA.iterdir()} == {*COUNTS, "NOTICE.md"}


@pytest.mark.parametrize("name", COUNTS)
def test_every_operation_becomes_a_tool(name: str) -> None:
    tools = tools_of(name)
    assert tools.skipped == ()
    names = [tool.definition.name for tool in tools]
    assert len(names) == len(set(names)) == len(tools.operations) == COUNTS[name]
    assert all(len(tool.definition.description) <= 300 for tool in tools)
    # HTTPTool has checked that the schemas are valid JSON Schema.
    for tool in list(tools)[::20]:
        assert not ArgumentValidator(tool.definition).validate({"no such argument": 1}).ok


@pytest.mark.parametrize("name", COUNTS)
def test_a_grammar_can_be_made_of_every_operations_schema(
    name: str, compiler: GrammarCompiler
) -> None:
    for index, tool in enumerate(tools_of(name)):
        constraint = compiler.calls([tool.definition], parallel=False)
        if index % 25 == 0:  # a way to the end of a call exists
            assert constraint.shortest_end(limit=2000) is not None, tool
