"""The training recipe: its data, its packs, its training, and what becomes of an adapter."""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import mean
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("peft", reason="the finetune extra is not installed")

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from agentkit import (
    ModelRequest,
    ModelResponse,
    Sampling,
    ToolDefinition,
    TransformersModel,
    UserMessage,
)
from agentkit.chat_format import GRANITE
from agentkit.engine.decoding import Turn
from agentkit.engine.tokenization import TokenCodec
from agentkit.errors import ModelLoadError
from agentkit.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, merge_adapter
from finetune import train as training
from finetune.average import average
from finetune.calibrate import best, decisions, lead_of_a_call, requests
from finetune.composed import compose_domain, composed_names
from finetune.conversations import Group, Mix, groups
from finetune.corpus import is_held_out, load_domains, mistakes
from finetune.export import export
from finetune.fused_lora import fuse
from finetune.held_out import write
from finetune.leaks import leaks, measured, squeeze
from finetune.measure import held_out_packs, measure
from finetune.packing import packs
from finetune.train import Recipe, loss_sum, train
from support import granite_model


def test_the_data_is_as_large_and_as_sound_as_it_says() -> None:
    domains = load_domains()
    functions = [f for domain in domains for f in domain["functions"]]
    assert (len(domains), len(functions)) == (168, 1613)
    assert len({f["name"] for f in functions}) == len(functions)
    assert [m for domain in domains for m in mistakes(domain, tries=2)] == []


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_composed_functions_are_as_sound_as_authored_ones(seed: int) -> None:
    domain = compose_domain(random.Random(seed))
    assert list(mistakes(domain, tries=2)) == []
    names = [f["name"] for f in domain["functions"]]
    assert len(set(names)) == len(names)
    assert {squeeze(name) for name in names} <= {squeeze(name) for name in composed_names()}


def test_mistakes_are_found() -> None:
    broken = {
        "name": "greet",
        "description": "Greets.",
        "parameters": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "times": {"type": "integer"}},
            "required": ["name"],
        },
        "slots": {"times": [1.5], "name": "@person"},
        "requests": ["Greet {name} {times} times."] * 5 + ["Greet {whom}."],
        "outcomes": [{"result": "ok", "answer": "Done."}],
    }
    (mistake, *_) = mistakes({"domain": "manners", "functions": [broken]})
    assert "manners/greet" in mistake
    assert "1.5 is not of type 'integer'" in mistake
    broken["slots"]["times"] = [2]  # type: ignore[index]
    (mistake,) = mistakes({"domain": "manners", "functions": [broken]})
    assert "{whom}" in mistake


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_every_call_is_valid_for_a_tool_that_is_shown_in_its_order(seed: int) -> None:
    for group in groups(3, seed=seed):
        shown = {t["function"]["name"]: t["function"]["parameters"] for t in group.tools}
        for message in (m for branch in group.branches for m in branch):
            for call in message.get("tool_calls", ()):
                schema = shown[call["function"]["name"]]
                arguments = json.loads(call["function"]["arguments"])
                jsonschema.validate(arguments, schema)
                order = [name for name in schema["properties"] if name in arguments]
                assert list(arguments) == order


def test_fuller_requests_name_more_arguments() -> None:
    def arguments(fullest: float) -> float:
        made = groups(60, mix=Mix(fullest=fullest, composed=0, documents=0))
        messages = [m for group in made for branch in group.branches for m in branch]
        calls = [call for m in messages for call in m.get("tool_calls", ())]
        return mean(len(json.loads(call["function"]["arguments"])) for call in calls)

    assert arguments(1.0) > arguments(0.0) + 0.1


def test_held_out_functions_are_not_trained_on(tmp_path: Path) -> None:
    names = {f["name"] for domain in load_domains("train") for f in domain["functions"]}
    held = {f["name"] for domain in load_domains("held_out") for f in domain["functions"]}
    assert held
    assert not names & held
    assert all(is_held_out(name) for name in held)
    write(tmp_path, 8)
    lines = (tmp_path / "BFCL_v4_multiple.json").read_text("utf-8").splitlines()
    asked = [json.loads(line) for line in lines]
    assert len(asked) == 8
    assert all(any(f["name"] in held for f in item["function"]) for item in asked)


