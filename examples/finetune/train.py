"""Teach a model to call tools: LoRA on conversations made as it learns.

    python -m finetune.train OUTPUT --model embedded --steps 600
    python -m finetune.train OUTPUT --model ibm-granite/granite-4.0-350m --steps 600

An interrupted run goes on from its last checkpoint when it is started again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file

from agentkit.chat_format import ChatFormat
from agentkit.engine.tokenization import TokenCodec
from agentkit.models.adapter import ADAPTER_WEIGHTS
from finetune.base_model import load_base
from finetune.conversations import groups
from finetune.fused_lora import fuse
from finetune.packing import Pack, packs
from finetune.tree_attention import use_tree
from finetune.workers import Workers, run_workers

_STATE = "state.pt"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome."""

    model: str = "embedded"
    """A hub id, a folder, or `embedded`."""
    steps: int = 600
    """Updates of the weights."""
    packs: int = 4
    """Trees of conversations a step."""
    max_tokens: int = 1280
    """Of one pack."""
    rank: int = 32
    """Of the LoRA matrices."""
    first_layer: int = 6
    """Layers below are left as they are: what words mean is known, and it saves their backward."""
    alpha: int = 64
    """What LoRA's product is scaled by, times the rank."""
    learning_rate: float = 1e-3
    """At its highest; it rises over the first 4 % and falls as a cosine."""
    weight_decay: float = 0.0
    """Of AdamW."""
    first_weight: float = 8.0
    """How much the first token of a turn counts: it decides whether a tool is called."""
    seed: int = 0
    """Of weights and data."""
    start: str = ""
    """An adapter of the same shape to go on from; new matrices if not given."""
    checkpointing: bool = False
    """Forget activations and compute them again: less memory, a third more time."""


def train(
    recipe: Recipe, output: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32,
    save_every: int = 50, limit_s: float = math.inf, workers: Workers | None = None,
) -> None:  # fmt: skip
    """Train, and leave the adapter in a folder.

    Args:
        recipe: What to do.
        output: Where adapter, checkpoint and log go.
        device: `cpu` or `cuda`.
        dtype: Of the base weights; the adapter's are float32.
        save_every: Steps from one checkpoint to the next.
        limit_s: Seconds of training after which to stop, if the steps are not done before. The
            learning rate falls by whichever is nearer.
        workers: Processes that share the packs of a step, of which this is one.
    """
    workers = workers or Workers()
    torch.manual_seed(recipe.seed)
    base, tokenizer, chat_format = load_base(recipe.model, device=device, dtype=dtype)
    model, optimizer, start, earlier = _prepare(recipe, base, output)
    model.train()
    output.mkdir(parents=True, exist_ok=True)
    if workers.first:
        (output / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2))
    codec, begin = TokenCodec(tokenizer), time.monotonic()
    with _progress(workers.first) as progress, (output / "log.jsonl").open("a") as log:
        bar = progress.add_task("Training", total=recipe.steps, completed=start, loss=math.nan)
        done = start
        for step in range(start, recipe.steps):
            passed = workers.most(earlier + time.monotonic() - begin)
            share = max(step / recipe.steps, passed / limit_s)
            if share >= 1:
                break
            rate = learning_rate(recipe, share)
            for group in optimizer.param_groups:
                group["lr"] = rate
            trees = list(_packs(recipe, step, codec, chat_format))
            figures = _update(model, optimizer, trees, device, workers, recipe.first_weight)
            done = step + 1
            progress.update(bar, completed=done, loss=figures["loss"])
            if workers.first:
                line = {"step": done, "rate": rate, "s": round(passed, 1), **figures}
                log.write(json.dumps(line) + "\n")
                log.flush()
                if done % save_every == 0:
                    _save(model, optimizer, done, passed, output)
        if workers.first and done > start:
            _save(model, optimizer, done, earlier + time.monotonic() - begin, output)


def learning_rate(recipe: Recipe, share: float) -> float:
    """Linear rise over the first 4 %, then a cosine to 2 % (Loshchilov and Hutter 2017).

    Args:
        recipe: With the highest rate.
        share: How much of the training is done, 0 to 1.
    """
    if share < 0.04:
        return recipe.learning_rate * (0.1 + 0.9 * share / 0.04)
    fall = 0.5 * (1 + math.cos(math.pi * (share - 0.04) / 0.96))
    return recipe.learning_rate * (0.02 + 0.98 * fall)


def loss_sum(model: Any, pack: Pack, device: str, first_weight: float = 1.0) -> torch.Tensor:
    """Cross entropy over the tokens that are learnt, weighted and summed.

    Logits are computed for those alone: with a vocabulary of 50,000 they cost most.
    """
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    use_tree(pack.branch, device=device)
    hidden = inner.model(
        input_ids=pack.input_ids.to(device),
        position_ids=pack.position_ids.to(device),
        use_cache=False,
    ).last_hidden_state[0]
    wanted = pack.targets[0].to(device)
    learnt = wanted != -100
    logits = inner.lm_head(hidden[learnt])
    if scaling := getattr(inner.config, "logits_scaling", None):  # Granite's
        logits = logits / scaling
    losses = torch.nn.functional.cross_entropy(logits.float(), wanted[learnt], reduction="none")
    first = pack.first[0].to(device)[learnt]
    return (losses * torch.where(first, first_weight, 1.0)).sum()


