"""How readily a model calls tools: the bias of its folder, and of who loads it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from agentkit import (
    Agent,
    ModelRequest,
    ModelResponse,
    Sampling,
    TransformersModel,
    UserError,
    UserMessage,
    tool,
)
from agentkit.errors import ModelLoadError
from agentkit.models.settings import SETTINGS_FILE, ModelSettings, read_settings
from support import granite_tokenizer, small_model

if TYPE_CHECKING:
    from pathlib import Path


@tool
def get_weather(city: str) -> str:
    """Get the current weather of a city."""
    return "18 degrees and sunny"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small model."""
    small_model("granite").save_pretrained(tmp_path)
    granite_tokenizer().save_pretrained(tmp_path)
    return tmp_path


async def begun_with(model: TransformersModel, **options: Any) -> bool:
    """Whether the model's turn is a call."""
    request = ModelRequest(
        messages=[UserMessage("hello")],
        tools=[get_weather.definition],
        sampling=Sampling(max_tokens=80),
        **options,
    )
    *_, response = [event async for event in model.stream(request)]
    model.close()
    assert isinstance(response, ModelResponse)
    return bool(response.calls)


@pytest.mark.parametrize("bias", [-1000.0, 1000.0])
async def test_the_folder_says_how_readily(folder: Path, bias: float) -> None:
    (folder / SETTINGS_FILE).write_text(f'{{"call_bias": {bias}}}')
    assert await begun_with(TransformersModel(folder)) == (bias > 0)
    # Who loads the model knows better.
    assert await begun_with(TransformersModel(folder, call_bias=-bias)) == (bias < 0)


async def test_a_call_that_is_required_does_not_ask(folder: Path) -> None:
    model = TransformersModel(folder, call_bias=-1000.0)
    assert await begun_with(model, tool_choice="required")
    model = TransformersModel(folder, call_bias=1000.0)
    assert not await begun_with(model, tool_choice="none")


@pytest.mark.model
async def test_the_embedded_model_can_be_made_to_refrain() -> None:
    async with Agent(TransformersModel("embedded", call_bias=-1000.0), [get_weather]) as agent:
        result = await agent.run("What is the weather in Paris?")
    assert not result.calls


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "should be an object with call_bias"),
        ('{"call_bas": 1}', "should be an object with call_bias"),
        ('{"call_bias": "a"}', "call_bias is 'a'"),
        ('{"call_bias": NaN}', "call_bias is nan"),
        ("{", "cannot be read"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / SETTINGS_FILE).write_text(text)
    with pytest.raises(ModelLoadError, match=said):
        read_settings(tmp_path)


def test_without_a_file_nothing_is_added(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == ModelSettings(call_bias=0.0)
    assert read_settings(tmp_path / "a hub id") == ModelSettings()


def test_a_bias_is_a_number() -> None:
    with pytest.raises(UserError, match="call_bias is nan"):
        TransformersModel(call_bias=math.nan)