def test_what_is_measured_must_not_be_trained_on(tmp_path: Path) -> None:
    domain = load_domains()[0]
    function = domain["functions"][0]
    with pytest.raises(FileNotFoundError, match=r"no BFCL_\*\.json"):
        measured(tmp_path, None)
    chat = domain["chat"][0]["ask"]
    item = {
        "id": "simple_0",
        "question": [[{"role": "user", "content": chat}]],
        "function": [{"name": function["name"].replace("_", ".").upper()}],
    }
    (tmp_path / "BFCL_v4_simple.json").write_text(json.dumps(item) + "\n")
    found = list(leaks([domain], measured(tmp_path, None)))
    assert f"the function name {function['name']!r} is taken" in found[0]
    assert any(repr(chat) in line for line in found)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Granite in a folder."""
    model = granite_model(hybrid=False)
    folder = tmp_path_factory.mktemp("granite")
    model.engine.model.save_pretrained(folder)
    model.engine.tokenizer.save_pretrained(folder)
    model.close()
    return folder


def test_a_pack_is_its_conversations_one_by_one(base: Path) -> None:
    model, tokenizer, chat_format = training.load_base(str(base))
    assert chat_format is GRANITE
    codec = TokenCodec(tokenizer)
    group = next(iter(groups(1, seed=3)))
    group.branches = group.branches[:4]
    (pack,) = packs([group], codec, chat_format, max_tokens=10**6)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    total, learnt = 0.0, 0
    for branch in group.branches:
        alone = Group(group.tools, [branch], group.system, group.documents)
        (single,) = packs([alone], codec, chat_format, max_tokens=10**6)
        prompt = chat_format.render(
            ([{"role": "system", "content": group.system}] if group.system else []) + branch,
            tools=group.tools,
            documents=group.documents,
            add_generation_prompt=False,
        )
        assert single.input_ids[0].tolist() == codec.encode(prompt)
        targets = single.targets[0]
        with torch.no_grad():
            logits = plain(input_ids=single.input_ids).logits[0]
        total += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        learnt += single.learnt
        taught = codec.decode(targets[targets != -100].tolist())
        said = [codec.decode(codec.encode_text(m["content"])) for m in branch]
        assert all(
            text in taught for text, m in zip(said, branch, strict=True) if m["role"] == "assistant"
        )
        assert branch[0]["content"] not in taught
    assert pack.learnt == learnt
    with torch.no_grad():
        assert loss_sum(model, pack, "cpu").item() == pytest.approx(total, rel=1e-4)


def test_fused_lora_is_peft_s_lora(base: Path) -> None:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj", "v_proj"])
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        torch.nn.init.normal_(weight, std=0.05)
    ids = torch.arange(5, 25)[None]

    def gradients() -> tuple[torch.Tensor, list[torch.Tensor]]:
        logits = model(input_ids=ids).logits
        return logits.detach(), list(torch.autograd.grad(logits.square().mean(), trained))

    logits, plain = gradients()
    fuse(model)
    fused_logits, fused = gradients()
    torch.testing.assert_close(fused_logits, logits)
    for ours, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_what_decides_counts_more(base: Path) -> None:
    _, tokenizer, chat_format = training.load_base(str(base))
    codec = TokenCodec(tokenizer)
    for group in groups(6, seed=2, mix=Mix(one_tool=0.0, documents=0.0)):
        for branch in group.branches:
            alone = Group(group.tools, [branch], group.system)
            (pack,) = packs([alone], codec, chat_format, max_tokens=10**6)
            turns = [m for m in branch if m["role"] == "assistant"]
            called = sum("tool_calls" in m for m in turns)
            # Each turn's first token, and the first of a name where there are names to choose from.
            assert int(pack.first.sum()) == len(turns) + called
            assert bool((pack.targets[pack.first] != -100).all())


def test_training_goes_on_where_it_stopped_and_merges_as_peft_does(
    base: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model": str(base), "packs": 1, "rank": 4, "first_layer": 1}
    recipe = Recipe(steps=3, max_tokens=1500, learning_rate=0.02, **options)
    train(recipe, tmp_path, save_every=2)
    steps = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3]
    train(recipe, tmp_path)  # is done already
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3
    with pytest.raises(SystemExit, match="another recipe"):
        train(Recipe(steps=4, **options), tmp_path)

    ours = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = {name: weight.clone() for name, weight in ours.state_dict().items()}
    untaught, tokenizer, chat_format = training.load_base(str(base))
    taught, *_ = training.load_base(str(base))
    merge_adapter(taught, tmp_path)
    codec = TokenCodec(tokenizer)
    (pack,) = training._packs(recipe, 0, codec, chat_format)
    with torch.no_grad():
        assert loss_sum(taught, pack, "cpu") < 0.99 * loss_sum(untaught, pack, "cpu")
    merge_adapter(ours, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(theirs, tmp_path).merge_and_unload()
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weight)
    export(tmp_path, tmp_path / "shared")
    config = json.loads((tmp_path / "shared" / ADAPTER_CONFIG).read_text("utf-8"))
    assert config["base_model_name_or_path"] == str(base)
    assert "inference_mode" not in config
    shared = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merge_adapter(shared, tmp_path / "shared")
    for name, weight in shared.state_dict().items():
        torch.testing.assert_close(weight, ours.state_dict()[name], rtol=0.02, atol=0.002)
    trees = held_out_packs(codec, chat_format, count=2)
    call = codec.encode_text("<tool_call>")[0]
    assert measure(taught, trees, call).loss < measure(untaught, trees, call).loss
    changed = {n for n, w in ours.state_dict().items() if not torch.equal(w, before[n])}
    assert changed
    assert all("layers.0." not in name for name in changed)


def test_training_goes_on_from_an_adapter(base: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": str(base), "packs": 1, "first_layer": 1}
    options |= {"steps": 1, "max_tokens": 1500}
    train(Recipe(rank=4, learning_rate=0.02, **options), tmp_path / "first")
    start = {"start": str(tmp_path / "first"), "learning_rate": 1e-12}
    train(Recipe(rank=4, **start, **options), tmp_path / "second")
    first, second = (load_file(tmp_path / n / ADAPTER_WEIGHTS) for n in ("first", "second"))
    assert any(weight.abs().max() > 0 for name, weight in first.items() if "lora_B" in name)
    for name, weight in second.items():
        torch.testing.assert_close(weight, first[name])
    with pytest.raises(SystemExit, match="does not fit the recipe"):
        train(Recipe(rank=8, **start, **options), tmp_path / "third")
    average(tmp_path / "first", tmp_path / "second", tmp_path / "mean", share=0.25)
    for name, weight in load_file(tmp_path / "mean" / ADAPTER_WEIGHTS).items():
        torch.testing.assert_close(weight, 0.75 * first[name] + 0.25 * second[name])
    train(Recipe(rank=8, **options), tmp_path / "wider")
    with pytest.raises(SystemExit, match="different shapes"):
        average(tmp_path / "first", tmp_path / "wider", tmp_path / "mean")


def test_calibration_asks_for_each_held_out_tool_and_beside_it() -> None:
    asked = list(requests(each=2))
    held_out = {f["name"] for d in load_domains("held_out") for f in d["functions"]}
    assert {tool.name for tool, _, _ in asked} == held_out
    assert 0.4 < sum(for_it for _, _, for_it in asked) / len(asked) < 0.6
    assert asked == list(requests(each=2))


def test_the_lead_of_a_call_decides_whether_one_is_begun(base: Path) -> None:
    model = TransformersModel(base)
    tool = ToolDefinition(name="now")
    lead = lead_of_a_call(model, tool, "hello")
    for bias in (-lead - 0.1, -lead + 0.1):
        model.engine.call_bias = bias
        request = ModelRequest(
            messages=[UserMessage("hello")], tools=[tool], sampling=Sampling(max_tokens=60)
        )
        *_, response = Turn(model.engine, request).run()
        assert isinstance(response, ModelResponse)
        assert bool(response.calls) == (lead + bias > 0)
    model.close()


def test_the_bias_is_the_smallest_that_is_right_most_often() -> None:
    leads = [(5.0, True)] * 8 + [(0.9, True)] * 2 + [(0.6, False)] * 5 + [(-1.0, False)] * 5
    found = decisions(leads)
    assert [(d.called, d.refrained) for d in found[:5]] == [
        (1.0, 0.5), (1.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.8, 1.0)
    ]  # fmt: skip
    assert best(found).call_bias == -0.75
    assert best(decisions([(3.0, True), (-3.0, False)])).call_bias == 0


def test_adapters_that_do_not_fit_are_refused(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    with pytest.raises(ModelLoadError, match=r"no LoRA adapter: adapter_config\.json"):
        merge_adapter(model, tmp_path)
    config = {"r": 4, "lora_alpha": 8, "peft_type": "LORA", "use_dora": True}
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=r"use_dora.*merge_and_unload"):
        merge_adapter(model, tmp_path)
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps({**config, "use_dora": False}))
    with pytest.raises(ModelLoadError, match="cannot be read"):
        merge_adapter(model, tmp_path)