def _update(
    model: Any, optimizer: Any, trees: list[Pack], device: str, workers: Workers, weight: float
) -> dict[str, float]:
    learnt, total = sum(pack.learnt for pack in trees), 0.0
    for pack in workers.share(trees):
        loss = loss_sum(model, pack, device, weight) / learnt
        loss.backward()
        total += loss.item()
    trained = [p for p in model.parameters() if p.requires_grad]
    total = workers.add_up(trained, total)
    norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    tokens = sum(pack.input_ids.numel() for pack in trees)
    conversations = sum(int(pack.branch.max()) for pack in trees)
    return {
        "loss": round(total, 4), "norm": round(float(norm), 3), "tokens": tokens,
        "learnt": learnt, "conversations": conversations,
    }  # fmt: skip


def _packs(recipe: Recipe, step: int, codec: TokenCodec, chat_format: ChatFormat) -> Iterator[Pack]:
    # Each step has its own seed, so that a run that goes on need not make what was learnt before.
    found = 0
    for attempt in range(100):
        made = groups(recipe.packs - found, seed=(recipe.seed * 1_000_003 + step) * 100 + attempt)
        for pack in packs(made, codec, chat_format, max_tokens=recipe.max_tokens):
            found += 1
            yield pack
        if found >= recipe.packs:
            return


def _prepare(recipe: Recipe, base: Any, output: Path) -> tuple[Any, Any, int, float]:
    state = output / _STATE
    if recipe.checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    if state.exists():
        before = json.loads((output / "recipe.json").read_text())
        if before != asdict(recipe):
            raise SystemExit(f"{output} holds a run of another recipe: {before}; name a new folder")
        model: Any = PeftModel.from_pretrained(base, output, is_trainable=True)
    else:
        config = LoraConfig(
            r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=0.0,
            task_type="CAUSAL_LM", target_modules=_linear_layers(base, recipe.first_layer),
        )  # fmt: skip
        model = get_peft_model(base, config)
        if recipe.start:
            _begin_with(model, Path(recipe.start))
    trained = [p for p in model.parameters() if p.requires_grad]
    for weight in trained:
        weight.data = weight.data.float()
    fuse(model)
    optimizer = torch.optim.AdamW(
        trained, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    if not state.exists():
        return model, optimizer, 0, 0.0
    saved = torch.load(state, weights_only=True)
    optimizer.load_state_dict(saved["optimizer"])
    return model, optimizer, saved["step"], saved["seconds"]


def _begin_with(model: Any, adapter: Path) -> None:
    """Take over the matrices of an adapter.

    Raises:
        SystemExit: It is of another shape.
    """
    weights = load_file(adapter / ADAPTER_WEIGHTS)
    try:
        left = set_peft_model_state_dict(model, weights)
    except RuntimeError as error:
        raise SystemExit(f"{adapter} does not fit the recipe: {error}") from error
    if left.unexpected_keys:
        raise SystemExit(f"{adapter} has layers that the recipe has not: {left.unexpected_keys}")


def _linear_layers(base: Any, first: int) -> list[str]:
    """Names of the linear layers of the blocks from one on; the output layer is not among them."""
    return [
        f"layers.{number}.{name}"
        for number, block in enumerate(base.model.layers)
        if number >= first
        for name, module in block.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]


def _save(model: Any, optimizer: Any, step: int, seconds: float, output: Path) -> None:
    model.save_pretrained(output)
    work = output / f".{_STATE}"
    state = {"optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
    torch.save(state, work)
    work.replace(output / _STATE)


def _progress(shown: bool) -> Progress:
    loss = TextColumn("loss {task.fields[loss]:.3f}")
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), loss,
        TimeRemainingColumn(), disable=not shown,
    )  # fmt: skip


def main() -> None:
    """Train as the command line says."""
    options = argparse.ArgumentParser(description="LoRA for tool calling.")
    options.add_argument("output", type=Path)
    defaults = Recipe()
    for name, value in asdict(defaults).items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            options.add_argument(flag, action="store_true")
        else:
            options.add_argument(flag, type=type(value), default=value)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--save-every", type=int, default=50)
    options.add_argument("--minutes", type=float, default=math.inf)
    options.add_argument("--workers", type=int, default=1, help="processes, such as one a core")
    given = vars(options.parse_args())
    recipe = Recipe(**{name: given[name] for name in asdict(defaults)})
    # Without instructions for it, bfloat16 products are several times slower than float32's.
    fast = given["device"] == "cuda" or torch.cpu._is_avx512_bf16_supported()
    dtype = torch.bfloat16 if fast else torch.float32
    how = {
        "device": given["device"], "dtype": dtype, "save_every": given["save_every"],
        "limit_s": given["minutes"] * 60,
    }  # fmt: skip
    run_workers(given["workers"], train, recipe, given["output"], how)


if __name__ == "__main__":
    main()
