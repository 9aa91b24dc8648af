"""Many turns at once: each as if alone, none harmed by another, all within their bounds."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from agentkit import (
    ContextLengthError,
    ModelError,
    ModelRequest,
    ModelResponse,
    Sampling,
    TextDelta,
    ToolDefinition,
    TransformersModel,
    UserError,
    UserMessage,
)
from agentkit.engine.backend import Backend, Row
from agentkit.models.base import generate

TOOL = ToolDefinition(
    name="get_weather",
    description="Get the current weather of a city",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
    },
)


@pytest.fixture(params=["granite", "granite_hybrid"])
def model(request: pytest.FixtureRequest) -> Iterator[TransformersModel]:
    """The same weights with a store of its own."""
    yield from fresh(request.getfixturevalue(request.param))


@pytest.fixture
def dense(granite: TransformersModel) -> Iterator[TransformersModel]:
    yield from fresh(granite)


def fresh(shared: TransformersModel, **options: Any) -> Iterator[TransformersModel]:
    engine = shared.engine
    model = TransformersModel.from_loaded(engine.model, engine.tokenizer, **options)
    yield model
    model.close()


class Watched:
    """A backend that notes what each pass reads, and fails or waits where it is told to."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.passes: list[list[int]] = []
        self.poison: int | None = None
        self.gate: threading.Event | None = None

    @property
    def tokens(self) -> int:
        return sum(map(sum, self.passes))

    async def reaches(self, passes: int) -> None:
        while len(self.passes) < passes:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    def forward(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        if self.gate is not None:
            self.gate.wait(30)
        self.passes.append([len(row.token_ids) for row in rows])
        logits = []
        for row in rows:
            if self.poison is not None and self.poison in row.token_ids:
                row.cache.clear()
                raise RuntimeError("out of luck")
            logits += self._backend.forward([row])
        return logits


def watch(model: TransformersModel) -> Watched:
    model.engine.backend = watched = Watched(model.engine.backend)
    return watched


def request(text: str, *, max_tokens: int = 20, **options: Any) -> ModelRequest:
    return ModelRequest(
        messages=[UserMessage(text)], sampling=Sampling(max_tokens=max_tokens), **options
    )


def requests(count: int, seed: int = 0) -> list[ModelRequest]:
    """Texts and calls, short and long prompts."""
    rng = random.Random(seed)
    return [
        request(
            f"{i} {'is the number of this question ' * rng.choice([0, 1, 6])}",
            max_tokens=rng.choice([4, 20, 40]) if i % 3 != 1 else 50,
            tools=[TOOL] if i % 3 else [],
            tool_choice="get_weather" if i % 3 == 1 else "auto",
        )
        for i in range(count)
    ]


def together(model: TransformersModel, asked: Sequence[ModelRequest]) -> list[ModelResponse]:
    async def go() -> list[ModelResponse]:
        return await asyncio.gather(*(generate(model, one) for one in asked))

    return asyncio.run(go())


def alone(model: TransformersModel, asked: Sequence[ModelRequest]) -> list[ModelResponse]:
    answers = []
    for one in asked:
        model.engine.caches.clear()
        answers.append(asyncio.run(generate(model, one)))
    model.engine.caches.clear()
    return answers


def generations(responses: Sequence[ModelResponse]) -> list[Any]:
    return [(r.generation, r.finish_reason) for r in responses]


def test_turns_at_once_are_each_as_if_alone(model: TransformersModel) -> None:
    asked = requests(10)
    expected = alone(model, asked)
    watched = watch(model)
    assert generations(together(model, asked)) == generations(expected)
    assert max(map(len, watched.passes)) > 5  # They were written side by side.


def test_64_tasks_and_16_threads_ask_one_model(dense: TransformersModel) -> None:
    asked = requests(12, seed=1)
    expected = dict(enumerate(generations(alone(dense, asked))))
    wrong: list[int] = []

    def thread(number: int) -> None:
        which = [number % 12, (number + 5) % 12]
        answers = generations(together(dense, [asked[i] for i in which]))
        wrong.extend(i for i, a in zip(which, answers, strict=True) if a != expected[i])

    threads = [threading.Thread(target=thread, args=(i,)) for i in range(16)]
    for one in threads:
        one.start()
    answers = generations(together(dense, [asked[i % 12] for i in range(64)]))
    for one in threads:
        one.join()
    assert wrong == []
    assert answers == [expected[i % 12] for i in range(64)]


def test_no_more_turns_than_max_batch_are_at_work(granite: TransformersModel) -> None:
    for model in fresh(granite, max_batch=3):
        watched = watch(model)
        together(model, requests(8))
        assert max(map(len, watched.passes)) == 3
    with pytest.raises(UserError, match="max_batch is 0"):
        TransformersModel(max_batch=0)


def test_a_long_prompt_does_not_stall_the_tokens_of_others(dense: TransformersModel) -> None:
    dense.engine.prefill_chunk = 64
    watched = watch(dense)
    long = request("a long text, word after word " * 200, max_tokens=2)

    async def go() -> None:
        writing = asyncio.create_task(generate(dense, request("go", max_tokens=1500)))
        await watched.reaches(5)
        await generate(dense, long)
        writing.cancel()

    asyncio.run(go())
    mixed = [sizes for sizes in watched.passes if len(sizes) == 2 and sizes[1] > 8]
    assert len(mixed) > 10
    assert max(map(sum, mixed)) <= 64


def test_a_shared_beginning_is_read_once(model: TransformersModel) -> None:
    beginning = "These are the rules that every question here is asked under. " * 20
    asked = [request(f"{beginning}Question {i}?", max_tokens=3) for i in range(6)]
    expected = alone(model, asked)
    watched = watch(model)
    answers = together(model, asked)
    assert generations(answers) == generations(expected)
    length = answers[0].usage.prompt_tokens
    assert watched.tokens < 1.5 * length + 200
    assert sum(a.usage.reused_tokens > 0.9 * length for a in answers) == 5


def test_those_who_wait_for_a_prefix_go_on_when_its_reader_is_gone(
    model: TransformersModel,
) -> None:
    beginning = "These are the rules that every question here is asked under. " * 20
    asked = [request(f"{beginning}Question {i}?", max_tokens=3) for i in range(4)]
    expected = alone(model, asked)
    model.engine.prefill_chunk = 16
    watched = watch(model)

    async def go() -> list[ModelResponse]:
        first, *others = [asyncio.create_task(generate(model, one)) for one in asked]
        await watched.reaches(3)
        first.cancel()
        return await asyncio.gather(*others)

    answers = asyncio.run(go())
    assert generations(answers) == generations(expected[1:])
    assert watched.tokens < 2 * answers[0].usage.prompt_tokens


def test_a_turn_that_fails_harms_no_other(model: TransformersModel) -> None:
    asked = requests(6, seed=2)
    expected = alone(model, asked)
    watched = watch(model)
    codec = model.engine.codec
    poison = codec.encode_text("ÿ")[0]
    assert all(poison not in e.generation.token_ids for e in expected if e.generation)
    watched.poison = poison

    async def go() -> list[Any]:
        turns = [*(generate(model, one) for one in asked), generate(model, request("say ÿ"))]
        return await asyncio.gather(*turns, return_exceptions=True)

    *answers, failed = asyncio.run(go())
    assert isinstance(failed, RuntimeError)
    assert generations(answers) == generations(expected)
    # The model goes on as before.
    assert generations(together(model, asked)) == generations(expected)


def test_cancelling_one_turn_frees_its_place_at_once(granite: TransformersModel) -> None:
    async def go(model: TransformersModel) -> None:
        long = [
            asyncio.create_task(generate(model, request(str(i), max_tokens=2000))) for i in range(2)
        ]
        waiting = asyncio.create_task(generate(model, request("me too", max_tokens=3)))
        await watched.reaches(8)
        assert not waiting.done()
        long[0].cancel()
        await waiting
        assert not long[1].done()
        long[1].cancel()
        await asyncio.gather(*long, return_exceptions=True)

    for model in fresh(granite, max_batch=2):
        watched = watch(model)
        asyncio.run(go(model))


def test_turns_wait_for_memory_in_the_order_in_which_they_came(granite: TransformersModel) -> None:
    one = granite.engine.kv_bytes_per_token
    for model in fresh(granite, batch_bytes=one * 700):
        watched = watch(model)
        answers = together(model, [request(str(i), max_tokens=300) for i in range(4)])
        assert len(answers) == 4
        assert max(map(len, watched.passes)) <= 2
        with pytest.raises(ContextLengthError, match="raise batch_bytes"):
            together(model, [request("word " * 800)])


def test_many_runs_do_not_grow_the_store(model: TransformersModel) -> None:
    sizes = []
    for _ in range(4):
        together(model, requests(5))
        sizes.append((len(model.engine.caches), model.engine.caches.nbytes))
    assert sizes[1:] == [sizes[1]] * 3


def test_closing_waits_for_the_turns_at_work(granite: TransformersModel) -> None:
    async def go(model: TransformersModel) -> None:
        turns = [asyncio.create_task(generate(model, one)) for one in requests(4)]
        await asyncio.sleep(0)
        await model.aclose()
        assert all(isinstance(answer, ModelResponse) for answer in await asyncio.gather(*turns))
        with pytest.raises(ModelError, match="is closed"):
            await generate(model, request("too late"))

    for model in fresh(granite):
        asyncio.run(go(model))


def test_an_event_loop_may_end_under_its_turns(dense: TransformersModel) -> None:
    watched = watch(dense)
    watched.gate = threading.Event()

    async def leave() -> None:
        stream = dense.stream(request("go on", max_tokens=500))
        task = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        asyncio.get_running_loop().call_later(0.05, watched.gate.set)  # type: ignore[union-attr]
        assert not task.done()

    asyncio.run(leave())  # cancels the task, and waits for the model
    before = len(watched.passes)
    assert isinstance(together(dense, [request("hello", max_tokens=3)])[0], ModelResponse)
    assert len(watched.passes) - before <= 4


def test_events_of_a_turn_are_its_own(dense: TransformersModel) -> None:
    async def read(one: ModelRequest) -> tuple[str, str]:
        text = ""
        async for event in dense.stream(one):
            if isinstance(event, TextDelta):
                text += event.text
            if isinstance(event, ModelResponse):
                return text, event.text
        raise AssertionError

    async def go() -> list[tuple[str, str]]:
        return await asyncio.gather(*map(read, [request(str(i)) for i in range(8)]))

    for streamed, whole in asyncio.run(go()):
        assert streamed == whole
