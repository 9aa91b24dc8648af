"""Routing by prompt prefix, and turns that outlive their engines; without Ray."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import (
    Agent,
    MissingExtraError,
    ModelConnectionError,
    ModelError,
    ModelRequest,
    Sampling,
    ScriptedModel,
    SystemMessage,
    ToolCall,
    ToolDefinition,
    UserError,
    UserMessage,
)
from agentkit.cluster import ClusterOptions, PrefixRouting, RoutedModel, RouteKey, route_key
from agentkit.cluster.routed_model import EngineDied
from agentkit.models.base import CallDelta, CallParsed, ModelResponse, TextDelta, generate
from agentkit.parsing import ParsedCall

NAMES = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)


def key(prefix="p", conversation="c"):
    return RouteKey(prefix, conversation)


def ask(text, system="You help.", tools=()):
    return ModelRequest(messages=[SystemMessage(system), UserMessage(text)], tools=tools)


def test_the_key_is_of_what_prompts_share():
    tool = ToolDefinition(name="add")
    one, two = route_key(ask("a")), route_key(ask("b"))
    assert one.prefix == two.prefix
    assert one.conversation != two.conversation
    assert route_key(ask("a", system="Other.")).prefix != one.prefix
    assert route_key(ask("a", tools=[tool])).prefix != one.prefix
    longer = ask("a")
    longer = ModelRequest(messages=[*longer.messages, UserMessage("and more")])
    assert route_key(longer) == one


@given(NAMES, st.text(max_size=8))
def test_every_router_comes_to_the_same_order(names, prefix):
    loads = dict.fromkeys(names, 0)
    backwards = dict.fromkeys(reversed(names), 0)
    ranked = PrefixRouting().rank(key(prefix), loads)
    assert sorted(ranked) == sorted(names)
    assert PrefixRouting().rank(key(prefix), backwards) == ranked


@given(NAMES, st.text(max_size=8))
def test_a_replica_that_goes_moves_only_its_own(names, prefix):
    ranked = PrefixRouting().rank(key(prefix), dict.fromkeys(names, 0))
    for gone in names:
        rest = PrefixRouting().rank(key(prefix), {n: 0 for n in names if n != gone})
        assert rest == [n for n in ranked if n != gone]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.floats(1, 3))
def test_nobody_gets_more_than_the_bound(loads, slack):
    routing = PrefixRouting(slack=slack)
    known = {f"r{i}": load for i, load in enumerate(loads)}
    first = routing.rank(key(), known)[0]
    assert known[first] < routing.bound(known)


def test_prefixes_spread_and_popular_ones_spill_over():
    names = dict.fromkeys("abcd", 0)
    homes = [PrefixRouting().rank(key(f"p{i}"), names)[0] for i in range(400)]
    assert all(60 < homes.count(name) < 140 for name in names)
    routing, loads = PrefixRouting(), dict.fromkeys("abcd", 0)
    for i in range(40):
        loads[routing.rank(key("popular", f"c{i}"), loads)[0]] += 1
    assert max(loads.values()) <= 13  # 1.25 of the mean, one over
    assert min(loads.values()) < max(loads.values())


def test_a_conversation_stays_until_its_replica_is_gone_or_busy():
    routing = PrefixRouting()
    loads = dict.fromkeys("abc", 0)
    home = routing.rank(key(), loads)[0]
    other = next(name for name in loads if name != home)
    routing.remember(key(), other)
    assert routing.rank(key(), loads)[0] == other
    assert routing.rank(key(conversation="new"), loads)[0] == home
    assert routing.rank(key(), {**loads, other: 9})[0] == home
    routing.forget(other)
    assert routing.rank(key(), loads)[0] == home


def test_what_is_remembered_is_bounded():
    routing = PrefixRouting(remembered=2)
    loads = dict.fromkeys("ab", 0)
    home = routing.rank(key(), loads)[0]
    other = "a" if home == "b" else "b"
    for i in range(3):
        routing.remember(key(conversation=f"c{i}"), other)
    assert [routing.rank(key(conversation=f"c{i}"), loads)[0] for i in range(3)] == [
        home,
        other,
        other,
    ]


class Engines:
    """Engines of which the first ones die after some events."""

    def __init__(self, events, *, deaths=(), later=None):
        self.events, self.later = events, later or events
        self.deaths = list(deaths)
        self.requests = []
        self.closed = 0

    async def __call__(self, request, route):
        self.requests.append(request)
        events = self.events if len(self.requests) == 1 else self.later
        try:
            limit = self.deaths.pop(0) if self.deaths else None
            for event in events[:limit]:
                yield event
            if limit is not None:
                raise EngineDied("gone")
        finally:
            self.closed += 1


CALL = ParsedCall(raw='{"name": "f", "arguments": {}}', name="f", arguments={})
TURN = [
    TextDelta("Let me "),
    TextDelta("see."),
    CallDelta('{"name": "f", '),
    CallDelta('"arguments": {}}'),
    CallParsed(CALL),
    ModelResponse(text="Let me see.", calls=(CALL,), finish_reason="tool_calls"),
]
# The same turn, as another engine gives it out.
AGAIN_CALL = ParsedCall(raw=CALL.raw, name="f", arguments={})
AGAIN = [
    TextDelta("Let"),
    TextDelta(" me see."),
    CallDelta('{"name": "f", "arguments": {}}'),
    CallParsed(AGAIN_CALL),
    ModelResponse(text="Let me see.", calls=(AGAIN_CALL,), finish_reason="tool_calls"),
]


@pytest.mark.parametrize("deaths", [[], [0], [1], [2], [3], [4], [5], [0, 2], [3, 1]])
async def test_a_turn_outlives_its_engines(deaths):
    engines = Engines(TURN, deaths=deaths, later=AGAIN)
    events = [e async for e in RoutedModel(engines, name="m").stream(ask("x"))]
    text = "".join(e.text for e in events if isinstance(e, TextDelta))
    call = "".join(e.text for e in events if isinstance(e, CallDelta))
    assert (text, call) == ("Let me see.", CALL.raw)
    (parsed,) = [e for e in events if isinstance(e, CallParsed)]
    assert events[-1].calls[0].id == parsed.call.id
    assert engines.closed == len(engines.requests) == len(deaths) + 1


async def test_a_turn_that_comes_out_otherwise_fails():
    other = [TextDelta("Let us see."), ModelResponse(text="Let us see.")]
    for later in (other, [TextDelta("Let"), ModelResponse(text="Let")], TURN[2:]):
        model = RoutedModel(Engines(TURN, deaths=[2], later=later), name="m")
        with pytest.raises(ModelError, match="wrote it differently"):
            await generate(model, ask("x"))


async def test_too_many_deaths_end_the_turn():
    engines = Engines(TURN, deaths=[0, 0, 0, 0])
    with pytest.raises(ModelConnectionError, match="3 engines died"):
        await generate(RoutedModel(engines, name="m", attempts=3), ask("x"))


async def test_other_errors_are_not_tried_again():
    async def broken(request, route):
        yield TextDelta("a")
        raise ModelError("no")

    with pytest.raises(ModelError, match="no"):
        await generate(RoutedModel(broken, name="m"), ask("x"))


async def test_sampling_gets_a_seed_so_that_it_can_be_repeated():
    engines = Engines(TURN, deaths=[1])
    hot = ModelRequest(messages=ask("x").messages, sampling=Sampling(temperature=1.0))
    await generate(RoutedModel(engines, name="m"), hot)
    seeds = [request.sampling.seed for request in engines.requests]
    assert seeds[0] is not None
    assert seeds[0] == seeds[1]
    greedy = Engines(TURN)
    await generate(RoutedModel(greedy, name="m"), ask("x"))
    assert greedy.requests[0].sampling.seed is None


async def test_closing_a_turn_closes_the_engines_stream():
    engines = Engines(TURN)
    events = RoutedModel(engines, name="m").stream(ask("x"))
    await anext(events)
    await events.aclose()
    assert engines.closed == 1


async def test_an_agent_on_engines_that_die():
    script = ScriptedModel([ToolCall(name="f", arguments={})] * 2 + ["Done."])
    died = []

    async def dispatch(request, route):
        async for event in script.stream(request):
            yield event
            if isinstance(event, CallParsed) and not died:
                died.append(event)
                raise EngineDied("gone")

    ran = []

    def f() -> str:
        """Do it."""
        ran.append(1)
        return "ok"

    result = await Agent(RoutedModel(dispatch, name="m"), [f]).run("Go.")
    assert (result.output, ran) == ("Done.", [1])
    (call,) = result.steps[0].calls
    assert call.call.id == died[0].call.id


@pytest.mark.parametrize(
    "options",
    [
        {"min_replicas": 0},
        {"min_replicas": 3, "max_replicas": 2},
        {"attempts": 0},
        {"routing": "random"},
    ],
)
def test_options_that_cannot_be(options):
    with pytest.raises(UserError, match="ClusterOptions"):
        ClusterOptions(**options)


def test_without_ray_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    from agentkit.cluster import cluster_app, embed_corpus, run_batch

    for function in (cluster_app, run_batch, embed_corpus):
        with pytest.raises(MissingExtraError, match=r"agentkit-granite\[ray\]"):
            function([]) if function is not cluster_app else function("embedded")
