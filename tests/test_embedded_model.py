"""The embedded model: what its adapter adds, and what it can do because of it."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from agentkit import Agent, TransformersModel, tool
from agentkit.engine.native.weights import round_model
from agentkit.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, merge_adapter
from agentkit.models.embedded import EMBEDDED_MODELS, TOOLS_ADAPTER, prepare_embedded_model

pytestmark = pytest.mark.model


@tool
def get_weather(city: str) -> str:
    """Get the current weather of a city.

    Args:
        city: Name of the city.
    """
    return {"Oslo": "4 degrees and snow"}.get(city, "18 degrees and sunny")


@tool
def book_table(restaurant: str, people: int, time: str) -> str:
    """Reserve a table at a restaurant.

    Args:
        restaurant: Name of the restaurant.
        people: How many come.
        time: When, as HH:MM.
    """
    return "booked"


def test_the_adapter_is_small_and_names_nobodys_machine() -> None:
    assert (TOOLS_ADAPTER / ADAPTER_WEIGHTS).stat().st_size <= 25_000_000
    config = json.loads((TOOLS_ADAPTER / ADAPTER_CONFIG).read_text("utf-8"))
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "Licence" in (TOOLS_ADAPTER / "README.md").read_text("utf-8")


def test_it_is_the_base_with_the_adapter_in_eight_bits() -> None:
    base = AutoModelForCausalLM.from_pretrained(prepare_embedded_model("embedded-base"))
    merge_adapter(base, TOOLS_ADAPTER)
    round_model(base, "int8")
    tuned = AutoModelForCausalLM.from_pretrained(prepare_embedded_model())
    weights = dict(base.named_parameters())
    for name, weight in tuned.named_parameters():
        assert torch.equal(weight, weights[name]), name


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_both_have_a_name(name: str) -> None:
    assert TransformersModel(name).name == EMBEDDED_MODELS[name]


async def test_it_calls_without_examples_and_answers_from_the_result() -> None:
    async with Agent("embedded", [get_weather, book_table]) as agent:
        result = await agent.run("What is the weather like in Oslo?")
    (record,) = result.calls
    assert (record.call.name, record.call.arguments) == ("get_weather", {"city": "Oslo"})
    assert "4 degrees" in result.output


async def test_it_fills_in_several_arguments() -> None:
    async with Agent("embedded", [get_weather, book_table]) as agent:
        result = await agent.run("Please book a table for 4 people at Chez Lulu at 19:30.")
    call = result.calls[0].call
    assert call.name == "book_table"
    assert call.arguments == {"restaurant": "Chez Lulu", "people": 4, "time": "19:30"}


async def test_it_does_not_call_what_does_not_fit() -> None:
    async with Agent("embedded", [book_table]) as agent:
        result = await agent.run("What is the derivative of x squared?")
    assert not result.calls
