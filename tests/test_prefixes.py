"""Prompt beginnings on the disk: read by the next process, and never trusted blindly."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from agentkit import (
    ModelRequest,
    ModelResponse,
    Sampling,
    SystemMessage,
    ToolDefinition,
    TransformersModel,
    UserMessage,
)
from agentkit.models.base import generate

TOOL = ToolDefinition(
    name="look_up",
    description="Look a word up in the encyclopedia " * 10,
    parameters={"type": "object", "properties": {"word": {"type": "string", "maxLength": 9}}},
)


@pytest.fixture(params=["granite", "granite_hybrid"])
def shared(request: pytest.FixtureRequest) -> TransformersModel:
    fixture: TransformersModel = request.getfixturevalue(request.param)
    return fixture


def process(shared: TransformersModel, folder: Path | None, **options: Any) -> TransformersModel:
    """A model as a new process has it: the same weights, and nothing read yet."""
    engine = shared.engine
    return TransformersModel.from_loaded(
        engine.model, engine.tokenizer, prefix_dir=folder, **options
    )


def ask(model: TransformersModel, text: str, tool: ToolDefinition = TOOL) -> ModelResponse:
    request = ModelRequest(
        messages=[SystemMessage("Be brief."), UserMessage(text)],
        tools=[tool],
        sampling=Sampling(max_tokens=12),
    )
    return asyncio.run(generate(model, request))


def in_new_process(
    shared: TransformersModel, folder: Path | None, *texts: str, **options: Any
) -> list[ModelResponse]:
    model = process(shared, folder, **options)
    try:
        return [ask(model, text) for text in texts]
    finally:
        model.close()  # waits until files are written


def test_a_new_process_reads_only_the_question(shared: TransformersModel, tmp_path: Path) -> None:
    (first,) = in_new_process(shared, tmp_path, "What is a lighthouse?")
    assert first.usage.reused_tokens == 0
    assert len(list(tmp_path.iterdir())) == 1
    other, again = in_new_process(shared, tmp_path, "And a ship?", "What is a lighthouse?")
    for answer in (other, again):
        assert answer.usage.prefilled_tokens < 40 < answer.usage.reused_tokens
    (plain,) = in_new_process(shared, None, "And a ship?")
    assert other.generation == plain.generation
    assert again.generation == first.generation
    assert len(list(tmp_path.iterdir())) == 1


def test_a_second_conversation_reads_only_its_question(shared: TransformersModel) -> None:
    # Also without a folder, and also where the state cannot be cut back.
    first, second = in_new_process(shared, None, "What is a lighthouse?", "And a ship?")
    assert first.usage.reused_tokens == 0
    assert second.usage.prefilled_tokens < 40 < second.usage.reused_tokens


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "foreign"])
def test_a_damaged_file_is_passed_over_and_replaced(
    shared: TransformersModel, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = in_new_process(shared, tmp_path, "What is a lighthouse?")
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    if damage == "foreign":
        other = tmp_path / "other"
        model = process(shared, other)
        ask(model, "hi", ToolDefinition(name="other", description=TOOL.description))
        model.close()
        (written,) = other.iterdir()
        written.replace(file)
    else:
        file.write_bytes({"cut": whole[:-100], "garbage": b"\xff" * 500, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        (again,) = in_new_process(shared, tmp_path, "What is a lighthouse?")
    assert again.generation == first.generation
    assert again.usage.reused_tokens == 0
    assert "cannot be used" in caplog.text
    (healed,) = in_new_process(shared, tmp_path, "What is a lighthouse?")
    assert healed.usage.reused_tokens > 40
    assert healed.generation == first.generation


def test_other_weights_do_not_use_the_file(
    granite: TransformersModel, embedded_weights: TransformersModel, tmp_path: Path
) -> None:
    in_new_process(granite, tmp_path, "What is a lighthouse?")
    (answer,) = in_new_process(embedded_weights, tmp_path, "What is a lighthouse?")
    assert answer.usage.reused_tokens == 0
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def embedded_weights() -> Any:
    """The same architecture and tokenizer, with one weight changed."""
    from support import granite_model

    model = granite_model(hybrid=False)
    model.engine.model.model.embed_tokens.weight.data[0, 0] += 1
    yield model
    model.close()


def test_the_folder_keeps_to_its_budget(granite: TransformersModel, tmp_path: Path) -> None:
    in_new_process(granite, tmp_path, "hi")
    (file,) = tmp_path.iterdir()
    os.utime(file, (time.time() - 100, time.time() - 100))
    model = process(granite, tmp_path, prefix_bytes=int(file.stat().st_size * 2.5))
    try:
        for i in range(4):
            ask(model, "hi", ToolDefinition(name=f"tool{i}", description=TOOL.description))
    finally:
        model.close()
    left = list(tmp_path.iterdir())
    assert len(left) == 2
    assert file not in left
    in_new_process(granite, tmp_path / "small", "hi", prefix_bytes=10)
    assert not (tmp_path / "small").exists()
