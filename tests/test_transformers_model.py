"""Loading models, running them from async code, and letting them go."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from agentkit import (
    CHATML,
    GRANITE,
    Agent,
    ModelError,
    ModelLoadError,
    ModelRequest,
    Sampling,
    TextDelta,
    TokenizerTemplate,
    TransformersModel,
    UserError,
    UserMessage,
    example_call,
    tool,
)
from agentkit.models.base import generate
from agentkit.models.defaults import default_model_name
from agentkit.models.embedded import embedded_gguf
from agentkit.tokenizer_template import TemplateMismatchWarning, pick_format, template_differences
from support import granite_model, granite_tokenizer

HELLO = ModelRequest(messages=[UserMessage("hello")], sampling=Sampling(max_tokens=8))

# A template that renders as Granite's does, for conversations of plain turns only.
PLAIN_TEMPLATE = (
    "{% if messages[0].role != 'system' %}<|start_of_role|>system<|end_of_role|>You are a helpful "
    "assistant. Please ensure responses are professional, accurate, and safe.<|end_of_text|>\n"
    "{% endif %}{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}"
    "<|end_of_text|>\n{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant"
    "<|end_of_role|>{% endif %}"
)


@tool
def get_weather(city: str) -> str:
    """Get the current weather of a city.

    Args:
        city: Name of the city
    """
    return {"Paris": "18 degrees and sunny"}.get(city, "11 degrees and raining")


@tool
def calculate(expression: str) -> str:
    """Evaluate an arithmetic expression.

    Args:
        expression: such as 2 * 3
    """
    a, _, b = expression.partition("*")
    return str(int(a) * int(b))


@pytest.mark.model
def test_the_embedded_model_calls_a_tool_of_its_own_accord_and_answers(embedded: Any) -> None:
    examples = [
        *example_call(
            "What is the weather in Rome?",
            "get_weather",
            {"city": "Rome"},
            "31 degrees and cloudy",
            "It is 31 degrees and cloudy in Rome.",
        ),
        *example_call(
            "How much is 3 times 5?", "calculate", {"expression": "3 * 5"}, "15", "It is 15."
        ),
        *example_call(
            "What is the weather in Oslo?",
            "get_weather",
            {"city": "Oslo"},
            "-4 degrees and snowing",
            "It is -4 degrees and snowing in Oslo.",
        ),
    ]
    agent = Agent(embedded, [get_weather, calculate], examples=examples)
    result = agent.run_sync("What is the weather in Paris?")
    assert [(c.call.name, c.call.arguments) for c in result.calls] == [
        ("get_weather", {"city": "Paris"})
    ]
    assert "18 degrees and sunny" in result.output
    first, second = result.steps
    assert second.usage.reused_tokens > first.usage.prompt_tokens
    assert second.usage.prefilled_tokens < 60


@pytest.mark.model
def test_a_gguf_file_loads_as_it_is() -> None:
    gguf = embedded_gguf()
    assert gguf is not None
    model = TransformersModel(gguf, dtype="float32").load()
    try:
        assert asyncio.run(generate(model, HELLO)).text
        assert model.engine.chat_format is CHATML
    finally:
        model.close()


def test_a_saved_folder_loads(tmp_path: Path, granite: Any) -> None:
    granite.engine.model.save_pretrained(tmp_path)
    granite.engine.tokenizer.save_pretrained(tmp_path)
    model = TransformersModel(tmp_path, dtype="float32", device="cpu")
    try:
        again = asyncio.run(generate(model, HELLO))
        assert again.generation == asyncio.run(generate(granite, HELLO)).generation
        assert model.engine.chat_format is GRANITE
    finally:
        model.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./no/such/folder", "no model folder"),
        ("nowhere.gguf", "no GGUF file"),
        ("ibm-granite/no-such-model", "could not be loaded"),
    ],
)
def test_a_model_that_is_not_there_is_an_error_in_words(name: str, message: str) -> None:
    model = TransformersModel(name)
    with pytest.raises(ModelLoadError, match=message):
        model.load()
    with pytest.raises(ModelLoadError, match=message):
        Agent(TransformersModel(name)).run_sync("hi")


def test_a_folder_without_a_model_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"config\.json is missing"):
        TransformersModel(tmp_path).load()


@pytest.mark.parametrize("options", [{"device": "abacus"}, {"dtype": "float7"}])
def test_an_unknown_device_or_dtype_is_the_users_error(options: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not known"):
        TransformersModel(tmp_path, **options).load()


def test_the_default_can_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_MODEL", "some/model")
    assert default_model_name() == "some/model"
    assert TransformersModel().name == "some/model"
    monkeypatch.delenv("AGENTKIT_MODEL")
    assert default_model_name() == "embedded"


def test_leaving_a_stream_early_stops_the_model(granite: Any) -> None:
    async def go() -> int:
        stream = granite.stream(
            ModelRequest(messages=[UserMessage("go on")], sampling=Sampling(max_tokens=2000))
        )
        async for event in stream:
            if isinstance(event, TextDelta):
                break
        await stream.aclose()
        # The model's thread is free at once: a short turn comes back while the long one is gone.
        return (await generate(granite, HELLO)).usage.generated_tokens

    assert asyncio.run(go()) <= 8


def test_cancelling_a_turn_that_waits_for_its_own_begins_nothing(granite: Any) -> None:
    engine = granite.engine
    model = TransformersModel.from_loaded(engine.model, engine.tokenizer, max_batch=1)
    endless = Sampling(max_tokens=2000)

    async def go() -> None:
        request = ModelRequest(messages=[UserMessage("a")], sampling=endless)
        long = asyncio.create_task(generate(model, request))
        waiting = asyncio.create_task(generate(model, HELLO))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long

    asyncio.run(go())
    model.close()


def test_the_event_loop_stays_free_while_the_model_works(granite: Any) -> None:
    async def go() -> int:
        task = asyncio.create_task(
            generate(
                granite,
                ModelRequest(messages=[UserMessage("a")], sampling=Sampling(max_tokens=100)),
            )
        )
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return ticks

    # A loop that the model blocks gets to its first tick only, when all is over.
    assert asyncio.run(go()) > 1


def test_turns_asked_for_at_once_give_the_same_answer(granite: Any) -> None:
    async def go() -> list[Any]:
        return await asyncio.gather(*(generate(granite, HELLO) for _ in range(5)))

    texts = {response.text for response in asyncio.run(go())}
    assert len(texts) == 1


def test_a_closed_model_frees_its_weights_and_says_so() -> None:
    model = granite_model(hybrid=False, layers=1)
    weights = weakref.ref(model.engine.model)
    asyncio.run(generate(model, HELLO))
    model.close()
    model.close()
    gc.collect()
    assert weights() is None
    with pytest.raises(ModelError, match="is closed"):
        asyncio.run(generate(model, HELLO))


def test_an_agent_as_context_manager_closes_its_model() -> None:
    model = granite_model(hybrid=False, layers=1)
    with Agent(model, sampling=Sampling(max_tokens=4)) as agent:
        agent.run_sync("hi")
    with pytest.raises(ModelError, match="is closed"):
        agent.run_sync("hi")


def test_a_granite_whose_template_differs_is_reported_loudly() -> None:
    tokenizer = granite_tokenizer().__class__(
        tokenizer_object=granite_tokenizer().backend_tokenizer, eos_token="<|end_of_text|>"
    )
    tokenizer.chat_template = PLAIN_TEMPLATE
    differences = template_differences(tokenizer, GRANITE)
    # Plain turns agree; the template knows nothing of tools and documents in the system text.
    assert not any(d.startswith(("a user turn", "system text:")) for d in differences)
    assert any(d.startswith("calls and their results") for d in differences)
    weights = granite_model(hybrid=False, layers=1).engine.model
    with pytest.warns(TemplateMismatchWarning, match=r"differs from agentkit's Granite format"):
        TransformersModel.from_loaded(weights, tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TransformersModel.from_loaded(weights, granite_tokenizer())


@pytest.mark.model
def test_a_tokenizers_own_template_can_be_used(embedded: Any) -> None:
    tokenizer = embedded.engine.tokenizer
    template = TokenizerTemplate(tokenizer)
    prompt = template.render([UserMessage("hi")], tools=[get_weather.definition])
    # SmolLM2's template has no place for tools: they stand in the system text.
    assert prompt.text.startswith("<|im_start|>system\nYou are a helpful assistant with access")
    assert '"get_weather"' in prompt.text
    assert template.render("hi").text == tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert pick_format(tokenizer) is CHATML


def test_repetition_of_prefill_chunks_changes_nothing(granite_hybrid: Any) -> None:
    engine = granite_hybrid.engine
    ids = engine.codec.encode(GRANITE.render("a long text " * 40))
    _, whole = engine.prefill(ids)
    engine.prefill_chunk, before = 7, engine.prefill_chunk
    try:
        _, chunked = engine.prefill(ids)
    finally:
        engine.prefill_chunk = before
    torch.testing.assert_close(whole, chunked, atol=1e-4, rtol=1e-4)


def test_importing_agentkit_does_not_import_torch() -> None:
    code = (
        "import sys, agentkit; from agentkit import Agent, tool, HTTPTool, ScriptedModel, Limits; "
        "sys.exit([m for m in ('torch', 'transformers', 'faiss') if m in sys.modules] or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_public_name_can_be_imported() -> None:
    import agentkit

    assert {name for name in agentkit.__all__ if getattr(agentkit, name) is None} == set()
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = agentkit.no_such_name
